"""Parts, shards and commit markers: how finished work becomes part of a run's output.

A chunk's records are written as a part under _work/. When all parts of a shard are there they are joined
to records/shard-00042.parquet (and png/shard-00042...), and at the very last the marker _done/00042.json
is written. Only the marker makes a shard exist: readers and resuming runs look at markers alone, and a
shard without one is simply done again, under the same names.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.run import records
from pipeline.run.config import OutputConfig
from pipeline.run.counts import Counts
from pipeline.run.store import SCRATCH, HashedFile, Store

DONE = "_done"


@dataclass(frozen=True)
class WrittenFile:
    """A file of a committed shard."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Marker:
    """Content of a commit marker."""

    shard: int
    counts: Counts
    files: list[WrittenFile]


def write_part(store: Store, session: str, shard: int, chunk: int, table: pa.Table) -> None:
    """Writes the records of one chunk where `commit_shard` finds them."""
    with store.create(_part_name(session, shard, chunk)) as file:
        pq.write_table(table, file, **records.PARQUET_OPTIONS)


def commit_shard(  # noqa: PLR0917
    store: Store, session: str, shard: int, chunks: int, counts: Counts, config: OutputConfig
) -> Marker:
    """Joins the parts of a shard, one in memory at a time, writes its marker and removes the parts.

    Args:
        store: The run folder.
        session: The session that wrote the parts.
        shard: Number of the shard.
        chunks: Number of its parts.
        counts: What its records add up to.
        config: Whether PNG files are to be written beside the records.

    Raises:
        OutputError: Something cannot be written.
    """
    files = []
    rows = 0
    with ExitStack() as stack:
        name = f"records/shard-{shard:05d}.parquet"
        file = stack.enter_context(store.create(name))
        tar_name = f"png/shard-{shard:05d}.tar"
        tar_file = stack.enter_context(store.create(tar_name)) if config.png == "tar" else None
        with ExitStack() as inner:
            writer = inner.enter_context(pq.ParquetWriter(file, records.SCHEMA, **records.PARQUET_OPTIONS))
            tar = inner.enter_context(_open_tar(tar_file)) if tar_file else None
            for chunk in range(chunks):
                with store.open(_part_name(session, shard, chunk)) as part:
                    table = pq.read_table(part, schema=records.SCHEMA)
                writer.write_table(table)
                rows += len(table)
                if config.png == "none":
                    continue
                for png_name, data in png_files(table):
                    if tar:
                        info = tarfile.TarInfo(png_name)
                        info.size = len(data)
                        tar.addfile(info, io.BytesIO(data))
                    else:
                        store.write(f"png/shard-{shard:05d}/{png_name}", data)
        files.append(WrittenFile(name, file.size, file.sha256))
        if tar_file:
            files.append(WrittenFile(tar_name, tar_file.size, tar_file.sha256))
    if rows != counts.images:
        raise OutputError(f"Shard {shard} has {rows} records for {counts.images} photos.")
    marker = Marker(shard, counts, files)
    store.write(_marker_name(shard), _dump(marker))
    store.remove(f"{SCRATCH}/{session}/{shard:05d}")
    return marker


def png_files(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Yields (file name, PNG) of every crop, normal map and mask of some records, as ID-FACE-KIND.png."""
    for row in table.select(["id", "faces"]).to_pylist():
        for face in row["faces"]:
            for kind in ("crop", "normal", "mask"):
                yield f"{row['id']}-{face['index']}-{kind}.png", face[f"{kind}_png"]


def committed_shards(store: Store) -> set[int]:
    """Returns the numbers of the shards that are done, by listing the markers once."""
    names = (name.partition(".") for name in store.names(DONE))
    return {int(stem) for stem, _, suffix in names if suffix == "json" and stem.isdigit()}


def read_markers(store: Store, shards: set[int]) -> list[Marker]:
    """Returns the markers of committed shards, in order.

    Raises:
        OutputError: A marker is missing or damaged.
    """
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda shard: _read_marker(store, shard), sorted(shards)))


def _read_marker(store: Store, shard: int) -> Marker:
    try:
        values = json.loads(store.read(_marker_name(shard)))
        files = [WrittenFile(**file) for file in values["files"]]
        return Marker(values["shard"], Counts.from_json(values["counts"]), files)
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"The marker {store.path(_marker_name(shard))} is damaged ({error}): delete it, and its shard is "
            "done again."
        ) from error


def _dump(marker: Marker) -> bytes:
    values: dict[str, Any] = {
        "shard": marker.shard,
        "counts": marker.counts.to_json(),
        "files": [vars(file) for file in marker.files],
    }
    return json.dumps(values, indent=1).encode()


def _open_tar(file: HashedFile) -> tarfile.TarFile:
    # Stream mode: the file can only be appended to. TarInfo's defaults hold no time and no owner, so the
    # same records give the same bytes.
    return tarfile.open(fileobj=file, mode="w|")  # type: ignore[call-overload]


def _part_name(session: str, shard: int, chunk: int) -> str:
    return f"{SCRATCH}/{session}/{shard:05d}/{chunk:04d}.parquet"


def _marker_name(shard: int) -> str:
    return f"{DONE}/{shard:05d}.json"
