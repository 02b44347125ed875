"""The stages: one record per item whatever happens to it."""

from dataclasses import replace

import faulty_detector
import numpy as np
import pytest
from bad_images import encode, portrait
from normals_run import chunk_of, work_in

from pipeline.config import load_config
from pipeline.errors import ImageError, ReadError, WeightsError
from pipeline.images.items import one_photo_each
from pipeline.images.sources import list_input
from pipeline.normals.encoding import decode_normals
from pipeline.recipes.normals import RECIPE, NormalsRun
from pipeline.run import stages
from pipeline.run.items import Chunk, Item
from pipeline.run.plan_photos import write_plan
from pipeline.run.recipe import Stage
from pipeline.run.stages import ReadStage, RecipeStage, WriteStage
from pipeline.run.work import Work
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


def run_stage(config: NormalsRun, index: int, chunk: Chunk) -> list[dict]:
    """Takes a chunk through one stage of the recipe; returns the records."""
    stage = RecipeStage(work_in(Store("/nowhere"), config=config), index)
    stage(chunk)
    stage.close()
    return [item.record for item in chunk.items]


def test_every_photo_gets_its_reason(config, face_png):
    chunk = chunk_of(face_png, b"", ReadError("Gone.", "not_found"), encode(portrait(300), "PNG"))
    rows = run_stage(config, 0, chunk)
    assert [row["error_code"] for row in rows] == [None, "empty_file", "not_found", None]
    assert [item.is_open for item in chunk.items] == [True, False, False, True]
    assert rows[1]["sha256"] is not None
    assert rows[2]["sha256"] is None
    assert rows[3]["width"] == 300
    assert set(chunk.seconds) == {"crop"}
    assert all(photo.data is None for item in chunk.items for photo in item.photos)


def test_unexpected_errors_become_records(custom, face_png):
    bad = encode(faulty_detector.mark(portrait(), "fail"), "PNG")
    rows = run_stage(custom, 0, chunk_of(bad, face_png[:2000], face_png))
    assert [row["error_code"] for row in rows] == ["detector_failed", "truncated", None]
    assert "failed: ZeroDivisionError: odd" in rows[0]["error_message"]
    assert "(faulty_detector.py, line " in rows[0]["error_message"]


def test_errors_that_concern_the_run_end_it(custom):
    with pytest.raises(WeightsError, match="gone"):
        run_stage(custom, 0, chunk_of(encode(faulty_detector.mark(portrait(), "fail_for_all"), "PNG")))


def test_files_too_large_to_carry_are_read_one_by_one(tmp_path, config, face_png, monkeypatch):
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.png").write_bytes(face_png + bytes([number]))
    store = Store(str(tmp_path / "out"))
    plan = write_plan(store, one_photo_each(list_input(str(tmp_path / "in"))), config.plan)
    monkeypatch.setattr(stages, "CARRIED_BYTES", 2 * len(face_png) + 2)
    chunk = ReadStage(Work(store, "s", plan, RECIPE, config))(0, 0)
    assert [item.photos[0].data is not None for item in chunk.items] == [True, True, False, False, False]
    assert [row["error_code"] for row in run_stage(config, 0, chunk)] == [None] * 5


class Together:
    """A network that fails on many items at once and on those whose number is bad."""

    def __init__(self, most: int, bad: int = -1):
        self.most, self.bad = most, bad

    def __call__(self, items: list[Item]) -> None:
        if len(items) > self.most or any(item.record["id"] == self.bad for item in items):
            raise RuntimeError("the network broke")
        for item in items:
            item.handed_on = item.record["id"]


def network_stage(config: NormalsRun, *arguments: int) -> RecipeStage:
    stage = Stage("network", Together, "network", lambda config: arguments)
    recipe = replace(RECIPE, stages=(RECIPE.stages[0], stage))
    return RecipeStage(replace(work_in(Store("/nowhere"), config=config), recipe=recipe), 1)


def test_failing_batch_costs_only_the_failing_item(config):
    chunk = chunk_of(b"a", b"b", b"c", b"d")
    chunk.items[1].end_empty("no_face", "None.")
    network_stage(config, 2, 12)(chunk)
    assert [item.handed_on for item in chunk.items] == [10, None, None, 13]
    assert chunk.items[2].record["error_code"] == "internal_error"
    assert "the network broke" in chunk.items[2].record["error_message"]
    assert chunk.items[1].record["error_code"] == "no_face"


def test_all_items_may_fail(config):
    chunk = chunk_of(b"a", b"b")
    network_stage(config, 0)(chunk)
    assert [item.record["status"] for item in chunk.items] == ["failed", "failed"]


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_normals_are_encoded_as_configured(config, face_png, bits, dtype):
    output = config.output.model_copy(update={"bits": bits, "convention": "opencv"})
    found = []
    for settings in (config, config.model_copy(update={"output": output})):
        chunk = chunk_of(face_png)
        run_stage(settings, 0, chunk)
        run_stage(settings, 1, chunk)
        found.append(chunk.items[0].handed_on[0]["normals"])
    ours, theirs = found
    assert theirs.dtype == dtype
    difference = decode_normals(theirs, "opencv") - decode_normals(ours)
    assert np.abs(difference).max() < 0.02


def test_chunk_without_faces(tmp_path, config):
    work = work_in(Store(str(tmp_path)), config=config)
    chunk = chunk_of(b"")
    for index in range(2):
        RecipeStage(work, index)(chunk)
    counts = WriteStage(work)(chunk).counts
    assert (counts.images, counts.records, counts.found["faces"], counts.failures) == (1, 1, 0, 1)
    assert set(counts.seconds) == {"crop", "normals", "write"}


def test_record_that_cannot_be_completed_is_a_failure(tmp_path, config):
    def finish(item, config):
        raise ImageError("No room.", "image_failed")

    record = replace(RECIPE.record, finish=finish)
    work = work_in(Store(str(tmp_path)), config=config)
    work = replace(work, recipe=replace(RECIPE, record=record))
    counts = WriteStage(work)(chunk_of(b"")).counts
    assert counts.error_codes == {"image_failed": 1}
