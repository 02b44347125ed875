"""Points of real and rendered faces with the shipped network: turned photos, borders, sizes, no torch."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.faces.detect import DetectConfig, FaceFinder, find_all_points
from pipeline.faces.detectors import Detection
from pipeline.faces.landmarks import Face
from pipeline.faces.points import COUNT, DENSE, PointsFinder
from pipeline.faces.window import head_roll, lean
from pipeline.geometry.head_model import load_face_model

PHOTOS = Path(__file__).resolve().parents[1] / "photos"


@pytest.fixture(scope="module")
def find() -> FaceFinder:
    return FaceFinder(DetectConfig(mode="auto"))


def read(name: str) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(PHOTOS / name)), cv2.COLOR_BGR2RGB)


def only(faces: list[Face]) -> Face:
    (face,) = faces
    assert face.points is not None
    return face


def size(face: Face) -> float:
    return float(np.ptp(face.landmarks, axis=0).max())


def turned(image: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Turns an image counter-clockwise on a grey canvas; returns it and the matrix (2, 3) of its points."""
    height, width = image.shape[:2]
    side = int(np.hypot(height, width)) + 1
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    matrix[:, 2] += [(side - width) / 2, (side - height) / 2]
    return cv2.warpAffine(image, matrix, (side, side), borderValue=(127, 127, 127)), matrix


def angle(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(first.T @ second) - 1) / 2, -1, 1))))


def test_landmarks_are_about_where_dlib_has_them(find, astronaut):
    face, other = only(find(astronaut)), FaceFinder(DetectConfig(mode="dlib"))(astronaut)[0]
    inner = slice(17, None)  # the jaw is a line without marks
    assert np.linalg.norm(face.landmarks - other.landmarks, axis=1)[inner].mean() < 0.05 * size(other)


def test_what_is_told(find, astronaut):
    found = only(find(astronaut)).points
    assert found.points.shape == (DENSE, 2)
    assert found.sigma.shape == found.visible.shape == (COUNT,)
    assert (found.sigma > 0).all()
    assert found.visible.mean() > 0.75
    assert np.allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-4)
    assert abs(found.roll) < 12


@pytest.mark.parametrize("degrees", [90, 180, 270, 30])
@pytest.mark.parametrize("name", ["astronaut.jpg", "rendered_4.jpg"])
def test_a_turned_photo_turns_the_answer(find, name, degrees):
    image = read(name)
    before = only(find(image))
    copy, matrix = turned(image, degrees)
    after = only(find(copy))
    expected = before.points.points @ matrix[:, :2].T + matrix[:, 2]
    seen = before.points.visible[:DENSE] > 0.5
    moved = np.linalg.norm(after.points.points - expected, axis=1)[seen]
    assert moved.mean() < 0.025 * size(before)
    # The grey corners change what the camera's direction seems to be, but for that it is the same rotation.
    assert angle(after.points.rotation, lean(degrees) @ before.points.rotation) < 6
    assert abs((after.points.roll - before.points.roll - degrees + 180) % 360 - 180) < 5


@pytest.mark.parametrize("scale", [0.55, 2.5])
def test_the_size_of_the_photo_does_not_matter(find, astronaut, scale):
    before = only(find(astronaut))
    after = only(find(cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)))
    back = (after.landmarks + 0.5) / scale - 0.5
    assert np.linalg.norm(back - before.landmarks, axis=1).mean() < 0.04 * size(before)


def test_a_face_cut_by_the_border(find, astronaut):
    """A third of the face is beyond the border: less sure, but about where it was."""
    whole = only(find(astronaut))
    edge = 205
    (face,) = find(np.ascontiguousarray(astronaut[:, edge:]))
    beyond = whole.points.points[:, 0] < edge - 10
    assert 0.15 < beyond.mean() < 0.8
    assert face.points.sigma[:DENSE][beyond].mean() > 1.05 * face.points.sigma[:DENSE][~beyond].mean()
    moved = np.linalg.norm(face.points.points - (whole.points.points - (edge, 0)), axis=1)
    assert moved[~beyond].mean() < 0.1 * size(whole)


def test_the_same_photo_gives_the_same_answer(find, astronaut):
    first, second = only(find(astronaut)).points, only(find(astronaut.copy())).points
    assert (first.points == second.points).all()
    assert (first.sigma == second.sigma).all()


def test_an_uncertain_face_is_left_out(astronaut):
    assert FaceFinder(DetectConfig(mode="auto", max_sigma=0.001))(astronaut) == []


@dataclass(frozen=True)
class Answer:
    """What of a `FacePoints` tells a face."""

    relative_sigma: float


@pytest.mark.parametrize("upside_down", [0, 180])
def test_crowds_are_not_looked_at_twice(upside_down):
    """Forty faces and hundreds of things: one look each, but for a few."""
    looks = []

    def find(detection: Detection, turn: int) -> Answer:
        looks.append(detection)
        return Answer(0.01 if detection.score > 0.8 and turn == upside_down else 0.1)

    crowd = [Detection((9.0 * i, 0, 9.0 * i + 8, 8), 0.9 if i < 40 else 0.6) for i in range(400)]
    assert list(find_all_points(crowd, find, 0.035)) == crowd[:40]
    assert len(looks) <= 400 + 10


def test_two_faces_upside_down(find, astronaut):
    faces = find(np.hstack([astronaut, astronaut])[::-1, ::-1])
    assert len(faces) == 2
    assert all(abs(face.points.roll) > 168 for face in faces)


def test_the_network_knows_the_vertices_of_the_head_model(ict_facekit):
    from pipeline.points.labels import point_vertices, vertices_digest

    ids = point_vertices(load_face_model(ict_facekit))
    assert PointsFinder().metadata["vertices"] == vertices_digest(ids)


def test_a_roll_is_the_lean_of_the_up_axis():
    assert head_roll(lean(25) @ np.eye(3)) == pytest.approx(25)


def test_torch_is_not_needed():
    code = """
import sys
import numpy as np
from pipeline.faces.detect import DetectConfig, FaceFinder
FaceFinder(DetectConfig(mode="auto"))(np.zeros((200, 200, 3), np.uint8))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
