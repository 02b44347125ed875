"""Photos with the same bytes: computed once in their chunk, and every one has its own whole record."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from bad_images import encode, portrait
from normals_run import chunk_of, work_in

from pipeline.config import load_config
from pipeline.errors import ReadError
from pipeline.recipes.face_record import SCHEMA
from pipeline.recipes.normals import NormalsRun
from pipeline.run.stages import RecipeStage, WriteStage
from pipeline.storage.store import Store


@pytest.fixture(scope="module")
def config(random_weights) -> NormalsRun:
    return load_config(NormalsRun, None, [f"normals.weights={random_weights}"])


def test_work_is_done_once_and_every_row_is_whole(config, tmp_path):
    face, empty = encode(portrait(160), "PNG"), encode(portrait(160)[:40], "PNG")
    contents = (
        face,
        empty,
        face,
        b"",
        ReadError("Gone.", "not_found"),
        empty,
        b"",
        ReadError("Gone.", "not_found"),
    )
    work = work_in(Store(str(tmp_path)), config=config)
    cropped = RecipeStage(work, 0)(chunk_of(*contents))
    assert sum(bool(item.handed_on) for item in cropped.items) == 1
    assert cropped.bytes_read == 2 * len(face) + 2 * len(empty)
    written = WriteStage(work)(RecipeStage(work, 1)(cropped))
    rows = pq.read_table(tmp_path / "_work" / "s" / "00000" / "0000.parquet").to_pylist()
    assert [row["duplicate_of"] for row in rows] == [None, None, 10, None, None, 11, 13, None]
    assert [(row["id"], row["uri"]) for row in rows] == [(10 + index, f"/{index}.png") for index in range(8)]
    assert [row["error_code"] for row in rows] == [
        None, "no_face", None, "empty_file", "not_found", "no_face", "empty_file", "not_found"
    ]  # fmt: skip
    same = [name for name in SCHEMA.names if name not in ("id", "uri", "duplicate_of")]
    for row in rows:
        first = next(other for other in rows if other["id"] == (row["duplicate_of"] or row["id"]))
        assert {name: row[name] for name in same} == {name: first[name] for name in same}
    assert (written.counts.found["faces"], written.counts.duplicates, written.counts.images) == (2, 3, 8)


def test_landmarks_from_files_go_by_the_name(tmp_path):
    places = np.mgrid[:4, :17].reshape(2, 68).T[:, ::-1] * (5, 20) + 30.0
    np.save(tmp_path / "0.npy", places)
    settings = load_config(NormalsRun, None, ["detect.mode=files", f"detect.landmarks={tmp_path}"])
    data = encode(portrait(160), "PNG")
    cropped = RecipeStage(work_in(Store(str(tmp_path / "out")), config=settings), 0)(chunk_of(data, data))
    assert [item.record["duplicate_of"] for item in cropped.items] == [None, None]
    assert [len(item.record["faces"]) for item in cropped.items] == [1, 0]
