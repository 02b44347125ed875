"""Row groups found, told by what they hold, read; bad rows."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spheres import sphere_normals, sphere_row, write_mixed, write_rows

from pipeline.errors import DataError
from pipeline.evaluate.metrics import angular_error
from pipeline.images.png import encode_png
from pipeline.regions import Region
from pipeline.samples.batch import float_normals
from pipeline.samples.rows import IMAGE, NORMALS, PAIRED, BadRows, find_row_groups, load_group


@pytest.fixture
def mixed(tmp_path):
    return write_mixed(tmp_path / "data")


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
