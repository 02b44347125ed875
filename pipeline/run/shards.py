"""Parts and shards: how finished work becomes part of a run's output.

A chunk's records are written as a part under _work/. When all parts of a shard are there they are joined
to records/shard-00042.parquet (and png/shard-00042...), and at the very last its marker is written, which
alone makes the shard exist; see `markers`.

When single photos of a committed shard are tried again, the parts hold those photos alone and take the
place of their old records. The marker is removed before anything else changes, so that whoever looks at
markers never sees old and new mixed.
"""

from __future__ import annotations

import functools
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.run import records
from pipeline.run.config import OutputConfig
from pipeline.run.counts import Counts, count_table
from pipeline.run.markers import (
    Marker,
    WrittenFile,
    find_marker,
    marker_name,
    png_folder,
    records_name,
    tar_name,
    unsound,
    write_marker,
)
from pipeline.storage.retries import explain
from pipeline.storage.store import SCRATCH, HashedFile, Store

FETCH_BYTES = 1 << 20
"""Remote files are fetched in pieces of this size."""


def write_part(store: Store, session: str, shard: int, chunk: int, table: pa.Table) -> None:
    """Writes the records of one chunk where `commit_shard` finds them."""
    with store.create(_part_name(session, shard, chunk)) as file:
        pq.write_table(table, file, **records.PARQUET_OPTIONS)


def commit_shard(  # noqa: PLR0917
    store: Store,
    session: str,
    shard: int,
    chunks: int,
    counts: Counts,
    config: OutputConfig,
    *,
    merge: bool = False,
) -> Marker:
    """Joins the parts of a shard, one in memory at a time, writes its marker and removes the parts.

    Called again after it has ended well, it does nothing: its caller may have been killed in between. Nor
    does it when another session has committed the shard meanwhile: of two runs on one folder the first to
    commit a shard counts, and the parts of the other are dropped.

    Args:
        store: The run folder.
        session: The session that wrote the parts.
        shard: Number of the shard.
        chunks: Number of its parts.
        counts: What the parts add up to.
        config: Whether PNG files are to be written beside the records.
        merge: The shard is committed, and the parts hold new records of some of its photos. All other
            records stay as they are, but for `duplicate_of` of photos that repeat one of these. Killed in
            the middle, this leaves a shard without a marker: nothing is lost, but the whole of it has to
            be done again.

    Raises:
        OutputError: Something cannot be written, or what is to be merged is not there or not whole.
    """
    earlier = find_marker(store, shard)
    if earlier and (earlier.session == session or not merge):
        _drop_parts(store, session, shard)
        return earlier
    files = []
    total = Counts()
    if merge:  # before the marker goes
        there = sum(len(_read_part(store, session, shard, chunk)) for chunk in range(chunks))
        _check_number(shard, there, counts)
    with ExitStack() as stack:
        base = stack.enter_context(_committed_records(store, shard, chunks, earlier)) if merge else None
        if merge:
            store.remove(marker_name(shard))
        file = stack.enter_context(store.create(records_name(shard)))
        tar_file = stack.enter_context(store.create(tar_name(shard))) if config.png == "tar" else None
        with ExitStack() as inner:
            writer = inner.enter_context(pq.ParquetWriter(file, records.SCHEMA, **records.PARQUET_OPTIONS))
            tar = inner.enter_context(_open_tar(tar_file)) if tar_file else None
            duplicates = records.DuplicateFinder()
            images = 0
            for chunk in range(chunks):
                part = _read_part(store, session, shard, chunk)
                images += len(part)
                table = _replace_rows(base.read_row_group(chunk), part) if base else part
                table = duplicates.mark(table)
                writer.write_table(table)
                total += count_table(table)
                if tar:
                    _add_pngs(tar, table)
                elif config.png == "folder":
                    for name, data in png_files(part):
                        store.write(f"{png_folder(shard)}/{name}", data)
            _check_number(shard, images, counts)
        files.append(WrittenFile(records_name(shard), file.size, file.sha256))
        if tar_file:
            files.append(WrittenFile(tar_name(shard), tar_file.size, tar_file.sha256))
    total.bytes_read = counts.bytes_read
    total.seconds.update(counts.seconds)
    if merge and earlier:
        total.bytes_read += earlier.counts.bytes_read
        total.seconds.update(earlier.counts.seconds)
    marker = Marker(shard, total, files, session, datetime.now(UTC).isoformat(timespec="milliseconds"))
    write_marker(store, marker)
    _drop_parts(store, session, shard)
    return marker


def png_files(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Yields (file name, PNG) of every crop, normal map and mask of some records, as ID-FACE-KIND.png."""
    for row in table.select(["id", "faces"]).to_pylist():
        for face in row["faces"]:
            for kind in ("crop", "normal", "mask"):
                yield f"{row['id']}-{face['index']}-{kind}.png", face[f"{kind}_png"]


@functools.lru_cache(maxsize=4)
def committed_codes(store: Store, session: str, shard: int) -> dict[int, str | None]:
    """Returns photo -> error code of the records of a committed shard.

    Args:
        store: The run folder.
        session: Whoever asks: a session that commits the shard anew does not ask again.
        shard: Number of the shard.

    Raises:
        OutputError: There are no records, or they cannot be read.
    """
    # Chunks of one shard are mostly worked on one after the other: hence the cache.
    try:
        with store.open(records_name(shard)) as file:
            table = pq.read_table(file, columns=["id", "error_code"])
    except (FileNotFoundError, pa.ArrowException) as error:
        raise unsound(store, shard, error) from error
    return dict(zip(table["id"].to_pylist(), table["error_code"].to_pylist(), strict=True))


@contextmanager
def open_hashed(store: Store, name: str) -> Iterator[tuple[BinaryIO, int, str]]:
    """Opens a file for reading at any position, and says its (size, SHA-256) as it is there.

    A remote file is fetched once, to a temporary one.

    Raises:
        FileNotFoundError: There is no such file.
        OutputError: It cannot be read.
    """
    with store.open(name) as source, ExitStack() as stack:
        file = source if store.is_local else stack.enter_context(tempfile.TemporaryFile())
        digest = hashlib.sha256()
        try:
            while block := source.read(FETCH_BYTES):
                digest.update(block)
                if file is not source:
                    file.write(block)
        except Exception as error:
            # Storage clients raise nearly everything.
            raise OutputError(f"Cannot read {store.place(name)}: {explain(error)[1]}") from error
        size = file.tell()
        file.seek(0)
        yield file, size, digest.hexdigest()


@contextmanager
def _committed_records(
    store: Store, shard: int, chunks: int, marker: Marker | None
) -> Iterator[pq.ParquetFile]:
    """Opens the records of a committed shard, once it is certain that they are what was committed."""
    if marker is None:
        raise unsound(store, shard, "its marker is gone")
    try:
        with open_hashed(store, records_name(shard)) as (file, size, digest):
            if WrittenFile(records_name(shard), size, digest) not in marker.files:
                raise unsound(store, shard, "its records are not what its marker says")
            parquet = pq.ParquetFile(file)
            if parquet.num_row_groups != chunks or parquet.metadata.num_rows != marker.counts.images:
                raise unsound(store, shard, "its records are not those of the plan")
            yield parquet
    except FileNotFoundError as error:
        raise unsound(store, shard, "its records are gone") from error


def _read_part(store: Store, session: str, shard: int, chunk: int) -> pa.Table:
    name = _part_name(session, shard, chunk)
    try:
        with store.open(name) as part:
            return pq.read_table(part, schema=records.SCHEMA)
    except FileNotFoundError as error:
        raise OutputError(f"Chunk {chunk} of shard {shard} is gone: {store.place(name)}.") from error


def _check_number(shard: int, there: int, counts: Counts) -> None:
    if there != counts.images:
        raise OutputError(f"Shard {shard} has {there} records for {counts.images} photos.")


def _drop_parts(store: Store, session: str, shard: int) -> None:
    with suppress(OutputError):  # another run, which has completed the folder, may be removing them as well
        store.remove(f"{SCRATCH}/{session}/{shard:05d}")


def _replace_rows(old: pa.Table, new: pa.Table) -> pa.Table:
    """Returns the old rows in their order, those that have the id of a new one replaced by it."""
    if not len(new):
        return old
    places = {number: len(old) + place for place, number in enumerate(new["id"].to_pylist())}
    order = [places.pop(number, place) for place, number in enumerate(old["id"].to_pylist())]
    if places:
        raise OutputError(f"There are new records of photos that the shard does not have: {sorted(places)}.")
    return pa.concat_tables([old, new]).combine_chunks().take(order)


def _add_pngs(tar: tarfile.TarFile, table: pa.Table) -> None:
    for name, data in png_files(table):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def _open_tar(file: HashedFile) -> tarfile.TarFile:
    # Stream mode: the file can only be appended to. TarInfo's defaults hold no time and no owner, so the
    # same records give the same bytes.
    return tarfile.open(fileobj=file, mode="w|")  # type: ignore[call-overload]


def _part_name(session: str, shard: int, chunk: int) -> str:
    return f"{SCRATCH}/{session}/{shard:05d}/{chunk:04d}.parquet"
