"""One streaming pass over the records of a run: counts, examples of problems, and the faces to show.

Only the columns that this needs are read, never an image, so that a run of ten million photos takes as
little memory as a run of ten.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.report.light_rows import COLUMNS, Condition, LightRows, light_rows
from pipeline.report.spread import Spread, Spreads
from pipeline.run.counts import FAILED, OK, Counts
from pipeline.run.markers import Marker
from pipeline.storage.store import Store

SHOWN_FIELDS = "index box score landmarks points visible crop_window crop_png normal_png mask_png"
SHOWN = [
    *("uri", "width", "height", "sha256"),
    *(f"faces.list.element.{name}" for name in SHOWN_FIELDS.split()),
    # Where a record is of several photos, and each face says which it is on:
    *("faces.list.element.photo", *(f"photos.list.element.{name}" for name in ("uri", "width", "height"))),
]
"""Columns that the page shows of the rows that are chosen, as far as there are any."""

READ_ERRORS = (OSError, OutputError, pa.ArrowException)
FACES_OF_ONE_PHOTO = 4
"""As many faces of one photo come first; its others are shown only when there is room left."""

WORST = {
    "Points least certain": ("points_sigma", -1.0),
    "Lowest score of the detector": ("score", 1.0),
    "Fewest normals": ("mask_share", 1.0),
}
"""Why faces are among the worst -> number of the face, and the sign that makes the worst the smallest."""

WORST_OF_EACH = 4


@dataclass(frozen=True, order=True)
class Place:
    """Where a row of the records is: shard in reading order, row group, row within the group."""

    shard: int
    row_group: int
    row: int


@dataclass
class FailureKind:
    """All photos that failed with one error code."""

    code: str
    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)  # (uri, message)


@dataclass
class Tally:
    """What the records of a run add up to."""

    statuses: Counter[str] = field(default_factory=Counter)
    faces: int = 0
    problems: dict[str, FailureKind] = field(default_factory=dict)
    shown: dict[Place, list[int]] = field(default_factory=dict)
    """Row -> positions in its list of faces; in reading order."""
    faceless: list[Place] = field(default_factory=list)
    """Some photos without a face, in reading order."""
    worst: dict[str, list[tuple[Place, int]]] = field(default_factory=dict)
    """Reason -> some faces, the worst first: row, and position in its list of faces."""
    spreads: list[Spread] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """Shards that could not be read, as "name: reason"."""

    def take(self, counts: Counts) -> None:
        """Counts a whole run, of which some shards were read."""
        self.statuses, self.faces = counts.statuses, counts.found.total()
        self.problems = {
            code: FailureKind(code, number, counts.examples.get(code, []))
            for code, number in counts.error_codes.items()
        }

    @property
    def photos(self) -> int:
        """Number of rows: one per input photo."""
        return self.statuses.total()


def some_shards(markers: Iterable[Marker], most: int = 12) -> list[int]:
    """Returns the shards that the page of a run is drawn from, in order: all, or of many an even choice.

    Args:
        markers: What is committed.
        most: Most shards with a face, and most with a photo without one.
    """
    ranked = sorted(markers, key=lambda marker: _uniform(np.array([marker.shard]), np.zeros(1)).item())
    with_faces = [marker.shard for marker in ranked if marker.counts.statuses[OK]]
    without = [
        marker.shard
        for marker in ranked
        if marker.counts.records > marker.counts.statuses[OK] + marker.counts.statuses[FAILED]
    ]
    return sorted({*with_faces[:most], *without[:most]})


def tally_records(  # noqa: PLR0917
    store: Store,
    shards: list[str],
    faces: int,
    examples: int,
    faceless: int,
    where: Sequence[Condition] = (),
) -> Tally:
    """Counts the rows of all shards and chooses what the page shows.

    The choice is a uniform sample by a hash of the photo's id: the same records give the same page,
    whatever their order.

    Args:
        store: The run's folder.
        shards: Names in it of the records' Parquet files, in reading order.
        faces: Most faces to show.
        examples: Most examples to keep for each error code.
        faceless: Most photos without a face to show.
        where: Conditions that photos and faces must meet, all of them, to count and to be shown.
    """
    tally, spreads = Tally(), Spreads()
    starts: dict[int, list[int]] = {}
    face_sample, faceless_sample = _Sample(faces), _Sample(faceless)
    worst = {reason: _Sample(WORST_OF_EACH) for reason in WORST}
    for number, shard in enumerate(shards):
        try:
            starts[number], batches = _light_batches(store, shard)
            for batch in batches:
                some = light_rows(batch)
                rows, chosen = np.ones(len(batch), bool), np.ones(len(some.rows), bool)
                for condition in where:
                    rows &= condition.rows(some)
                    chosen &= condition.faces(some)
                chosen &= rows[some.rows]
                counted = batch.filter(pa.array(rows))
                tally.statuses.update(_value_counts(counted["status"]))
                tally.faces += int(chosen.sum())
                _add_problems(tally.problems, counted.filter(pc.equal(counted["status"], FAILED)), examples)
                spreads.add(some, rows, chosen)
                _offer_faces(face_sample, number, some, chosen)
                _offer_faceless(faceless_sample, number, some, rows)
                for reason, (name, sign) in WORST.items():
                    known = np.flatnonzero(chosen & ~np.isnan(some.of_face[name]))
                    worst[reason].offer(
                        sign * some.of_face[name][known], number, some.rows[known], some.positions[known]
                    )
        except READ_ERRORS as error:
            tally.unreadable.append(f"{shard.rsplit('/', 1)[-1]}: {error}")

    def places(sample: _Sample) -> Iterator[tuple[Place, int]]:
        for shard, row, position in sample.entries.tolist():
            group = bisect_right(starts[shard], row) - 1
            yield Place(shard, group, row - starts[shard][group]), position

    for place, position in sorted(places(face_sample)):
        tally.shown.setdefault(place, []).append(position)
    tally.faceless = sorted(place for place, _ in places(faceless_sample))
    tally.worst = {reason: list(places(sample)) for reason, sample in worst.items() if len(sample.keys)}
    tally.spreads = spreads.spreads()
    return tally


def _light_batches(store: Store, shard: str) -> tuple[list[int], list[pa.RecordBatch]]:
    """Returns the first row of every row group of a shard, and its rows without images, all in one batch."""
    with store.open(shard) as opened:
        file = pq.ParquetFile(opened)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        return [0, *accumulate(sizes)], file.read(columns=COLUMNS).combine_chunks().to_batches()


def _add_problems(problems: dict[str, FailureKind], failed: pa.RecordBatch, examples: int) -> None:
    for code, count in _value_counts(failed["error_code"]).items():
        problem = problems.setdefault(code, FailureKind(code))
        problem.count += count
        missing = examples - len(problem.examples)
        if missing > 0:
            rows = failed.filter(pc.equal(failed["error_code"], code)).slice(0, missing).to_pylist()
            problem.examples += [(row["uri"], row["error_message"] or "") for row in rows]


def _offer_faces(sample: _Sample, shard: int, some: LightRows, chosen: np.ndarray) -> None:
    rows, positions = some.rows[chosen], some.positions[chosen]
    later = (positions >= FACES_OF_ONE_PHOTO).astype(np.float64)
    sample.offer(later + _uniform(some.ids[rows], positions), shard, rows, positions)


def _offer_faceless(sample: _Sample, shard: int, some: LightRows, counted: np.ndarray) -> None:
    found = pc.is_in(some.batch["status"], pa.array([OK, FAILED])).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(counted & ~found)
    sample.offer(_uniform(some.ids[rows], rows * 0), shard, rows, rows * 0)


def _value_counts(column: pa.Array) -> dict[str, int]:
    counted = pc.value_counts(column.drop_null())
    return {entry["values"]: entry["counts"] for entry in counted.to_pylist()}


def _uniform(ids: np.ndarray, salts: np.ndarray) -> np.ndarray:
    """Returns float64 in [0, 1) that depend on each (id, salt) alone (the SplitMix64 generator's mixer)."""
    bits = ids.astype(np.uint64) * np.uint64(64) + salts.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


class _Sample:
    """Keeps the entries with the smallest keys of all that were offered."""

    def __init__(self, size: int):
        self.size = size
        self.keys = np.empty(0)
        self.entries = np.empty((0, 3), np.int64)  # shard, row in it, position

    def offer(self, keys: np.ndarray, shard: int, rows: np.ndarray, positions: np.ndarray) -> None:
        offered = np.broadcast_arrays(shard, rows, positions)
        self.keys = np.concatenate([self.keys, keys])
        self.entries = np.concatenate([self.entries, np.stack(offered, axis=1).astype(np.int64)])
        kept = np.argsort(self.keys, kind="stable")[: self.size]
        self.keys, self.entries = self.keys[kept], self.entries[kept]


def read_rows(
    store: Store, shards: list[str], places: Iterable[Place], rows_at_once: int = 32
) -> dict[Place, dict[str, Any]]:
    """Reads what the page shows of some rows, row group by row group.

    Returns:
        The rows in reading order, without those that cannot be read.
    """
    groups: dict[tuple[int, int], set[int]] = {}
    for place in places:
        groups.setdefault((place.shard, place.row_group), set()).add(place.row)
    found: dict[Place, dict[str, Any]] = {}
    for (shard, row_group), rows in sorted(groups.items()):
        try:
            with store.open(shards[shard]) as file:
                for row, values in _rows_of_group(pq.ParquetFile(file), row_group, rows, rows_at_once):
                    found[Place(shard, row_group, row)] = values
        except READ_ERRORS:
            continue
    return found


def _rows_of_group(
    file: pq.ParquetFile, row_group: int, rows: set[int], rows_at_once: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    first_row = 0
    for batch in file.iter_batches(rows_at_once, row_groups=[row_group], columns=SHOWN):
        for row in range(first_row, first_row + batch.num_rows):
            if row in rows:
                yield row, batch.slice(row - first_row, 1).to_pylist()[0]
        first_row += batch.num_rows
        if first_row > max(rows):
            return
