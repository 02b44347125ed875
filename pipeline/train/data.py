"""Training rows: split, shared out to workers, shuffled, kept in memory once decoded.

The order of an epoch follows from (seed, epoch) alone: row groups are shuffled and taken in windows as large
as the memory allows, rows are shuffled within a window; data that fits in memory is one window, hence fully
shuffled. A position in that endless order is one number, which is all that a checkpoint has to remember.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from pipeline.errors import DataError
from pipeline.samples.rows import IMAGE, NORMALS, PAIRED, RowGroup, keep_kinds
from pipeline.samples.sample import Sample

KEPT_ROWS = 1 << 14
"""Rows of epochs whose order is kept, two epochs at least."""


def split_validation(groups: Sequence[RowGroup], share: float) -> tuple[list[RowGroup], list[RowGroup]]:
    """Keeps a share of the paired rows for validation, spread evenly over the groups.

    Returns:
        Groups for training and groups for validation; both name the same row groups, with the kinds of the
        rows of the other side set to 0.
    """
    train, validation = [], []
    due = 0.0
    for group in groups:
        paired = np.flatnonzero(group.kinds == PAIRED)
        # What is due carries over: a group may be too small for a whole row.
        due += share * len(paired)
        held = paired[len(paired) - int(due) :]
        due -= len(held)
        is_held = np.zeros(len(group.kinds), bool)
        is_held[held] = True
        train.append(keep_kinds(group, ~is_held))
        validation.append(keep_kinds(group, is_held))
    return train, validation


def shard_groups(groups: Sequence[RowGroup], rank: int, world: int) -> list[RowGroup]:
    """Returns the part of one worker.

    Whole row groups where that gives every worker rows of every kind there is, so that all take part in
    every pass; else single rows, kind by kind.

    Raises:
        DataError: There are fewer rows of a kind than workers.
    """
    if world == 1:
        return list(groups)
    present = {kind for group in groups for kind in (IMAGE, NORMALS, PAIRED) if (group.kinds == kind).any()}
    by_group = [list(groups[number::world]) for number in range(world)]
    if all(any((group.kinds == kind).any() for group in part) for part in by_group for kind in present):
        return by_group[rank]
    counts = dict.fromkeys(present, 0)
    shards = []
    for group in groups:
        kept = np.zeros(len(group.kinds), bool)
        for kind in present:
            rows = np.flatnonzero(group.kinds == kind)
            kept[rows[(np.arange(len(rows)) + counts[kind]) % world == rank]] = True
            counts[kind] += len(rows)
        shards.append(keep_kinds(group, kept))
    if min(counts.values()) < world:
        raise DataError(f"There are fewer rows of a kind than workers: {min(counts.values())} for {world}.")
    return shards


@dataclass
class TrainingData:
    """What a run trains and validates on.

    Attributes:
        groups: Row groups of all workers.
        validation: Row groups to validate on; may be empty.
    """

    groups: list[RowGroup]
    validation: list[RowGroup]


class GroupCache:
    """Decoded row groups, the most recently used ones, shared by threads; each is loaded once."""

    def __init__(self, load: Callable[[RowGroup], list[Sample | None]], capacity: int):
        self._load = load
        self._capacity = capacity
        self._entries: OrderedDict[tuple[str, int], Future[list[Sample | None]]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, group: RowGroup) -> list[Sample | None]:
        """Returns the samples of a group, waiting for a thread that is loading it already."""
        key = (group.path, group.index)
        with self._lock:
            future = self._entries.get(key)
            mine = future is None
            if future is None:
                future = self._entries[key] = Future()
                while len(self._entries) > self._capacity:
                    self._entries.popitem(last=False)
            self._entries.move_to_end(key)
        if mine:
            try:
                future.set_result(self._load(group))
            except BaseException as error:
                future.set_exception(error)
        return future.result()


def sample_bytes(size: int) -> int:
    """Memory of one decoded paired sample: image, normals and regions."""
    return 7 * size * size


class RowOrder:
    """The endless shuffled order of the rows that hold what a pass needs.

    Args:
        groups: Row groups.
        needs: Bits that a row must have, such as PAIRED.
        seed: Names the order together with the epoch.
        window_rows: About how many rows are shuffled together.

    Raises:
        DataError: There is no such row.
    """

    def __init__(self, groups: Sequence[RowGroup], needs: int, seed: int, window_rows: int):
        self._seed = seed
        self._window_rows = window_rows
        self._rows = [np.flatnonzero((group.kinds & needs) == needs) for group in groups]
        self._groups = list(groups)
        self.length = sum(map(len, self._rows))
        if not self.length:
            raise DataError(
                "There is no row with " + {IMAGE: "an image", NORMALS: "normals"}.get(needs, "both") + "."
            )
        # Threads that make batches ahead work on both sides of an epoch's border, and on many of few rows.
        self._kept = max(2, KEPT_ROWS // self.length)
        self._epochs: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __getitem__(self, position: int) -> tuple[RowGroup, int]:
        """Returns the group and the row at a position, which may lie in any epoch."""
        epoch, index = divmod(position, self.length)
        with self._lock:
            rows = self._epochs.get(epoch)
            if rows is None:
                rows = self._epochs[epoch] = self._shuffle(epoch)
                if len(self._epochs) > self._kept:
                    del self._epochs[next(iter(self._epochs))]
        group, row = rows[index]
        return self._groups[group], int(row)

    def _shuffle(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, epoch])
        windows, window, held = [], [], 0
        for group in rng.permutation(len(self._groups)):
            rows = self._rows[group]
            window.append(np.column_stack([np.full(len(rows), group), rows]))
            held += len(rows)
            if held >= self._window_rows:
                windows.append(rng.permutation(np.concatenate(window)))
                window, held = [], 0
        if window:
            windows.append(rng.permutation(np.concatenate(window)))
        return np.concatenate(windows)
