"""Parts and shards: how finished work becomes part of a run's output.

A chunk's records are written as a part under _work/. When all parts of a shard are there they are joined
to records/shard-00042.parquet (and files/shard-00042... with an index), and at the very last its marker is
written, which alone makes the shard exist; see `markers`.

When single items of a committed shard are tried again, the parts hold those items alone and take the
place of their old records. The marker is removed before anything else changes, so that whoever looks at
markers never sees old and new mixed.
"""

import csv
import functools
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.run import records
from pipeline.run.counts import Counts
from pipeline.run.markers import (
    Marker,
    WrittenFile,
    files_folder,
    find_marker,
    marker_name,
    records_name,
    shard_files,
    unsound,
    write_marker,
)
from pipeline.run.records import count_table
from pipeline.run.work import Work
from pipeline.storage.retries import explain
from pipeline.storage.store import SCRATCH, HashedFile, Store

FETCH_BYTES = 1 << 20
"""Remote files are fetched in pieces of this size."""


def write_part(work: Work, shard: int, chunk: int, table: pa.Table) -> None:
    """Writes the records of one chunk where `commit_shard` finds them."""
    with work.store.create(_part_name(work.session, shard, chunk)) as file:
        pq.write_table(table, file, **work.recipe.record.parquet)


def commit_shard(work: Work, shard: int, counts: Counts) -> Marker:
    """Joins the parts of a shard, one in memory at a time, writes its marker and removes the parts.

    Where items are tried again (`work.codes`), the shard is committed already and the parts hold new records
    of some of its items. All other records stay as they are, but for `duplicate_of` of items that repeat one
    of these. Killed in the middle, this leaves a shard without a marker: nothing is lost, but the whole of
    it has to be done again.

    Called again after it has ended well, it does nothing: its caller may have been killed in between. Nor
    does it when another session has committed the shard meanwhile: of two runs on one folder the first to
    commit a shard counts, and the parts of the other are dropped.

    Raises:
        OutputError: Something cannot be written, or what is to be merged is not there or not whole.
    """
    earlier = find_marker(work.store, shard)
    if earlier and (earlier.session == work.session or not work.codes):
        _drop_parts(work, shard)
        return earlier
    if work.codes:
        total, files = _merge_parts(work, shard, counts, earlier)
    else:
        total, files = _write_shard(work, shard, _joined(work, shard, counts))
        total.images = counts.images
    total.bytes_read += counts.bytes_read
    total.seconds.update(counts.seconds)
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    marker = Marker(shard, total, files, work.session, time)
    write_marker(work.store, marker)
    _drop_parts(work, shard)
    return marker


def _merge_parts(
    work: Work, shard: int, counts: Counts, earlier: Marker | None
) -> tuple[Counts, list[WrittenFile]]:
    _check_number(shard, sum(map(len, _parts(work, shard))), counts)  # before the marker goes
    with _committed_records(work, shard, earlier) as (base, marker):
        work.store.remove(marker_name(shard))
        total, files = _write_shard(work, shard, _merged(work, shard, base))
    total.images, total.bytes_read = marker.counts.images, marker.counts.bytes_read
    total.seconds.update(marker.counts.seconds)
    return total, files


def _write_shard(
    work: Work, shard: int, tables: Iterable[tuple[pa.Table, pa.Table]]
) -> tuple[Counts, list[WrittenFile]]:
    """Writes the files of a shard.

    Returns:
        What the rows add up to, and the files, without loose ones.
    """
    store, form, config = work.store, work.recipe.record, work.config
    beside = config.output.files
    total = Counts()
    names = shard_files(shard, beside)
    index = io.StringIO()
    listed = csv.writer(index, lineterminator="\n")
    listed.writerow(["file", "uri", "id"])
    with ExitStack() as stack:
        created = [stack.enter_context(store.create(name)) for name in names]
        with ExitStack() as inner:
            writer = inner.enter_context(pq.ParquetWriter(created[0], form.schema, **form.parquet))
            tar = inner.enter_context(_open_tar(created[-1])) if beside == "tar" else None
            duplicates = records.DuplicateFinder(form)
            for rows, new in tables:
                table = duplicates.mark(rows)
                writer.write_table(form.kept(table, config))
                total += count_table(table, form)
                if beside == "none":
                    continue
                fresh = set(new["id"].to_pylist())
                for name, number, uri, content in form.files(table, config):
                    listed.writerow([name, uri, number])
                    if tar:
                        _add_file(tar, name, content or b"")
                    elif number in fresh:
                        store.write(f"{files_folder(shard)}/{name}", content or b"")
        if beside != "none":
            created[1].write(index.getvalue().encode())
    files = [WrittenFile(name, file.size, file.sha256) for name, file in zip(names, created, strict=True)]
    return total, files


def _joined(work: Work, shard: int, counts: Counts) -> Iterator[tuple[pa.Table, pa.Table]]:
    there = 0
    for part in _parts(work, shard):
        there += len(part)
        yield part, part
    _check_number(shard, there, counts)


def _merged(work: Work, shard: int, base: pq.ParquetFile) -> Iterator[tuple[pa.Table, pa.Table]]:
    for chunk, part in enumerate(_parts(work, shard)):
        yield _replace_rows(base.read_row_group(chunk), part), part


def _parts(work: Work, shard: int) -> Iterator[pa.Table]:
    """Yields the parts of a shard, chunk by chunk."""
    for chunk in range(work.plan.shard_chunks(shard)):
        name = _part_name(work.session, shard, chunk)
        try:
            with work.store.open(name) as file:
                part = pq.read_table(file, schema=work.recipe.record.schema)
        except FileNotFoundError as error:
            raise OutputError(f"Chunk {chunk} of shard {shard} is gone: {work.store.place(name)}.") from error
        yield part


@functools.lru_cache(maxsize=4)
def committed_codes(store: Store, session: str, shard: int) -> dict[int, str | None]:
    """Returns item -> error code of the records of a committed shard.

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
    work: Work, shard: int, marker: Marker | None
) -> Iterator[tuple[pq.ParquetFile, Marker]]:
    """Opens the records of a committed shard, once it is certain that they are what was committed."""
    store, name = work.store, records_name(shard)
    if marker is None:
        raise unsound(store, shard, "its marker is gone")
    try:
        with open_hashed(store, name) as (file, size, digest):
            if WrittenFile(name, size, digest) not in marker.files:
                raise unsound(store, shard, "its records are not what its marker says")
            parquet = pq.ParquetFile(file)
            groups, rows = parquet.num_row_groups, parquet.metadata.num_rows
            if groups != work.plan.shard_chunks(shard) or rows != marker.counts.records:
                raise unsound(store, shard, "its records are not those of the plan")
            yield parquet, marker
    except FileNotFoundError as error:
        raise unsound(store, shard, "its records are gone") from error


def _check_number(shard: int, there: int, counts: Counts) -> None:
    if there != counts.records:
        raise OutputError(f"Shard {shard} has {there} records for {counts.records} items.")


def _drop_parts(work: Work, shard: int) -> None:
    with suppress(OutputError):  # another run, which has completed the folder, may be removing them as well
        work.store.remove(f"{SCRATCH}/{work.session}/{shard:05d}")


def _replace_rows(old: pa.Table, new: pa.Table) -> pa.Table:
    """Returns the old rows in their order, those that have the id of a new one replaced by it."""
    if not len(new):
        return old
    places = {number: len(old) + place for place, number in enumerate(new["id"].to_pylist())}
    order = [places.pop(number, place) for place, number in enumerate(old["id"].to_pylist())]
    if places:
        raise OutputError(f"There are new records of items that the shard does not have: {sorted(places)}.")
    return pa.concat_tables([old, new]).combine_chunks().take(order)


def _add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _open_tar(file: HashedFile) -> tarfile.TarFile:
    # Stream mode: the file can only be appended to. TarInfo's defaults hold no time and no owner, so the
    # same records give the same bytes.
    return tarfile.open(fileobj=file, mode="w|")  # type: ignore[call-overload]


def _part_name(session: str, shard: int, chunk: int) -> str:
    return f"{SCRATCH}/{session}/{shard:05d}/{chunk:04d}.parquet"
