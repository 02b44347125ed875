"""Lips that a photo shows closed."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.details.mouth import lips_closed, with_lips_closed
from pipeline.faces.crop import CropWindow
from pipeline.fitting.views import Points, View

LIP, SKIN, TEETH, CAVITY = (190, 90, 95), (215, 160, 140), (225, 220, 205), (30, 10, 10)


def face(between: tuple[int, int, int], height: int) -> tuple[np.ndarray, np.ndarray]:
    """A drawn mouth whose lips are `height` pixels apart, and 68 landmarks that part them by 12."""
    picture = np.full((200, 200, 3), SKIN, np.uint8)
    cv2.ellipse(picture, (100, 100), (50, 25), 0, 0, 360, LIP, -1)
    if height:
        picture[100 - height // 2 : 100 + (height + 1) // 2, 60:140] = between
    landmarks = np.full((68, 2), 20.0)
    for outer, inner, x in (((50, 58), (61, 67), 85), ((51, 57), (62, 66), 100), ((52, 56), (63, 65), 115)):
        landmarks[list(outer)] = (x, 76), (x, 124)
        landmarks[list(inner)] = (x, 94), (x, 106)
    return picture, landmarks


@pytest.mark.parametrize(
    ("between", "height", "closed"),
    [(CAVITY, 0, True), (CAVITY, 2, True), (CAVITY, 12, False), (TEETH, 12, False)],
)
def test_teeth_and_the_dark_of_a_mouth_tell_open_lips(between, height, closed):
    picture, landmarks = face(between, height)
    assert lips_closed(picture, landmarks) is closed
    grey = np.repeat(picture.mean(2, keepdims=True), 3, 2).astype(np.uint8)
    assert not lips_closed(grey, landmarks), "without colour nothing is told"


def test_inner_lips_meet_in_the_middle_and_nothing_else_moves():
    picture, landmarks = face(CAVITY, 0)
    window = CropWindow(50, 20, 400)
    points = np.concatenate([np.zeros((500, 2)), window.to_photo(landmarks, 200)])
    view = View(900, 900, points=Points(np.arange(568), points, np.ones(568)))
    closed = with_lips_closed(view, picture, window).points.photo
    moved = np.nonzero((closed != points).any(1))[0] - 500
    assert moved.tolist() == [61, 62, 63, 65, 66, 67]
    np.testing.assert_allclose(window.to_crop(closed[500 + 62], 200), (100, 100))
    np.testing.assert_allclose(closed[500 + 62], closed[500 + 66])


def test_the_astronaut_smiles_with_open_lips():
    from pipeline.faces.detect import DetectConfig, FaceFinder

    photo = cv2.imread(
        str(Path(__file__).resolve().parents[1] / "photos/astronaut.jpg"), cv2.IMREAD_COLOR_RGB
    )
    (found,) = FaceFinder(DetectConfig(faces="largest"))(photo)
    assert not lips_closed(photo, found.landmarks)
