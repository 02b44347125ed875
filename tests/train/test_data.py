from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tenacity
from spheres import sphere_normals, sphere_row, write_rows

from pipeline.errors import DataError
from pipeline.evaluate.metrics import angular_error
from pipeline.images.png import encode_png
from pipeline.normals.encoding import encode_normals
from pipeline.regions import Region
from pipeline.samples.sample import decode_row, resize_normals
from pipeline.train.augment import unit_or_zero
from pipeline.train.batches import float_normals
from pipeline.train.data import (
    IMAGE,
    NORMALS,
    PAIRED,
    BadRows,
    GroupCache,
    RowOrder,
    find_row_groups,
    load_group,
    shard_groups,
    split_validation,
)


@pytest.fixture
def mixed(tmp_path):
    """A folder with two files: paired, image-only and normal-only rows."""
    rows = [sphere_row(i, 32) for i in range(20)]
    for row in rows[5:8]:
        row |= {"normal": None, "regions": None}
    for row in rows[8:12]:
        row["image"] = None
    write_rows(tmp_path / "data" / "a.parquet", rows[:10], group=4)
    write_rows(tmp_path / "data" / "deep" / "b.parquet", rows[10:], group=4)
    return str(tmp_path / "data")


def test_rows_are_sorted_by_what_they_hold(mixed):
    kinds = np.concatenate([group.kinds for group in find_row_groups([mixed])])
    assert list(kinds) == [PAIRED] * 5 + [IMAGE] * 3 + [NORMALS] * 4 + [PAIRED] * 8


def test_kinds_without_statistics(tmp_path):
    rows = [sphere_row(0, 32), sphere_row(1, 32, normal=None)]
    table = pa.Table.from_pylist(
        rows, pa.schema([("id", pa.string()), ("image", pa.binary()), ("normal", pa.binary())])
    )
    pq.write_table(table, tmp_path / "a.parquet", write_statistics=False)
    (group,) = find_row_groups([str(tmp_path)])
    assert list(group.kinds) == [PAIRED, IMAGE]


def test_rows_come_back_as_they_were_written(tmp_path):
    path = write_rows(tmp_path / "a.parquet", [sphere_row(3, 32, bits=16)])
    bad = BadRows()
    (sample,) = load_group(find_row_groups([path])[0], None, bad)
    rng = np.random.default_rng(3)
    centre = 15.5 + rng.uniform(-0.05, 0.05, 2) * 32
    truth = sphere_normals(32, tuple(centre), rng.uniform(0.3, 0.42) * 32)
    inside = truth.any(-1)
    assert (sample.normals.any(-1) == inside).all()
    assert angular_error(float_normals(sample), truth)[inside].max() < 0.5
    assert (sample.regions == np.where(inside, Region.SKIN, Region.BACKGROUND)).all()
    assert sample.meta["skin_tone"] == 3
    assert not bad.reasons


def test_bad_rows_are_skipped_counted_and_named(tmp_path, caplog):
    huge = bytearray(encode_png(np.zeros((8, 8, 3), np.uint8)))
    huge[16:24] = (60000).to_bytes(4, "big") * 2
    good = encode_png(np.zeros((16, 16, 3), np.uint8))
    damage = {
        "not an image": {"image": b"no picture"},
        "cut off": {"image": sphere_row(0, 64)["image"][:200]},
        "huge": {"image": bytes(huge)},
        "sizes differ": {"image": good},
        "not square": {"image": encode_png(np.zeros((32, 20, 3), np.uint8)), "normal": None, "regions": None},
        "no normals": {"normal": encode_png(np.zeros((32, 32, 3), np.uint8))},
        "bad meta": {"meta": "{"},
        "meta is a list": {"meta": "[1]"},
        "landmarks": {"landmarks": [1.0, 2.0]},
    }
    rows = [sphere_row(0, 32), *(sphere_row(1, 32, id=name, **change) for name, change in damage.items())]
    path = write_rows(tmp_path / "a.parquet", rows, group=100)
    bad = BadRows()
    samples = load_group(find_row_groups([path])[0], None, bad)
    assert samples[0] is not None
    assert samples[1:] == [None] * len(damage)
    assert [name.split(" of ")[0] for name in bad.reasons] == list(damage)
    assert all(name in caplog.text for name in damage)


def test_a_read_that_fails_for_a_moment_is_done_again(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    write_rows(path, [sphere_row(i, 32) for i in range(2)], group=2)
    (group,) = find_row_groups([str(path)])
    opened, failures = group.filesystem.open, iter([ConnectionResetError(), TimeoutError()])

    def fail(*arguments):
        if error := next(failures, None):
            raise error
        return opened(*arguments)

    monkeypatch.setattr(tenacity, "wait_random_exponential", lambda **_: tenacity.wait_none())
    monkeypatch.setattr(group.filesystem, "open", fail)
    bad = BadRows()
    assert all(sample is not None for sample in load_group(group, None, bad))
    assert not bad.reasons


def test_a_run_s_folder_is_image_only_data(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "plan").mkdir()
    (tmp_path / "records").mkdir()
    pq.write_table(pa.table({"id": [1], "uri": ["a.jpg"]}), tmp_path / "plan" / "photos-1.parquet")
    write_rows(tmp_path / "records" / "shard-00000.parquet", [sphere_row(i, 32) for i in range(2)], group=2)
    (group,) = find_row_groups([str(tmp_path)])
    assert group.path.endswith("records/shard-00000.parquet")


def test_a_damaged_file_costs_its_row_groups_only(tmp_path):
    path = tmp_path / "a.parquet"
    write_rows(path, [sphere_row(i, 32) for i in range(4)], group=2)
    groups = find_row_groups([str(path)])
    data = bytearray(path.read_bytes())
    data[40:400] = bytes(360)
    path.write_bytes(data)
    bad = BadRows()
    assert load_group(groups[0], None, bad) == [None, None]
    assert all(sample is not None for sample in load_group(groups[1], None, bad))
    assert len(bad.reasons) >= 1


def test_many_bad_rows_do_not_fill_the_log(caplog):
    bad = BadRows()
    for i in range(100):
        bad.add(f"row {i}", "broken")
        bad.add(f"row {i}", "broken")
    assert len(bad.reasons) == 100
    assert len(caplog.records) == 21


def test_empty_and_foreign_data_are_refused(tmp_path):
    with pytest.raises(DataError, match="no Parquet file"):
        find_row_groups([str(tmp_path)])
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"not training data.*id, text"):
        find_row_groups([str(tmp_path)])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(DataError, match="Cannot read"):
        find_row_groups([str(tmp_path)])
    write_rows(tmp_path / "a.parquet", [])
    with pytest.raises(DataError, match="no training row"):
        find_row_groups([str(tmp_path)])


def test_records_of_a_run_are_image_only_data(tmp_path):
    crop = encode_png(np.full((32, 32, 3), 77, np.uint8))
    face = pa.struct([("index", pa.int32()), ("crop_png", pa.binary()), ("normal_png", pa.binary())])
    schema = pa.schema([("id", pa.int64()), ("status", pa.string()), ("faces", pa.list_(face))])
    faces = [[{"index": i, "crop_png": crop, "normal_png": crop} for i in range(n)] for n in (2, 0, 1)]
    rows = [{"id": 7 + i, "status": "ok", "faces": found} for i, found in enumerate(faces)]
    rows.append({"id": 10, "status": "failed", "faces": None})
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "part.parquet")
    (group,) = find_row_groups([str(tmp_path)])
    assert list(group.kinds) == [IMAGE] * 3
    samples = load_group(group, 16, BadRows())
    assert [sample.id for sample in samples] == ["7/0", "7/1", "9/0"]
    assert all(sample.normals is None and (sample.image == 77).all() for sample in samples)


def test_masks_and_vectors_of_wrong_length_are_not_trusted():
    normals = np.zeros((32, 32, 3), np.float32)
    normals[..., 2] = 1
    pixels = encode_normals(normals)
    pixels[:4] = 0
    pixels[4:8] = 128
    mask = np.full((32, 32), 255, np.uint8)
    mask[8:12] = 0
    row = {"id": "a", "normal": encode_png(pixels), "mask": encode_png(mask)}
    sample = decode_row(row, None)
    trusted = sample.normals.any(-1)
    assert not trusted[:12].any()
    assert trusted[12:].all()
    assert (sample.regions == np.where(trusted, Region.SKIN, Region.IGNORE)).all()
    assert not sample.has_regions


def test_resized_normals_average_valid_pixels_only():
    normals = np.zeros((4, 4, 3), np.float32)
    normals[:, :2] = (0.6, 0, 0.8)
    normals[0, 2] = (0, 0, 1)
    normals[:2, 3] = (0, 0.6, 0.8)
    small = resize_normals(normals, 2)
    assert small[0, 0] == pytest.approx((0.6, 0, 0.8), abs=1e-6)
    # Three valid pixels of four, two of one kind: their sum, at unit length.
    mean = np.array([0, 1.2, 2.6]) / np.linalg.norm([0, 1.2, 2.6])
    assert small[0, 1] == pytest.approx(mean, abs=1e-6)
    assert not small[1, 1].any()


def test_resized_sphere_is_the_sphere_rendered_small():
    small = resize_normals(sphere_normals(256), 64)
    truth = sphere_normals(64)
    both = small.any(-1) & (truth[..., 2] > 0.3)
    assert angular_error(small, truth)[both].max() < 1.0


def test_landmarks_scale_with_the_pixels():
    row = sphere_row(0, 64, landmarks=np.full(136, 10.0))
    assert decode_row(row, 32).landmarks == pytest.approx(np.full((68, 2), 4.75))


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


def test_jpeg_is_measured_before_it_is_decoded():
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = (50000).to_bytes(2, "big") * 2
    with pytest.raises(DataError, match="too large: 50000x50000"):
        decode_row({"id": "a", "image": bytes(jpeg)}, None)


def test_short_vectors_become_zero():
    normals = np.array([[[0, 0, 0.49], [0, 0.8, 0]]], np.float32)
    assert unit_or_zero(normals).tolist() == [[[0, 0, 0], [0, 1, 0]]]
