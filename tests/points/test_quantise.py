"""int8 layers answer nearly as fp32 ones, and `points.int8.onnx` is made like this."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.device import has_fast_int8
from pipeline.faces.points import DENSE, SIZE, PointsFinder
from pipeline.faces.window import RolledWindow, window_of_box
from pipeline.images.given import as_pixels
from pipeline.points.quantise import head_crops, quantise_points
from pipeline.weights import read_onnx

PHOTOS = Path(__file__).resolve().parents[1] / "photos"


@pytest.fixture(scope="module")
def whole() -> RolledWindow:
    """A window that is the crop itself."""
    return RolledWindow((SIZE - 1) / 2, (SIZE - 1) / 2, SIZE)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory) -> Path:
    window = window_of_box((179, 71, 265, 176))
    photo = as_pixels(PHOTOS / "astronaut.jpg")
    crops = [
        RolledWindow(window.x + dx, window.y, window.side, roll).crop(photo, SIZE)
        for dx in (-5, 0, 5)
        for roll in (-20, 0, 20)
    ]
    path = tmp_path_factory.mktemp("points") / "points.int8.onnx"
    path.write_bytes(quantise_points(read_onnx("points"), np.stack(crops)))
    return path


def test_the_layers_are_int8_but_for_the_first_and_those_that_answer(quantised):
    for model in (onnx.load(quantised), onnx.load_from_string(read_onnx("points", int8=True))):
        weights = {
            kind: Counter(
                node.input[1].endswith("_DequantizeLinear_Output")
                for node in model.graph.node
                if node.op_type == kind
            )
            for kind in ("Conv", "Gemm")
        }
        assert weights == {"Conv": {True: 20, False: 1}, "Gemm": {True: 7, False: 5}}
    made, fp32 = PointsFinder(quantised), PointsFinder()
    assert made.metadata["vertices"] == fp32.metadata["vertices"]
    assert quantised.stat().st_size < 0.6 * len(read_onnx("points"))


@pytest.mark.skipif(not has_fast_int8(), reason="what this processor has instead of VNNI overflows")
def test_answers_are_nearly_those_of_fp32(quantised, whole, tmp_path):
    plain = tmp_path / "points.onnx"
    plain.write_bytes(read_onnx("points"))
    finders = [PointsFinder(path) for path in (plain, quantised, "points")]
    photo = as_pixels(PHOTOS / "rendered_4.jpg")
    window = finders[0].refine(photo, window_of_box((0, 0, *np.array(photo.shape[1::-1]) - 1))).window
    crop = window.crop(photo, SIZE)
    expected, *others = (finder.look(crop, whole) for finder in finders)
    seen = expected.visible[:DENSE] > 0.5
    assert seen.mean() > 0.5
    # The file of the test has seen one face alone.
    for found, most in zip(others, (0.5, 0.25), strict=True):
        assert np.linalg.norm(found.points - expected.points, axis=1)[seen].mean() < most
        assert np.abs(np.log(found.sigma / expected.sigma)).mean() < 0.1
        turned = found.rotation.T @ expected.rotation
        assert np.degrees(np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1))) < 1.5


def test_crops_are_of_heads(ict_facekit, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline.samples.schema import RENDERED_SCHEMA
    from pipeline.synth.rows import encode_batch
    from pipeline.synth.sample import SampleConfig, Sampler

    rows = encode_batch(Sampler(SampleConfig(size=64), 5, model=ict_facekit).render([0, 1]), "r-")
    pq.write_table(pa.Table.from_pylist(rows, RENDERED_SCHEMA), tmp_path / "faces.parquet")
    crops = head_crops(str(tmp_path), 2, ict_facekit)
    assert (crops.shape, crops.dtype) == ((2, SIZE, SIZE, 3), np.uint8)
    assert crops.std() > 20
