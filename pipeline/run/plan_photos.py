"""The photos of a plan, in Parquet files: written as they are listed, read shard by shard."""

import functools
import hashlib
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, groupby, islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.images.items import ListedFile, ListedItem
from pipeline.run.config import PlanConfig
from pipeline.run.plan import (
    NAME,
    SHARDS_PER_FILE,
    SMALL_INPUT_SHARDS,
    Extension,
    Plan,
    cut,
    dump_plan,
    file_name,
    file_names,
    read_plan,
)
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


def write_plan(store: Store, listed: Iterable[ListedItem], config: PlanConfig, run: str = "") -> Plan:
    """Writes the plan of a run, in flat memory however long the list is.

    Returns:
        The plan that counts from now on: when another process has written one meanwhile, that one.
    """
    first, images, size, digest = _write_items(store, listed, config, 0, hashlib.sha256())
    plan = Plan(first.items, images, size, first.shard_size, first.chunk_size, digest, first.token, run)
    if store.write_new(NAME, dump_plan(plan)):
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
            store.write(NAME, dump_plan(same))
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
    store.write(NAME, dump_plan(extended))
    return extended


def chunk_items(store: Store, plan: Plan, shard: int, chunk: int) -> list[ListedItem]:
    """Returns the items of one chunk, in the order of the plan."""
    size = plan.locate(shard)[0].chunk_size
    return shard_items(store, plan, shard)[chunk * size : (chunk + 1) * size]


def shard_items(store: Store, plan: Plan, shard: int) -> list[ListedItem]:
    """Returns the items of one shard, in the order of the plan."""
    return _read_group(store, *_row_group(plan, shard))


def count_images(store: Store, plan: Plan, shards: Collection[int]) -> int:
    """Returns how many photos the items of some shards have."""
    if (known := plan.known_images(shards)) is not None:
        return known
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
    return file_name(piece.token, shard - group), group


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
            store.create(file_name(token, shard)) as file,
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


def batched(rows: Iterable[ListedItem], size: int) -> Iterator[list[ListedItem]]:
    """Yields items in lists of so many; the last has what is left."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch
