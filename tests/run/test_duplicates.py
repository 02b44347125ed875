"""Photos with the same bytes: computed once in their chunk, and every one has its own whole record."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from bad_images import encode, portrait

from pipeline.config import load_config
from pipeline.errors import ReadError
from pipeline.images.items import ListedFile
from pipeline.recipes.normals import NormalsRun
from pipeline.run import records
from pipeline.run.plan import write_plan
from pipeline.run.stages import CropStage, Fetched, NormalsStage, Work, WriteStage
from pipeline.storage.store import Store


def photos(*contents: bytes | ReadError) -> list[tuple[ListedFile, bytes | ReadError]]:
    return [(ListedFile(10 + index, f"/{index}.png"), data) for index, data in enumerate(contents)]


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
    cropped = CropStage(config)(Fetched(0, 0, photos(*contents)))
    assert len(cropped.crops) == 1
    assert cropped.bytes_read == 2 * len(face) + 2 * len(empty)
    store = Store(str(tmp_path))
    plan = write_plan(store, [photo for photo, _ in photos(*contents)], config.plan)
    written = WriteStage(Work(store, "s", plan, config))(NormalsStage(config)(cropped))
    rows = pq.read_table(tmp_path / "_work" / "s" / "00000" / "0000.parquet").to_pylist()
    assert [row["duplicate_of"] for row in rows] == [None, None, 10, None, None, 11, 13, None]
    assert [(row["id"], row["uri"]) for row in rows] == [(10 + index, f"/{index}.png") for index in range(8)]
    assert [row["error_code"] for row in rows] == [
        None, "no_face", None, "empty_file", "not_found", "no_face", "empty_file", "not_found"
    ]  # fmt: skip
    same = [name for name in records.SCHEMA.names if name not in ("id", "uri", "duplicate_of")]
    for row in rows:
        first = next(other for other in rows if other["id"] == (row["duplicate_of"] or row["id"]))
        assert {name: row[name] for name in same} == {name: first[name] for name in same}
    assert (written.counts.found["faces"], written.counts.duplicates, written.counts.images) == (2, 3, 8)


def test_landmarks_from_files_go_by_the_name(tmp_path):
    places = np.mgrid[:4, :17].reshape(2, 68).T[:, ::-1] * (5, 20) + 30.0
    np.save(tmp_path / "0.npy", places)
    settings = load_config(NormalsRun, None, ["detect.mode=files", f"detect.landmarks={tmp_path}"])
    data = encode(portrait(160), "PNG")
    cropped = CropStage(settings)(Fetched(0, 0, photos(data, data)))
    assert [row["duplicate_of"] for row in cropped.records] == [None, None]
    assert [len(row["faces"]) for row in cropped.records] == [1, 0]
