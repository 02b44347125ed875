"""Training rows split, shared out, shuffled, kept."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest
from spheres import sphere_row, write_mixed, write_rows

from pipeline.errors import DataError
from pipeline.samples.rows import IMAGE, NORMALS, PAIRED, BadRows, find_row_groups, load_group
from pipeline.train.batches import PassStream
from pipeline.train.data import GroupCache, RowOrder, shard_groups, split_validation


@pytest.fixture
def mixed(tmp_path):
    return write_mixed(tmp_path / "data")


def test_validation_rows_are_kept_out_of_training(mixed):
    train, held = split_validation(find_row_groups([mixed]), 0.5)
    kinds = [np.concatenate([group.kinds for group in groups]) for groups in (train, held)]
    assert not (kinds[0] & kinds[1]).any()
    assert (kinds[1] == PAIRED).sum() > 0
    assert ((kinds[0] == IMAGE).sum(), (kinds[0] == NORMALS).sum()) == (3, 4)


def test_validation_rows_come_from_small_groups_too(tmp_path):
    path = write_rows(tmp_path / "a.parquet", [sphere_row(0, 32)] * 40, group=4)
    train, held = split_validation(find_row_groups([path]), 0.1)
    assert sum((group.kinds > 0).sum() for group in held) == 4
    assert sum((group.kinds > 0).sum() for group in train) == 36


def rows_of(groups) -> set:
    return {
        (group.path, group.index, int(row), int(group.kinds[row]))
        for group in groups
        for row in np.flatnonzero(group.kinds)
    }


@pytest.mark.parametrize("world", [1, 2, 3])
def test_workers_share_rows_of_every_kind_without_overlap(mixed, world):
    groups = find_row_groups([mixed])
    seen = [rows_of(shard_groups(groups, rank, world)) for rank in range(world)]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 20
    assert all({kind for *_, kind in rows} == {IMAGE, NORMALS, PAIRED} for rows in seen)
    with pytest.raises(DataError, match="3 for 4"):
        shard_groups(groups, 0, 4)


def test_workers_share_whole_row_groups_where_there_are_enough(tmp_path):
    path = write_rows(tmp_path / "a.parquet", [sphere_row(0, 32)] * 12, group=2)
    parts = [shard_groups(find_row_groups([path]), rank, 2) for rank in range(2)]
    assert [[group.index for group in part] for part in parts] == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("window", [1, 6, 1000])
def test_an_epoch_is_every_row_once_in_an_order_of_its_own(mixed, window):
    groups = find_row_groups([mixed])

    def epoch(number, seed=0):
        order = RowOrder(groups, PAIRED, seed, window)
        keys = [order[number * order.length + i] for i in range(order.length)]
        return [(group.path, group.index, row) for group, row in keys]

    first = epoch(0)
    assert len(set(first)) == len(first) == 13
    assert epoch(0) == first
    assert sorted(epoch(1)) == sorted(first)
    assert epoch(1) != first
    assert epoch(0, seed=1) != first


@pytest.mark.parametrize("rows", [1, 3, 10, 30])
@pytest.mark.parametrize("batch_size", [4, 16, 48])
def test_few_rows_make_batches_in_one_order_with_any_threads(tmp_path, rows, batch_size):
    path = write_rows(tmp_path / "a.parquet", [sphere_row(i, 32) for i in range(rows)], group=4)
    groups = find_row_groups([path])
    found = []
    for threads in (1, 2, 4):
        order = RowOrder(groups, PAIRED, 0, window_rows=100)
        stream = PassStream(
            order=order,
            cache=GroupCache(lambda group: load_group(group, 32, BadRows()), len(groups)),
            change=lambda sample, rng: sample,
            seed=[0],
            batch_size=batch_size,
            image=True,
            normals=False,
        )
        with ThreadPoolExecutor(threads) as pool:
            batches = islice(stream.batches(0, pool, 6), 8)
            found.append([batch.image.numpy().tobytes() for _, batch in batches])
    assert found[0] == found[1] == found[2]


def test_groups_are_read_window_by_window(mixed):
    groups = find_row_groups([mixed])
    order = RowOrder(groups, IMAGE, 0, window_rows=6)
    visited = [order[i][0] for i in range(order.length)]
    last = {id(group): i for i, group in enumerate(visited)}
    first = {id(group): i for i, group in reversed(list(enumerate(visited)))}
    # No group is open over more than two windows' worth of rows.
    assert max(last[key] - first[key] for key in last) < 12


def test_cache_loads_each_group_once_and_forgets_the_oldest(mixed):
    groups = find_row_groups([mixed])
    loads = []
    cache = GroupCache(lambda group: loads.append(group.index) or [], capacity=2)
    for group in (groups[0], groups[1], groups[0], groups[2], groups[0], groups[1]):
        cache(group)
    assert len(loads) == 4


def test_no_row_for_a_pass_is_an_error(mixed):
    groups = [group for group in find_row_groups([mixed]) if not (group.kinds & NORMALS).any()]
    with pytest.raises(DataError, match="no row with normals"):
        RowOrder(groups, NORMALS, 0, 10)
