"""Labelled crops in Parquet: their row groups found, told by what they hold, read and decoded."""

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError, OutputError
from pipeline.samples.sample import Sample, decode_row
from pipeline.storage.places import StorageConfig
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

IMAGE, NORMALS, PAIRED = 1, 2, 3
"""What a row holds, as bits."""

COLUMNS = ("id", "image", "normal", "mask", "regions", "landmarks", "meta")
_SCANNERS = 16
_NAMED = 20
# A set with a systematic fault would fill the log: name the first bad rows and count the rest.


@dataclass(frozen=True, eq=False)
class RowGroup:
    """One row group of one file.

    Attributes:
        store: Where the file is.
        name: The file.
        index: The row group.
        records: Whether the file holds records of `facet normals`, one row per photo with its faces.
        kinds: (N,) uint8, bits IMAGE and NORMALS of every training row.
    """

    store: Store
    name: str
    index: int
    records: bool
    kinds: np.ndarray

    @property
    def path(self) -> str:
        return self.store.place(self.name)


class BadRows:
    """Rows that could not be used: counted, the first ones named in the log. Thread-safe."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, name: str, reason: str) -> None:
        """Notes one row; a row that is met again counts once."""
        with self._lock:
            if name in self.reasons:
                return
            self.reasons[name] = reason
            count = len(self.reasons)
        if count <= _NAMED:
            log.warning("Skipped row %s: %s", name, reason)
        elif count == _NAMED + 1:
            log.warning("More bad rows are skipped without a line of their own")


def find_row_groups(paths: Sequence[str], storage: StorageConfig | None = None) -> list[RowGroup]:
    """Lists the row groups of Parquet files and folders, in a stable order.

    Raises:
        DataError: A path holds no Parquet file, a file has neither our schema nor that of records, or there
            is no row with an image or a normal map.
    """
    found: list[tuple[Store, str]] = []
    for path in paths:
        store = Store(path, storage)
        # The folder of a run holds its plan beside its records.
        names = store.find("records" if "run.json" in store.names() else "")
        files = [name for name in names if store.place(name).endswith(".parquet")]
        if not files:
            raise DataError(f"{path} holds no Parquet file.")
        found += [(store, file) for file in files]
    # Object storage answers slowly, and to many requests at once as fast as to one.
    with ThreadPoolExecutor(_SCANNERS) as pool:
        groups = [group for part in pool.map(lambda item: _scan_file(*item), found) for group in part]
    if not any(group.kinds.any() for group in groups):
        raise DataError(f"There is no training row in {', '.join(map(str, paths))}.")
    return groups


def keep_kinds(group: RowGroup, kept: np.ndarray) -> RowGroup:
    """Returns a group whose rows other than `kept` (N,) bool hold nothing."""
    kinds = np.where(kept, group.kinds, 0).astype(np.uint8)
    return replace(group, kinds=kinds)


def load_group(group: RowGroup, size: int | None, bad: BadRows) -> list[Sample | None]:
    """Reads and decodes the rows of a group; a row that cannot be used is None and noted in `bad`."""
    try:
        table = _read_group(group)
    except (OutputError, OSError, pa.ArrowException) as error:
        bad.add(f"{group.path}#{group.index}", f"the row group cannot be read: {error}")
        return [None] * len(group.kinds)
    rows = _record_rows(table) if group.records else _table_rows(table)
    samples: list[Sample | None] = []
    for row, kind in zip(rows, group.kinds, strict=True):
        sample = None
        if kind:
            try:
                sample = decode_row(row, size)
            except DataError as error:
                bad.add(f"{row['id']} of {group.path}", error.message)
        samples.append(sample)
    return samples


def _scan_file(store: Store, name: str) -> list[RowGroup]:
    path = store.place(name)
    try:
        with store.open(name) as stream:
            file = pq.ParquetFile(stream)
            names = set(file.schema_arrow.names)
            records = "faces" in names
            if not records and not ("id" in names and names & {"image", "normal"}):
                raise DataError(
                    f"{path} is not training data: it needs the columns id and image or normal, "
                    f"or faces; it has {', '.join(sorted(names))}."
                )
            count = file.metadata.num_row_groups
            kinds = [_record_kinds(file, i) if records else _row_kinds(file, i) for i in range(count)]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
    return [RowGroup(store, name, i, records, kinds[i]) for i in range(count)]


def _row_kinds(file: pq.ParquetFile, index: int) -> np.ndarray:
    return IMAGE * _is_there(file, index, "image") | NORMALS * _is_there(file, index, "normal")


def _is_there(file: pq.ParquetFile, index: int, column: str) -> np.ndarray:
    """Tells per row whether a column holds a value, from the statistics where they suffice."""
    group = file.metadata.row_group(index)
    rows = group.num_rows
    position = next((i for i in range(group.num_columns) if group.column(i).path_in_schema == column), None)
    if position is None:
        return np.zeros(rows, np.uint8)
    statistics = group.column(position).statistics
    if statistics is not None and statistics.has_null_count and statistics.null_count in (0, rows):
        return np.full(rows, statistics.null_count == 0 and rows > 0, np.uint8)
    values = file.read_row_group(index, columns=[column]).column(0)
    return values.is_valid().to_numpy().astype(np.uint8)


def _record_kinds(file: pq.ParquetFile, index: int) -> np.ndarray:
    faces = file.read_row_group(index, columns=["faces.list.element.index"]).column("faces").combine_chunks()
    return np.full(len(faces.flatten()), IMAGE, np.uint8)


def _read_group(group: RowGroup) -> pa.Table:
    with group.store.open(group.name) as stream:
        file = pq.ParquetFile(stream)
        names = ["id", "faces"] if group.records else [n for n in COLUMNS if n in file.schema_arrow.names]
        return file.read_row_group(group.index, columns=names)


def _table_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for i in range(table.num_rows):
        yield {name: table.column(name)[i].as_py() for name in table.column_names}


def _record_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for record, faces in zip(table.column("id"), table.column("faces"), strict=True):
        for face in faces.values or ():
            yield {"id": f"{record.as_py()}/{face['index'].as_py()}", "image": face["crop_png"].as_py()}
