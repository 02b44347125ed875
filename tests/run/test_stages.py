"""The stages: one record per photo whatever happens to it."""

from __future__ import annotations

import faulty_detector
import numpy as np
import pytest
from bad_images import encode, portrait

from pipeline.config import load_config
from pipeline.errors import ReadError, WeightsError
from pipeline.images.items import ListedFile
from pipeline.images.sources import list_input
from pipeline.normals.encoding import decode_normals
from pipeline.normals.inference import Estimated
from pipeline.recipes.normals import NormalsRun
from pipeline.run import records, stages
from pipeline.run.plan import write_plan
from pipeline.run.stages import CropStage, Fetched, NormalsStage, ReadStage, Work, WriteStage
from pipeline.storage.store import Store


@pytest.fixture(scope="module")
def config(random_weights) -> NormalsRun:
    return load_config(NormalsRun, None, [f"normals.weights={random_weights}"])


@pytest.fixture(scope="module")
def custom(random_weights) -> NormalsRun:
    options = ["detect.mode=custom", f"detect.detector={faulty_detector.REFERENCE}"]
    return load_config(NormalsRun, None, [f"normals.weights={random_weights}", *options])


@pytest.fixture(scope="module")
def face_png() -> bytes:
    return encode(portrait(), "PNG")


def fetched(*contents: bytes | ReadError | None) -> Fetched:
    return Fetched(0, 0, [(ListedFile(index, f"/{index}.png"), data) for index, data in enumerate(contents)])


@pytest.fixture(scope="module")
def cropped(config, face_png):
    def crop(*contents):
        return CropStage(config)(fetched(*contents))

    return crop


def test_crops_follow_the_order_of_the_records(cropped, face_png):
    chunk = cropped(face_png, b"", ReadError("Gone.", "not_found"), encode(portrait(300), "PNG"))
    assert [row["status"] for row in chunk.records] == ["ok", "failed", "failed", "ok"]
    assert [row["error_code"] for row in chunk.records] == [None, "empty_file", "not_found", None]
    assert chunk.records[1]["sha256"] is not None
    assert chunk.records[2]["sha256"] is None
    assert (chunk.crops.shape, chunk.crops.dtype) == ((2, 256, 256, 3), np.uint8)
    assert chunk.records[3]["width"] == 300
    assert set(chunk.seconds) == {"crop"}


def test_unexpected_errors_become_records(custom, face_png, caplog):
    bad = encode(faulty_detector.mark(portrait(), "fail"), "PNG")
    chunk = CropStage(custom)(fetched(bad, face_png[:2000], face_png))
    assert [row["error_code"] for row in chunk.records] == ["internal_error", "truncated", None]
    assert chunk.records[0]["error_message"] == "ZeroDivisionError: odd"
    assert chunk.records[0]["width"] == 256
    assert chunk.crops.shape == (1, 256, 256, 3)
    assert "faulty_detector.py" in caplog.text  # where it comes from, in another process


def test_errors_that_concern_the_run_end_it(custom):
    with pytest.raises(WeightsError, match="gone"):
        CropStage(custom)(fetched(encode(faulty_detector.mark(portrait(), "fail_for_all"), "PNG")))


def test_files_too_large_to_carry_are_read_one_by_one(tmp_path, config, face_png, monkeypatch):
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.png").write_bytes(face_png + bytes([number]))
    store = Store(str(tmp_path / "out"))
    plan = write_plan(store, list_input(str(tmp_path / "in")), config.plan)
    monkeypatch.setattr(stages, "CARRIED_BYTES", 2 * len(face_png) + 2)
    chunk = ReadStage(Work(store, "s", plan, config))(0, 0)
    assert [content is not None for _, content in chunk.photos] == [True, True, False, False, False]
    assert [row["status"] for row in CropStage(config)(chunk).records] == ["ok"] * 5


class FakeNetwork:
    """Flat normals; the mask tells the brightness of the crop. Fails on large batches and on `bad`."""

    def __init__(self, most: int, bad: int = -1, masks: bool = True):
        self.most, self.bad, self.masks = most, bad, masks

    def __call__(self, crops: np.ndarray) -> Estimated:
        if len(crops) > self.most or (len(crops) and int(crops[0, 0, 0, 0]) == self.bad):
            raise RuntimeError("the network broke")
        normals = np.zeros(crops.shape, np.float32)
        normals[..., 2] = 1
        return Estimated(normals, crops[..., 0].copy() if self.masks else None, None)


def chunk_of_faces(counts: list[int]) -> stages.Cropped:
    rows, number = [], 0
    for photo, count in enumerate(counts):
        row = records.new_record(photo, f"/{photo}") | {"status": records.OK if count else records.NO_FACE}
        row["faces"] = [{"index": number + index, "mask_png": b"hull"} for index in range(count)]
        number += count
        rows.append(row)
    crops = np.broadcast_to(np.arange(number, dtype=np.uint8)[:, None, None, None], (number, 256, 256, 3))
    return stages.Cropped(0, 0, rows, crops.copy(), 0)


@pytest.mark.parametrize("masks", [True, False])
def test_failing_batch_costs_only_the_failing_photo(config, masks):
    stage = NormalsStage(config)
    stage._estimate = FakeNetwork(most=2, bad=3, masks=masks)
    estimated = stage(chunk_of_faces([2, 0, 1, 2, 1]))
    assert [row["status"] for row in estimated.records] == ["ok", "no_face", "ok", "failed", "ok"]
    assert estimated.records[3]["error_code"] == "internal_error"
    assert "the network broke" in estimated.records[3]["error_message"]
    assert len(estimated.normals) == 4
    if masks:
        assert estimated.masks[:, 0, 0].tolist() == [0, 1, 2, 5]
    else:
        assert estimated.masks is None


def test_all_photos_may_fail(config):
    stage = NormalsStage(config)
    stage._estimate = FakeNetwork(most=0)
    estimated = stage(chunk_of_faces([1, 1]))
    assert [row["status"] for row in estimated.records] == ["failed", "failed"]
    assert estimated.normals.shape == (0, 256, 256, 3)


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_normals_are_encoded_as_configured(config, cropped, face_png, bits, dtype):
    output = config.output.model_copy(update={"bits": bits, "convention": "opencv"})
    chunk = cropped(face_png)
    ours = NormalsStage(config)(chunk).normals
    theirs = NormalsStage(config.model_copy(update={"output": output}))(chunk).normals
    assert theirs.dtype == dtype
    difference = decode_normals(theirs, "opencv") - decode_normals(ours)
    assert np.abs(difference).max() < 0.02


def test_chunk_without_faces(tmp_path, config, cropped):
    store = Store(str(tmp_path))
    plan = write_plan(store, [ListedFile(0, "/0.png")], config.plan)
    work = Work(store, "s", plan, config)
    written = WriteStage(work)(NormalsStage(config)(cropped(b"")))
    assert (written.counts.images, written.counts.found["faces"], written.counts.failures) == (1, 0, 1)
    assert set(written.counts.seconds) == {"crop", "normals", "write"}
