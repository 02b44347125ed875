"""The plan of a run: the list of its photos, made once, cut into shards and chunks.

A shard is what is committed, a chunk is what goes through the stages together. Both are fixed slices of
the list, so their content and their names are the same whoever works on them and however often.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.images.sources import ListedFile
from pipeline.run.config import PlanConfig
from pipeline.run.store import Store

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), False),
        pa.field("uri", pa.string(), False),
        pa.field("size", pa.int64()),  # bytes, where the listing tells
        pa.field("etag", pa.string()),  # changes when the content does, where the listing tells
        pa.field("shard", pa.int32(), False),
    ]
)
"""Schema of plan/*.parquet: one row per photo, one row group per shard."""

COLUMNS = [name for name in SCHEMA.names if name != "shard"]

SHARDS_PER_FILE = 100
SMALL_INPUT_SHARDS = 16
MIN_SHARD = 32
MIN_CHUNK = 8
CHUNKS_PER_INPUT = 64
"""An input smaller than `SMALL_INPUT_SHARDS` full shards is cut into about that many shards and
`CHUNKS_PER_INPUT` chunks, but no finer than the two minima."""


@dataclass(frozen=True)
class Plan:
    """What a run consists of.

    Attributes:
        images: Number of photos.
        bytes: Sum of their sizes, as far as the listing told.
        shard_size: Photos per shard; the last has what is left.
        chunk_size: Photos per chunk; the last of a shard has what is left.
        digest: SHA-256 over ids and URIs in order.
    """

    images: int
    bytes: int
    shard_size: int
    chunk_size: int
    digest: str

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.images // self.shard_size)

    def shard_images(self, shard: int) -> int:
        """Returns the number of photos of a shard."""
        return min(self.shard_size, self.images - shard * self.shard_size)

    def shard_chunks(self, shard: int) -> int:
        """Returns the number of chunks of a shard."""
        return -(-self.shard_images(shard) // self.chunk_size)


def write_plan(store: Store, listed: Iterable[ListedFile], config: PlanConfig) -> Plan:
    """Writes the plan of a run, in flat memory however long the list is.

    Args:
        store: The run folder.
        listed: The photos, in a stable order.
        config: How to cut.

    Returns:
        The plan; plan/plan.json, written last, holds the same.
    """
    rows = iter(listed)
    head = list(islice(rows, SMALL_INPUT_SHARDS * config.shard_size))
    shard_size, chunk_size = cut(len(head), config)
    digest = hashlib.sha256()
    images = size = 0
    for number, file_rows in enumerate(_batched(chain(head, rows), SHARDS_PER_FILE * shard_size)):
        with (
            store.create(_file_name(number)) as file,
            pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
        ):
            for index, shard_rows in enumerate(_batched(file_rows, shard_size)):
                shard = number * SHARDS_PER_FILE + index
                for row in shard_rows:
                    digest.update(f"{row.id} {row.uri}\n".encode())
                    size += row.size or 0
                images += len(shard_rows)
                writer.write_table(_to_table(shard_rows, shard))
    plan = Plan(images, size, shard_size, chunk_size, digest.hexdigest())
    store.write("plan/plan.json", json.dumps(asdict(plan), indent=1).encode())
    return plan


def read_plan(store: Store) -> Plan | None:
    """Returns the plan of a run folder, None when there is none.

    Raises:
        OutputError: It cannot be read.
    """
    try:
        return Plan(**json.loads(store.read("plan/plan.json")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise OutputError(
            f"{store.path('plan/plan.json')} is damaged ({error}): start anew elsewhere."
        ) from error


def cut(images: int, config: PlanConfig) -> tuple[int, int]:
    """Returns (shard size, chunk size) for an input.

    Args:
        images: Number of photos; any number from `SMALL_INPUT_SHARDS` full shards on gives the same.
        config: The sizes for large inputs.
    """
    shard = min(config.shard_size, max(MIN_SHARD, -(-images // SMALL_INPUT_SHARDS)))
    chunk = min(config.chunk_size, max(MIN_CHUNK, -(-images // CHUNKS_PER_INPUT)), shard)
    return shard, chunk


def chunk_photos(store: Store, plan: Plan, shard: int, chunk: int) -> list[ListedFile]:
    """Returns the photos of one chunk, in the order of the plan."""
    photos = _shard_photos(store, plan.digest, shard)
    return photos[chunk * plan.chunk_size : (chunk + 1) * plan.chunk_size]


def all_photos(store: Store, plan: Plan) -> Iterator[ListedFile]:
    """Yields all photos of a plan."""
    for shard in range(plan.shards):
        yield from _shard_photos(store, plan.digest, shard)


@functools.lru_cache(maxsize=4)
def _shard_photos(store: Store, digest: str, shard: int) -> list[ListedFile]:
    # Chunks of one shard are mostly worked on one after the other. The digest keeps plans apart.
    with store.open(_file_name(shard // SHARDS_PER_FILE)) as file:
        table = pq.ParquetFile(file).read_row_group(shard % SHARDS_PER_FILE, columns=COLUMNS)
    return [ListedFile(**row) for row in table.to_pylist()]


def _to_table(rows: list[ListedFile], shard: int) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    return pa.table({**columns, "shard": [shard] * len(rows)}, schema=SCHEMA)


def _file_name(number: int) -> str:
    return f"plan/photos-{number:05d}.parquet"


def _batched(rows: Iterable[ListedFile], size: int) -> Iterator[list[ListedFile]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch
