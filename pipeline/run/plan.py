"""The plan of a run: the list of its items and their photos, made once, cut into shards and chunks.

A shard is what is committed, a chunk is what goes through the stages together. Both are fixed slices of
the list of items, so their content and their names are the same whoever works on them and however often.

    plan/photos-00000-3f9c2d1ab04e.parquet     photos of the shards from 0 on
    plan/plan.json                             sizes, and which of these files count; written last

Items that are found later are added as an extension: more shards behind those that are there, in files of
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
from itertools import chain, groupby, islice
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.images.items import ListedFile, ListedItem
from pipeline.run.config import PlanConfig
from pipeline.storage.store import Store

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), False),
        pa.field("uri", pa.string(), False),
        pa.field("size", pa.int64()),  # bytes, where the listing tells
        pa.field("etag", pa.string()),  # changes when the content does, where the listing tells
        pa.field("item", pa.int64(), False),  # what the photo belongs to: id of the record
        pa.field("item_uri", pa.string()),  # null: the photo itself
        pa.field("shard", pa.int32(), False),
    ]
)
"""Schema of plan/*.parquet: one row per photo, one row group per shard."""

COLUMNS = ["id", "uri", "size", "etag"]
"""Those that tell a file."""

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
    """Items that were planned at one time, and how they are cut.

    Attributes:
        items: Number of items.
        shard_size: Items per shard; the last has what is left.
        chunk_size: Items per chunk; the last of a shard has what is left.
        token: Part of the names of its files, which tells them from those of planners that were killed.
    """

    items: int
    shard_size: int
    chunk_size: int
    token: str

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.items // self.shard_size)


@dataclass(frozen=True)
class Plan:
    """What a run consists of.

    Attributes:
        items: Number of items, extensions included.
        images: Number of their photos.
        bytes: Sum of their sizes, as far as the listing told.
        shard_size: Items per shard; the last has what is left. Extensions have sizes of their own.
        chunk_size: Items per chunk; the last of a shard has what is left. As above.
        digest: SHA-256 over ids and URIs in order.
        token: See `Extension`.
        run: Digest of what else decides the records, see `pipeline.run.state.identity_digest`.
        extensions: What was added later, in order.
    """

    items: int
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

    def shard_items(self, shard: int) -> int:
        """Returns the number of items of a shard."""
        piece, index = self.locate(shard)
        return min(piece.shard_size, piece.items - index * piece.shard_size)

    def shard_chunks(self, shard: int) -> int:
        """Returns the number of chunks of a shard."""
        return -(-self.shard_items(shard) // self.locate(shard)[0].chunk_size)

    def locate(self, shard: int) -> tuple[Extension, int]:
        """Returns what was planned together with a shard, and the shard's place in it."""
        if not 0 <= shard < self.shards:
            raise IndexError(f"The plan has {self.shards} shards, and there is no shard {shard}.")
        number = int(np.searchsorted(self._starts, shard, "right")) - 1
        return self._pieces[number], shard - self._starts[number]

    @functools.cached_property
    def _pieces(self) -> list[Extension]:
        first = self.items - sum(extension.items for extension in self.extensions)
        return [Extension(first, self.shard_size, self.chunk_size, self.token), *self.extensions]

    @functools.cached_property
    def _starts(self) -> list[int]:
        """First shard of every piece, and the number of shards."""
        return [0, *np.cumsum([piece.shards for piece in self._pieces]).tolist()]


def write_plan(store: Store, listed: Iterable[ListedItem], config: PlanConfig, run: str = "") -> Plan:
    """Writes the plan of a run, in flat memory however long the list is.

    Returns:
        The plan that counts from now on: when another process has written one meanwhile, that one.
    """
    first, images, size, digest = _write_items(store, listed, config, 0, hashlib.sha256())
    plan = Plan(first.items, images, size, first.shard_size, first.chunk_size, digest, first.token, run)
    if store.write_new(NAME, _dump(plan)):
        return plan
    for name in file_names(plan):
        store.remove(name)
    other = read_plan(store)
    if other is None:
        raise OutputError(f"{store.url} is being emptied by another process: give another output folder.")
    return other


def extend_plan(
    store: Store, plan: Plan, listed: Iterable[ListedItem], config: PlanConfig, run: str = ""
) -> Plan:
    """Adds items to a plan as new shards.

    Returns:
        The extended plan; the same items when there is nothing to add.

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
    added, images, size, hexadecimal = _write_items(store, chain(head, rows), config, plan.shards, digest)
    extended = replace(
        plan,
        items=plan.items + added.items,
        images=plan.images + images,
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


def cut(items: int, config: PlanConfig) -> tuple[int, int]:
    """Returns (shard size, chunk size) for an input.

    Any number from `SMALL_INPUT_SHARDS` full shards on gives the same.
    """
    shard = min(config.shard_size, max(MIN_SHARD, -(-items // SMALL_INPUT_SHARDS)))
    chunk = min(config.chunk_size, max(MIN_CHUNK, -(-items // CHUNKS_PER_INPUT)), shard)
    return shard, chunk


def chunk_items(store: Store, plan: Plan, shard: int, chunk: int) -> list[ListedItem]:
    """Returns the items of one chunk, in the order of the plan."""
    size = plan.locate(shard)[0].chunk_size
    return shard_items(store, plan, shard)[chunk * size : (chunk + 1) * size]


def shard_items(store: Store, plan: Plan, shard: int) -> list[ListedItem]:
    """Returns the items of one shard, in the order of the plan."""
    return _read_group(store, *_row_group(plan, shard))


def count_images(store: Store, plan: Plan, shards: Iterable[int]) -> int:
    """Returns how many photos the items of some shards have."""
    if plan.images == plan.items:
        return sum(map(plan.shard_items, shards))
    groups: dict[str, list[int]] = {}
    for name, group in (_row_group(plan, shard) for shard in shards):
        groups.setdefault(name, []).append(group)
    images = 0
    for name, wanted in groups.items():
        with open_photos(store, name) as file:
            metadata = pq.ParquetFile(file).metadata
        images += sum(metadata.row_group(group).num_rows for group in wanted)
    return images


def _row_group(plan: Plan, shard: int) -> tuple[str, int]:
    """Returns in which file a shard is planned, and in which of its row groups."""
    piece, index = plan.locate(shard)
    group = index % SHARDS_PER_FILE
    return _file_name(piece.token, shard - group), group


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


def _write_items(
    store: Store, listed: Iterable[ListedItem], config: PlanConfig, first_shard: int, digest: Any
) -> tuple[Extension, int, int, str]:
    """Writes files of items; returns how they are cut, their photos, the bytes of these, and their digest."""
    rows = iter(listed)
    head = list(islice(rows, SMALL_INPUT_SHARDS * config.shard_size))
    shard_size, chunk_size = cut(len(head), config)
    token = uuid.uuid4().hex[:12]
    items = images = size = 0
    shard = first_shard
    shards = batched(chain(head, rows), shard_size)
    while first := next(shards, None):
        with (
            store.create(_file_name(token, shard)) as file,
            pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
        ):
            for shard_rows in chain([first], islice(shards, SHARDS_PER_FILE - 1)):
                photos = [photo for item in shard_rows for photo in item.photos]
                for photo in photos:
                    digest.update(f"{photo.id} {photo.uri}\n".encode())
                    size += photo.size or 0
                items += len(shard_rows)
                images += len(photos)
                writer.write_table(_to_table(shard_rows, shard), row_group_size=len(photos))
                shard += 1
    return Extension(items, shard_size, chunk_size, token), images, size, digest.hexdigest()


def _dump(plan: Plan) -> bytes:
    return json.dumps(asdict(plan), indent=1).encode()


@functools.lru_cache(maxsize=4)
def _read_group(store: Store, name: str, group: int) -> list[ListedItem]:
    # Chunks of one shard are mostly worked on one after the other.
    with open_photos(store, name) as file:
        table = pq.ParquetFile(file).read_row_group(group, columns=[*COLUMNS, "item", "item_uri"])
    items = []
    for number, rows in groupby(table.to_pylist(), key=lambda row: row["item"]):
        of_item = list(rows)
        photos = tuple(ListedFile(**{name: row[name] for name in COLUMNS}) for row in of_item)
        items.append(ListedItem(number, of_item[0]["item_uri"] or photos[0].uri, photos))
    return items


@contextmanager
def open_photos(store: Store, name: str) -> Iterator[BinaryIO]:
    """Opens one of the files of `file_names`.

    Raises:
        OutputError: It is gone or damaged.
    """
    try:
        with store.open(name) as file:
            yield file
    except (FileNotFoundError, pa.ArrowException) as error:
        raise OutputError(
            f"The plan in {store.url} is damaged ({name}: {error}): start anew with --on-existing overwrite, "
            "or elsewhere."
        ) from error


def _to_table(items: list[ListedItem], shard: int) -> pa.Table:
    rows = [(item, photo) for item in items for photo in item.photos]
    columns: dict[str, list[Any]] = {name: [getattr(photo, name) for _, photo in rows] for name in COLUMNS}
    columns["item"] = [item.id for item, _ in rows]
    columns["item_uri"] = [None if item.id == photo.id else item.uri for item, photo in rows]
    return pa.table({**columns, "shard": [shard] * len(rows)}, schema=SCHEMA)


def _file_name(token: str, first_shard: int) -> str:
    return f"plan/photos-{first_shard:05d}-{token}.parquet"


def batched(rows: Iterable[ListedItem], size: int) -> Iterator[list[ListedItem]]:
    """Yields items in lists of so many; the last has what is left."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch
