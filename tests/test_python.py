"""Facet as a library: what programs hand in and get back, in threads, event loops and forked processes."""

import asyncio
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from normals_run import run_normals
from PIL import Image

from pipeline import FaceFinder, NormalsEstimator, estimate_normals, read_records
from pipeline.config import load_config
from pipeline.errors import ImageError, OutputError
from pipeline.normals.encoding import decode_normals
from pipeline.recipes.normals import NormalsRun

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "tests/photos/astronaut.jpg"


@pytest.fixture(scope="module")
def estimator(random_weights) -> NormalsEstimator:
    return NormalsEstimator(random_weights)


@pytest.fixture(scope="module")
def out(random_weights, tmp_path_factory) -> Path:
    """A run over one photo."""
    folder = tmp_path_factory.mktemp("python") / "out"
    options = [f"normals.weights={random_weights}", "output.convention=directx", "output.report=false"]
    run_normals(
        str(PHOTO),
        str(folder),
        load_config(NormalsRun, None, [*options, "engine.cpus=1", "engine.name=local"]),
    )
    return folder


def run_program(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_the_page_of_the_readme_runs(out):
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.partition("### From Python")[2].partition("\n### ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert 'read_records("out/")' in program
    program = program.replace('"out/"', repr(str(out)))
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "(256, 256, 3)" in done.stdout.splitlines()[-1]


def test_a_photo_may_be_given_in_any_form(estimator):
    finder = FaceFinder()
    image = Image.open(PHOTO)
    forms = [np.asarray(image.convert("RGB")), image, str(PHOTO), PHOTO, PHOTO.read_bytes()]
    first, *others = estimate_normals(forms, estimator, finder)
    assert len(first) == 1
    for faces in others:
        np.testing.assert_array_equal(faces[0].normals, first[0].normals)
    assert len(finder(PHOTO)) == 1


def test_a_pillow_image_is_turned_upright():
    image = Image.open(PHOTO).convert("RGB").rotate(90, expand=True)
    image.getexif()[0x0112] = 6
    assert len(FaceFinder()(image)) == 1


def test_what_is_no_photo_is_said(estimator, tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        estimate_normals(tmp_path / "gone.jpg", estimator)
    with pytest.raises(ValueError, match="got int"):
        estimate_normals(7, estimator)


def test_threads_and_a_running_event_loop_get_the_same(estimator):
    finder = FaceFinder()
    expected = estimate_normals(PHOTO, estimator, finder)[0].normals
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: estimate_normals(PHOTO, estimator, finder), range(8)))

    async def within_a_loop():
        return estimate_normals(PHOTO, estimator, finder)

    for faces in [*answers, asyncio.run(within_a_loop())]:
        np.testing.assert_allclose(faces[0].normals, expected, atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_process_that_forks_after_use_gets_an_answer(random_weights, runtime):
    program = f"""
import os, torch
torch.set_num_threads(2)
from pipeline import FaceFinder, NormalsEstimator, estimate_normals
estimator, finder = NormalsEstimator({str(random_weights)!r}, runtime={runtime!r}), FaceFinder()
print("parent", len(estimate_normals({str(PHOTO)!r}, estimator, finder)), flush=True)
if (child := os.fork()) == 0:
    print("child", len(estimate_normals({str(PHOTO)!r}, estimator, finder)), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["parent", "1", "child", "1"], done.stderr


class TestReadRecords:
    def test_images_are_arrays(self, out):
        (row,) = read_records(out)
        (face,) = row["faces"]
        assert row["uri"] == str(PHOTO)
        assert (face["landmarks"].shape, face["crop"].shape) == ((68, 2), (256, 256, 3))
        assert (face["mask"].dtype, face["normals"].dtype) == (bool, np.float32)
        assert np.abs(np.linalg.norm(face["normals"], axis=-1) - 1).max() < 1e-5
        whole = np.zeros((row["height"], row["width"], 3), np.uint8)
        face["window"].paste(face["crop"], whole, face["mask"])
        assert whole.any()
        assert not any(name.endswith("_png") for name in face)

    def test_normals_have_our_axes_whatever_the_convention_of_the_run(self, out):
        import cv2
        import pyarrow.dataset

        (stored,) = pyarrow.dataset.dataset(out / "records").to_table(columns=["faces"])["faces"].to_pylist()
        pixels = cv2.imdecode(np.frombuffer(stored[0]["normal_png"], np.uint8), cv2.IMREAD_COLOR_RGB)
        (row,) = read_records(out, ["faces"])
        np.testing.assert_array_equal(row["faces"][0]["normals"], decode_normals(pixels, "directx"))

    def test_columns(self, out):
        assert list(read_records(out, ["uri", "status"])) == [{"uri": str(PHOTO), "status": "ok"}]

    def test_no_run_is_said(self, tmp_path):
        with pytest.raises(OutputError, match="There is no run"):
            read_records(tmp_path)
