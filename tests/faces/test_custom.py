"""Detectors of one's own: what they may answer with, and whose faults theirs are."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.errors import ConfigError, ImageError
from pipeline.faces.custom import CustomDetector, detections, load_detector
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.faces.detectors import Detection

ROOT = Path(__file__).resolve().parents[2]
PHOTO = np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    "answer",
    [
        [(10, 20, 30, 40)],
        ([10, 20, 30, 40],),
        np.array([[10, 20, 30, 40]], np.float32),
        np.array([[10, 20, 30, 40, 1.0]]),
        [((10, 20, 30, 40), 1)],
        [(np.array([10, 20, 30, 40]), np.float32(1))],
        [Detection((10, 20, 30, 40), 1.0)],
        ((10, 20, 30, 40) for _ in range(1)),
    ],
)
def test_boxes_of_any_form(answer):
    assert detections(answer) == [Detection((10.0, 20.0, 30.0, 40.0), 1.0)]


@pytest.mark.parametrize("answer", [None, [], (), np.empty((0, 4)), np.empty((0, 5))])
def test_no_faces(answer):
    assert detections(answer) == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (7, "returned int, not a list"),
        ("face", "returned str, not a list"),
        ([(1, 2, 3)], r"returned \(1, 2, 3\) for a face"),
        ([{"x": 1}], "for a face"),
        ([(30, 20, 10, 40)], "not .left, top, right, bottom"),
        ([(10, 20, float("nan"), 40)], "not .left, top, right, bottom"),
        ([Detection((10, 20, 30, 40), 1.0, np.zeros((5, 2)))], "landmarks of shape"),
    ],
)
def test_what_is_no_box_is_its_own_fault(answer, said):
    with pytest.raises(ImageError, match=f"The detector mine failed: .*{said}") as caught:
        CustomDetector(lambda photo: answer, "mine")(PHOTO)
    assert caught.value.code == "detector_failed"


def test_the_photo_is_its_own_copy():
    def scribble(photo):
        photo[:] = 255

    CustomDetector(scribble, "mine")(PHOTO)
    assert not PHOTO.any()


@pytest.mark.parametrize("find", ["lambda photo: 1 / 0", "lambda photo: 3"])
def test_it_is_tried_at_the_start(tmp_path, monkeypatch, find):
    module = f"faces_{len(find)}"
    (tmp_path / f"{module}.py").write_text(f"def make():\n    return {find}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=f"On a blank photo: The detector {module}:make failed"):
        load_detector(f"{module}:make")


def test_the_lines_of_the_readme_run(tmp_path, astronaut):
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.partition("### A detector of your own")[2].partition("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (command,) = re.findall(r"`PYTHONPATH=\. facet (.*?)`", section)
    given = re.findall(r"--set (\S+)", command)
    (tmp_path / "my_faces.py").write_text(program)
    settings = load_config(DetectConfig, None, [override.removeprefix("detect.") for override in given])
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from pipeline.faces.custom import load_detector; from skimage import data\n"
    code += f"print(len(load_detector({settings.detector!r})(data.astronaut())))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "1", done.stderr
    assert FaceFinder(DetectConfig(), lambda photo: detections([(190, 80, 280, 170)]))(astronaut)
