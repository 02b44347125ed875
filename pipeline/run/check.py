"""Checks one committed shard: its files against its marker, its records against the plan and their schema.

Everything is read. What takes long is checked on a sample, on every `THOROUGH_EVERY`th record that is ok.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.images.items import ListedItem
from pipeline.run import records
from pipeline.run.config import RunConfig
from pipeline.run.counts import FAILED, OK, Counts
from pipeline.run.markers import Marker, file_sizes, files_folder, find_marker, shard_files, tar_name
from pipeline.run.plan_photos import shard_items
from pipeline.run.recipe import Recipe
from pipeline.run.shards import open_hashed
from pipeline.run.work import Work
from pipeline.storage.store import Store

ROWS_AT_ONCE = 16
THOROUGH_EVERY = 8

MOST_REASONS = 5
"""Reasons kept per shard: one fault is often in every row."""

Files = list[tuple[str, int | None]]
"""Names of files with their sizes in bytes."""


@dataclass
class ShardCheck:
    """What came of checking a shard.

    Attributes:
        shard: Number of the shard.
        counts: What its records add up to.
        reasons: What is wrong with it; empty when it is sound.
        more: Further reasons that were not kept.
    """

    shard: int
    counts: Counts = field(default_factory=Counts)
    reasons: list[str] = field(default_factory=list)
    more: int = 0

    def add(self, reason: str) -> None:
        """Notes that something is wrong."""
        if len(self.reasons) < MOST_REASONS:
            self.reasons.append(reason)
        else:
            self.more += 1


def check_shard(work: Work, shard: int) -> ShardCheck:
    """Checks a committed shard.

    Raises:
        OutputError: The folder or its plan cannot be read, which says nothing of the shard.
    """
    store, beside = work.store, work.config.output.files
    found = ShardCheck(shard)
    items = shard_items(store, work.plan, shard)
    marker = find_marker(store, shard)
    if marker is None:
        found.add("its marker is damaged")
        return found
    if marker.shard != shard:
        found.add(f"its marker is that of shard {marker.shard}")
    names = shard_files(shard, beside)
    if sorted(file.name for file in marker.files) != sorted(names):
        found.add(f"its marker does not name {' and '.join(names)} alone")
    files = _check_file(found, store, marker, names[0], lambda file: _check_records(found, file, items, work))
    if files is None:
        return found
    for line in _differences(found.counts, marker.counts):
        found.add(line)
    for name in names[1:2]:
        _check_file(found, store, marker, name, lambda file: None)
    if beside == "tar":
        _check_file(found, store, marker, names[2], lambda file: _check_tar(found, file, files))
    elif beside == "folder":
        _check_folder(found, store, files)
    return found


def _check_file(found: ShardCheck, store: Store, marker: Marker, name: str, check: Any) -> Any:
    """Checks a file against the marker and, when it is what was written, by `check`; None if it is not."""
    written = next((file for file in marker.files if file.name == name), None)
    try:
        with open_hashed(store, name) as (file, size, digest):
            if written and size != written.size:
                found.add(f"{name} has {size:,} bytes, and its marker says {written.size:,}")
            elif written and digest != written.sha256:
                found.add(f"{name} has other content than its marker says")
            else:
                return check(file)
    except FileNotFoundError:
        found.add(f"{name} is missing")
    return None


def _check_records(
    found: ShardCheck, file: BinaryIO, items: Sequence[ListedItem], work: Work
) -> Files | None:
    form = work.recipe.record
    files: Files = []
    ids: list[int] = []
    duplicates = records.DuplicateFinder(form)
    good = 0
    try:
        parquet = pq.ParquetFile(file)
        if not parquet.schema_arrow.equals(form.schema):
            found.add("its records have another schema")
            return None
        for batch in parquet.iter_batches(ROWS_AT_ONCE):
            table = pa.Table.from_batches([batch])
            found.counts += records.count_table(table, form)
            for row in table.to_pylist():
                thorough = good % THOROUGH_EVERY == 0
                for reason in check_record(row, work.recipe, work.config, thorough):
                    found.add(f"photo {row['id']} {reason}")
                good += bool(row[form.things])
                if len(ids) < len(items):
                    planned = items[len(ids)]
                    if row["id"] == planned.id and row["uri"] != planned.uri:
                        found.add(f"photo {row['id']} has another uri than in the plan")
                ids.append(row["id"])
            if not duplicates.mark(table)["duplicate_of"].equals(table["duplicate_of"]):
                found.add(f"its duplicates are not what duplicate_of says, before row {len(ids)}")
            files += [
                (file.name, None if file.content is None else len(file.content))
                for file in form.files(table, work.config)
            ]
    except (pa.ArrowException, OSError) as error:
        found.add(f"its records cannot be read: {' '.join(str(error).split())}")
        return None
    if difference := _compare_ids(ids, [item.id for item in items]):
        found.add(difference)
    return files


def _compare_ids(ids: list[int], planned: list[int]) -> str | None:
    if ids == planned:
        return None
    missing, foreign = len(set(planned) - set(ids)), len(set(ids) - set(planned))
    repeated = len(ids) - len(set(ids))
    if missing or foreign or repeated:
        return (
            f"of its plan's {len(planned):,} photos {missing:,} are missing; {foreign:,} of its records are "
            f"of other photos, and {repeated:,} are repeated"
        )
    return "its records are not in the order of the plan"


def check_record(row: dict[str, Any], recipe: Recipe, config: RunConfig, thorough: bool) -> Iterator[str]:
    """Yields what is wrong with a record, to be read after the item's name.

    `thorough` checks also what takes long.
    """
    form = recipe.record
    status, code, message = (row[name] for name in ("status", "error_code", "error_message"))
    if status not in (OK, form.empty, FAILED):
        yield f"has the unknown status {status!r}"
        return
    if bool(row[form.things]) != (status == OK):
        yield f"has {len(row[form.things])} {form.things} and the status {status}"
    expected = {OK: code is None, form.empty: code == form.empty}
    if not expected.get(status, code not in (None, form.empty)):
        yield f"has the error code {code!r} and the status {status}"
    if (message is None) != (status == OK):
        yield f"has the error message {message!r} and the status {status}"
    if status != FAILED and not row["sha256"]:
        yield "has no sha256"
    yield from form.check(row, config, thorough)


def _differences(found: Counts, marked: Counts) -> Iterator[str]:
    ours, theirs = found.to_json(), marked.to_json()
    for name in ("records", "found", "duplicates", "status", "error_code", "examples"):
        if ours[name] != theirs[name]:
            values = "" if name == "examples" else f": {ours[name]}, and its marker says {theirs[name]}"
            yield f"its records differ from its marker in {name}{values}"


def _check_tar(found: ShardCheck, file: BinaryIO, files: Files) -> None:
    name = tar_name(found.shard)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            held = [(member.name, member.size) for member in tar]
    except (tarfile.TarError, OSError) as error:
        found.add(f"{name} cannot be read: {error}")
        return
    if held != files:
        found.add(f"{name} does not hold the files of the records")


def _check_folder(found: ShardCheck, store: Store, files: Files) -> None:
    sizes = file_sizes(store, files_folder(found.shard)) if files else {}
    if missing := [name for name, _ in files if name not in sizes]:
        found.add(f"{len(missing):,} files are missing in {files_folder(found.shard)}, {missing[0]} first")
    if cut := [name for name, size in files if size is not None and sizes.get(name, size) != size]:
        found.add(f"{len(cut):,} files in {files_folder(found.shard)} are not whole, {cut[0]} first")
