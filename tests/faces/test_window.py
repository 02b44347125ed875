"""Windows: points there and back, crops that agree with them, turned photos, borders, large faces."""

import cv2
import numpy as np
import pytest

from pipeline.faces.window import (
    LOOSE,
    OUTSIDE,
    RolledWindow,
    head_roll,
    lean,
    window_of_box,
    window_of_points,
)

WINDOWS = [
    RolledWindow(100, 80, 64),
    RolledWindow(90.5, 90.25, 128, 30),
    RolledWindow(60, 10, 220, -120),
    RolledWindow(120, 70, 500, 180),
]


@pytest.mark.parametrize("window", WINDOWS)
def test_points_go_there_and_back(window):
    points = np.random.default_rng(0).uniform(-50, 200, (20, 2))
    crop = window.to_crop(points, 128)
    assert np.allclose(window.to_photo(crop, 128), points)
    assert np.allclose(window.to_crop(np.array([window.x, window.y]), 128), 63.5)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_crop_shows_what_the_points_say(window):
    """A bright disc lies in the crop where its middle is mapped to."""
    image = np.zeros((160, 200, 3), np.uint8)
    cv2.circle(image, (110, 75), 6, (255, 255, 255), -1, cv2.LINE_AA)
    crop = window.crop(image, 128, outside=(0, 0, 0))[..., 0].astype(float)
    y, x = np.mgrid[:128, :128]
    found = np.array([(x * crop).sum(), (y * crop).sum()]) / crop.sum()
    assert np.abs(found - window.to_crop(np.array([110.0, 75.0]), 128)).max() < 0.15


def test_a_leaning_head_is_upright_in_the_crop():
    """The head leans by 40 degrees counter-clockwise: its chin lies to the right below its brow."""
    roll = 40.0
    down = np.array([np.sin(np.radians(roll)), np.cos(np.radians(roll))])
    brow, chin = RolledWindow(50, 50, 100, roll).to_crop(np.array([[50, 50], 50 + 20 * down]), 100)
    assert np.allclose(chin - brow, [0, 20])


def test_roll_of_a_rotation():
    assert head_roll(np.eye(3)) == 0
    assert head_roll(lean(40)) == pytest.approx(40)
    assert head_roll(lean(-170)) == pytest.approx(-170)


def test_windows_about_points_and_boxes():
    points = np.array([[10.0, 20], [50, 20], [50, 80], [10, 80]])
    window = window_of_points(points)
    assert (window.x, window.y, window.side) == (30, 50, LOOSE * 60)
    turned = window_of_points(points[:, ::-1] * [1, -1], 90)  # turned counter-clockwise
    assert (turned.x, turned.y, turned.side) == pytest.approx((50, -30, LOOSE * 60))
    box = window_of_box((10, 20, 49, 79), 90)
    assert box.y == pytest.approx(49.5)
    assert box.x > 29.5  # the chin is to the right


def test_beyond_the_border_is_grey():
    crop = RolledWindow(0, 0, 100).crop(np.full((50, 50, 3), 200, np.uint8), 64)
    assert (crop[:30, :30] == OUTSIDE).all()
    assert (crop[34:60, 34:60] == 200).all()
    assert (RolledWindow(-900, 20, 100).crop(np.full((50, 50, 3), 200, np.uint8), 64) == OUTSIDE).all()


def test_large_faces_are_averaged():
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = RolledWindow(512, 512, 900, 10).crop(stripes, 128)
    assert np.abs(crop.astype(int) - 127).max() < 25
