"""The plan of a run: the list of its photos, made once, cut into shards and chunks.

A shard is what is committed, a chunk is what goes through the stages together. Both are fixed slices of
the list, so their content and their names are the same whoever works on them and however often.

    plan/photos-00000-3f9c2d1ab04e.parquet     photos of the shards from 0 on
    plan/plan.json                             sizes, and which of these files count; written last

Photos that are found later are added as an extension: more shards behind those that are there, in files of
their own. Nothing of what was planned before changes. Only plan.json makes files part of the plan, so a
planner that is killed leaves the plan as it was, and of two that start at once the first to end wins.
"""

from __future__ import annotations

import functools
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.images.sources import ListedFile
from pipeline.run.config import PlanConfig
from pipeline.storage.store import Store

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

NAME = "plan/plan.json"
SHARDS_PER_FILE = 100
SMALL_INPUT_SHARDS = 16
MIN_SHARD = 32
MIN_CHUNK = 8
CHUNKS_PER_INPUT = 64
"""An input smaller than `SMALL_INPUT_SHARDS` full shards is cut into about that many shards and
`CHUNKS_PER_INPUT` chunks, but no finer than the two minima."""


@dataclass(frozen=True)
class Extension:
    """Photos that were planned at one time, and how they are cut.

    Attributes:
        images: Number of photos.
        shard_size: Photos per shard; the last has what is left.
        chunk_size: Photos per chunk; the last of a shard has what is left.
        token: Part of the names of its files, which tells them from those of planners that were killed.
    """

    images: int
    shard_size: int
    chunk_size: int
    token: str

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.images // self.shard_size)


@dataclass(frozen=True)
class Plan:
    """What a run consists of.

    Attributes:
        images: Number of photos, extensions included.
        bytes: Sum of their sizes, as far as the listing told.
        shard_size: Photos per shard; the last has what is left. Extensions have sizes of their own.
        chunk_size: Photos per chunk; the last of a shard has what is left. As above.
        digest: SHA-256 over ids and URIs in order.
        token: See `Extension`.
        run: Digest of what else decides the records, see `pipeline.run.state.identity_digest`.
        extensions: What was added later, in order.
    """

    images: int
    bytes: int
    shard_size: int
    chunk_size: int
    digest: str
    token: str = ""
    run: str = ""
    extensions: tuple[Extension, ...] = ()

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self._starts[-1]

    def shard_images(self, shard: int) -> int:
        """Returns the number of photos of a shard."""
        piece, index = self.locate(shard)
        return min(piece.shard_size, piece.images - index * piece.shard_size)

    def shard_chunks(self, shard: int) -> int:
        """Returns the number of chunks of a shard."""
        return -(-self.shard_images(shard) // self.locate(shard)[0].chunk_size)

    def locate(self, shard: int) -> tuple[Extension, int]:
        """Returns what was planned together with a shard, and the shard's place in it."""
        if not 0 <= shard < self.shards:
            raise IndexError(f"The plan has {self.shards} shards, and there is no shard {shard}.")
        number = int(np.searchsorted(self._starts, shard, "right")) - 1
        return self._pieces[number], shard - self._starts[number]

    @functools.cached_property
    def _pieces(self) -> list[Extension]:
        first = self.images - sum(extension.images for extension in self.extensions)
        return [Extension(first, self.shard_size, self.chunk_size, self.token), *self.extensions]

    @functools.cached_property
    def _starts(self) -> list[int]:
        """First shard of every piece, and the number of shards."""
        return [0, *np.cumsum([piece.shards for piece in self._pieces]).tolist()]


def write_plan(store: Store, listed: Iterable[ListedFile], config: PlanConfig, run: str = "") -> Plan:
    """Writes the plan of a run, in flat memory however long the list is.

    Args:
        store: The run folder.
        listed: The photos, in a stable order.
        config: How to cut.
        run: See `Plan`.

    Returns:
        The plan that counts from now on: when another process has written one meanwhile, that one.
    """
    written, size, digest = _write_photos(store, listed, config, 0, hashlib.sha256())
    plan = Plan(written.images, size, written.shard_size, written.chunk_size, digest, written.token, run)
    if store.write_new(NAME, _dump(plan)):
        return plan
    for name in file_names(plan):
        store.remove(name)
    other = read_plan(store)
    if other is None:
        raise OutputError(f"{store.url} is being emptied by another process: give another output folder.")
    return other


def extend_plan(
    store: Store, plan: Plan, listed: Iterable[ListedFile], config: PlanConfig, run: str = ""
) -> Plan:
    """Adds photos to a plan as new shards.

    Args:
        store: The run folder.
        plan: The plan, which stays as it is.
        listed: Photos that are not in it, in a stable order; see `NewPhotos`.
        config: How to cut them.
        run: See `Plan`.

    Returns:
        The extended plan; the same photos when there is nothing to add.

    Raises:
        OutputError: Another process has extended the plan meanwhile.
    """
    rows = iter(listed)
    head = list(islice(rows, 1))
    if not head:
        same = replace(plan, run=run)
        if same != plan:
            store.write(NAME, _dump(same))
        return same
    digest = hashlib.sha256(plan.digest.encode())
    added, size, hexadecimal = _write_photos(store, chain(head, rows), config, plan.shards, digest)
    extended = replace(
        plan,
        images=plan.images + added.images,
        bytes=plan.bytes + size,
        digest=hexadecimal,
        run=run,
        extensions=(*plan.extensions, added),
    )
    missing = set(file_names(extended)) - {f"plan/{name}" for name in store.names("plan")}
    if missing or read_plan(store) != plan:
        raise OutputError(f"Another process is working on the plan in {store.url}: repeat the command.")
    store.write(NAME, _dump(extended))
    return extended


def read_plan(store: Store) -> Plan | None:
    """Returns the plan of a run folder, None when there is none.

    Raises:
        OutputError: It cannot be read.
    """
    try:
        values: dict[str, Any] = json.loads(store.read(NAME))
        extensions = tuple(Extension(**extension) for extension in values.pop("extensions", ()))
        return Plan(**values, extensions=extensions)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise OutputError(f"{store.place(NAME)} is damaged ({error}): start anew elsewhere.") from error


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
    size = plan.locate(shard)[0].chunk_size
    return shard_photos(store, plan, shard)[chunk * size : (chunk + 1) * size]


def shard_photos(store: Store, plan: Plan, shard: int) -> list[ListedFile]:
    """Returns the photos of one shard, in the order of the plan."""
    piece, index = plan.locate(shard)
    group = index % SHARDS_PER_FILE
    return _read_group(store, _file_name(piece.token, shard - group), group)


def all_photos(store: Store, plan: Plan) -> Iterator[ListedFile]:
    """Yields all photos of a plan."""
    for shard in range(plan.shards):
        yield from shard_photos(store, plan, shard)


def plan_ids(store: Store, plan: Plan) -> np.ndarray:
    """Returns the ids of all photos of a plan, sorted: (images,) int64."""
    ids = [np.empty(0, np.int64)]
    for name in file_names(plan):
        with _open_photos(store, name) as file:
            ids.append(pq.read_table(file, columns=["id"])["id"].to_numpy())
    return np.sort(np.concatenate(ids))


def leftovers(store: Store, plan: Plan) -> list[str]:
    """Returns the names of files that planners left which were killed."""
    known = {NAME, *file_names(plan)}
    return [name for name in (f"plan/{name}" for name in store.names("plan")) if name not in known]


def file_names(plan: Plan) -> list[str]:
    """Returns the names of the files that hold a plan's photos, in order."""
    return [
        _file_name(piece.token, start + index)
        for piece, start in zip(plan._pieces, plan._starts, strict=False)
        for index in range(0, piece.shards, SHARDS_PER_FILE)
    ]


class NewPhotos:
    """Iterates over the files of a listing that are not in a plan. Holds 9 bytes per photo of the plan.

    Attributes:
        count: Photos that are new.
    """

    BATCH = 4096

    def __init__(self, store: Store, plan: Plan, listed: Iterable[ListedFile]):
        self._listed = listed
        self._ids = plan_ids(store, plan)
        self._seen = np.zeros(len(self._ids), bool)
        self.count = 0

    @property
    def vanished(self) -> int:
        """Photos of the plan that the listing, when it has ended, did not have."""
        return len(self._seen) - int(np.count_nonzero(self._seen))

    def __iter__(self) -> Iterator[ListedFile]:
        """Yields the new files, in the order of the listing."""
        for batch in _batched(self._listed, self.BATCH):
            ids = np.fromiter((photo.id for photo in batch), np.int64, len(batch))
            places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
            known = self._ids[places] == ids
            self._seen[places[known]] = True
            self.count += len(batch) - int(np.count_nonzero(known))
            yield from (photo for photo, is_known in zip(batch, known, strict=True) if not is_known)


def _write_photos(
    store: Store, listed: Iterable[ListedFile], config: PlanConfig, first_shard: int, digest: Any
) -> tuple[Extension, int, str]:
    """Writes files of photos; returns how they are cut, their bytes, and their digest."""
    rows = iter(listed)
    head = list(islice(rows, SMALL_INPUT_SHARDS * config.shard_size))
    shard_size, chunk_size = cut(len(head), config)
    token = uuid.uuid4().hex[:12]
    images = size = 0
    shard = first_shard
    shards = _batched(chain(head, rows), shard_size)
    while first := next(shards, None):
        with (
            store.create(_file_name(token, shard)) as file,
            pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
        ):
            for shard_rows in chain([first], islice(shards, SHARDS_PER_FILE - 1)):
                for row in shard_rows:
                    digest.update(f"{row.id} {row.uri}\n".encode())
                    size += row.size or 0
                images += len(shard_rows)
                writer.write_table(_to_table(shard_rows, shard))
                shard += 1
    return Extension(images, shard_size, chunk_size, token), size, digest.hexdigest()


def _dump(plan: Plan) -> bytes:
    return json.dumps(asdict(plan), indent=1).encode()


@functools.lru_cache(maxsize=4)
def _read_group(store: Store, name: str, group: int) -> list[ListedFile]:
    # Chunks of one shard are mostly worked on one after the other.
    with _open_photos(store, name) as file:
        table = pq.ParquetFile(file).read_row_group(group, columns=COLUMNS)
    return [ListedFile(**row) for row in table.to_pylist()]


@contextmanager
def _open_photos(store: Store, name: str) -> Iterator[BinaryIO]:
    try:
        with store.open(name) as file:
            yield file
    except (FileNotFoundError, pa.ArrowException) as error:
        raise OutputError(
            f"The plan in {store.url} is damaged ({name}: {error}): start anew with --on-existing overwrite, "
            "or elsewhere."
        ) from error


def _to_table(rows: list[ListedFile], shard: int) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    return pa.table({**columns, "shard": [shard] * len(rows)}, schema=SCHEMA)


def _file_name(token: str, first_shard: int) -> str:
    return f"plan/photos-{first_shard:05d}-{token}.parquet"


def _batched(rows: Iterable[ListedFile], size: int) -> Iterator[list[ListedFile]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch
