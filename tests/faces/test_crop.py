"""The crop rule at every border and rounding case, the crop and the mask."""

import math
from fractions import Fraction

import cv2
import numpy as np
import pytest

from pipeline.faces.crop import (
    CropWindow,
    crop_image,
    crop_window,
    cut_face,
    hull_mask,
    inner_window,
    round_half_up,
)
from pipeline.faces.landmarks import Face


def box(left, top, right, bottom) -> np.ndarray:
    """68 landmarks whose tight box is this."""
    points = np.full((68, 2), ((left + right) / 2, (top + bottom) / 2), np.float64)
    points[0], points[1] = (left, top), (right, bottom)
    return points


@pytest.mark.parametrize(
    ("landmarks", "size", "expected"),
    [
        # Inside a photo of 640 x 480: the side is 1.2 times the longer side, centred.
        (box(200, 100, 300, 180), (640, 480), (190, 80, 120)),
        (box(200, 100, 280, 200), (640, 480), (180, 90, 120)),
        # The side is rounded: 1.2 * 104 = 124.8, 1.2 * 101 = 121.2.
        (box(200, 100, 304, 180), (640, 480), (190, 78, 125)),
        (box(200, 100, 301, 180), (640, 480), (190, 80, 121)),
        # The corner is rounded half up: 250.5 - 60 and 62.5 - 60; 2.5 would become 2 by Python's round.
        (box(201, 13, 300, 112), (640, 480), (191, 3, 119)),
        (box(200.5, 12.5, 300.5, 112.5), (640, 480), (191, 3, 120)),
        # Left and upper border: clamped to 0 before rounding.
        (box(5, 100, 105, 180), (640, 480), (0, 80, 120)),
        (box(9, 3, 109, 103), (640, 480), (0, 0, 120)),
        (box(9.6, 9.4, 109.6, 109.4), (640, 480), (0, 0, 120)),
        (box(10.6, 10.4, 110.6, 110.4), (640, 480), (1, 0, 120)),
        # Right and lower border: moved, not cut. 530 + 120 = 650 > 640.
        (box(540, 100, 640, 180), (640, 480), (520, 80, 120)),
        (box(530, 380, 630, 480), (640, 480), (520, 360, 120)),
        (box(520, 350, 620, 450), (640, 480), (510, 340, 120)),
        # It ends exactly at the border.
        (box(530, 370, 630, 470), (640, 480), (520, 360, 120)),
        # A side longer than the photo's shorter one becomes that.
        (box(100, 20, 500, 460), (640, 480), (60, 0, 480)),
        (box(20, 100, 460, 500), (480, 640), (0, 60, 480)),
        (box(0, 0, 99, 99), (100, 100), (0, 0, 100)),
        (box(500, 10, 640, 470), (640, 480), (160, 0, 480)),
        # Landmarks over the border, or wholly outside.
        (box(-60, -40, 40, 60), (640, 480), (0, 0, 120)),
        (box(600, 440, 700, 540), (640, 480), (520, 360, 120)),
        (box(900, 100, 1000, 200), (640, 480), (520, 90, 120)),
        (box(-1000, 100, -900, 200), (640, 480), (0, 90, 120)),
        # Smallest photo, no extent.
        (box(0, 0, 0, 0), (1, 1), (0, 0, 1)),
        (box(7, 7, 7, 7), (20, 10), (7, 7, 1)),
        (box(3, 3, 90, 90), (5, 1), (4, 0, 1)),
    ],
)
def test_window(landmarks, size, expected):
    assert inner_window(landmarks, *size) == CropWindow(*expected)


def paper_rule(points, width, height):
    """The rule as it is written down, step by step, in exact fractions."""

    def rounded(value):
        return math.floor(value + Fraction(1, 2))

    xs, ys = [Fraction(x) for x, _ in points], [Fraction(y) for _, y in points]
    x_mean, y_mean = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    side = rounded(Fraction(12, 10) * max(max(xs) - min(xs), max(ys) - min(ys)))
    if side > min(height, width):
        side = min(height, width)
    left = rounded(max(0, x_mean - Fraction(side) / 2))
    right = left + side
    top = rounded(max(0, y_mean - Fraction(side) / 2))
    bottom = top + side
    if right > width:
        right, left = width, width - side
    if bottom > height:
        bottom, top = height, height - side
    return CropWindow(left, top, side)


def test_window_follows_the_written_rule():
    rng = np.random.default_rng(0)
    clamped = set()
    for _ in range(3000):
        width, height = (int(side) for side in rng.integers(1, 120, 2))
        centre = rng.integers(-20, 140, 2)
        points = centre + rng.integers(-40, 41, (68, 2)) // int(rng.integers(1, 12))
        if np.ptp(points, axis=0).max() == 0:
            continue
        window = inner_window(points, width, height)
        assert window == paper_rule(points.tolist(), width, height)
        assert 0 <= window.left <= width - window.size
        assert 0 <= window.top <= height - window.size
        free = crop_window(points)
        if not free.beyond(width, height, free.size).any():
            assert free == window
        clamped.add((window.left == 0, window.left == width - window.size, window.size == min(width, height)))
    assert len(clamped) >= 6  # the cases were all met


def test_rounding_is_half_up():
    assert [round_half_up(value) for value in (0.49, 0.5, 1.5, 2.5, 3.49)] == [0, 1, 2, 3, 3]
    assert crop_window(box(0, 0, 3, 3), scale=1.5).size == 5  # 4.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_landmarks_that_are_no_numbers_are_refused(bad):
    points = box(10, 10, 20, 20)
    points[5, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        crop_window(points)
    with pytest.raises(ValueError, match="finite"):
        inner_window(points, 100, 100)


@pytest.mark.parametrize("by_paper", [True, False])
@pytest.mark.parametrize("landmarks", [box(10, 10, 85, 85), box(60, 40, 110, 90), box(300, 100, 700, 600)])
def test_a_crop_is_the_resized_slice(landmarks, by_paper):
    """Large faces are averaged, except by the paper's rule."""
    image = np.random.default_rng(0).integers(0, 256, (800, 900, 3), np.uint8)
    window, crop = cut_face(image, Face(0, (0, 0, 9, 9), 1.0, landmarks, by_paper=by_paper))
    assert window == crop_window(landmarks)
    cut = image[window.top : window.top + window.size, window.left : window.left + window.size]
    averaged = window.size > 256 and not by_paper
    expected = cv2.resize(cut, (256, 256), interpolation=cv2.INTER_AREA if averaged else cv2.INTER_LINEAR)
    assert crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("corner", [(-30, 10), (90, -5), (75, 80), (-10, -10), (30, 70)])
def test_a_window_over_the_border_stays_on_the_face(corner):
    """What lies beyond is mirrored; masks end at the border and nothing is pasted there."""
    image = np.random.default_rng(0).integers(1, 256, (100, 120, 3), np.uint8)
    window = CropWindow(*corner, 60)
    padded = cv2.copyMakeBorder(image, 60, 60, 60, 60, cv2.BORDER_REFLECT_101)
    expected = padded[60 + window.top :][:60, 60 + window.left :][:, :60]
    np.testing.assert_array_equal(window.cut(image), expected)
    beyond = window.beyond(120, 100, 60)
    x, y = np.meshgrid(np.arange(60) + window.left, np.arange(60) + window.top)
    np.testing.assert_array_equal(beyond, (x < 0) | (y < 0) | (x >= 120) | (y >= 100))
    assert beyond.any()
    landmarks = ellipse(window.left + 30, window.top + 30, 25, 25)
    hull = hull_mask(landmarks, window, 120, 100, 60) > 0
    assert hull.any()
    assert not (hull & beyond).any()
    whole = np.zeros_like(image)
    window.paste(window.cut(image), whole)
    shown = (whole > 0).all(-1)
    np.testing.assert_array_equal(whole[shown], image[shown])
    assert shown.sum() == (~beyond).sum()


def test_the_paper_moves_the_window_inside():
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    landmarks = box(-20, 30, 30, 80)
    windows = [cut_face(image, Face(0, (0, 0, 9, 9), 1.0, landmarks, by_paper=by))[0] for by in (True, False)]
    assert windows == [CropWindow(0, 25, 60), CropWindow(-25, 25, 60)]


def test_points_go_to_the_crop_and_back():
    window = CropWindow(30, 10, 64)
    corners = [(29.5, 9.5), (93.5, 73.5), (30, 10)]  # edges of the window, centre of its first pixel
    np.testing.assert_allclose(window.to_crop(corners), [(-0.5, -0.5), (255.5, 255.5), (1.5, 1.5)])
    np.testing.assert_allclose(window.to_photo(window.to_crop(corners, 100), 100), corners)


@pytest.mark.parametrize("side", [256, 40])
def test_a_map_of_the_crop_is_pasted_where_it_was_cut(side):
    y, x = np.mgrid[:100, :120].astype(np.float32)
    photo = np.stack([x, y, np.ones_like(x)], -1)
    window = CropWindow(30, 10, 61)
    whole = np.zeros_like(photo)
    window.paste(crop_image(photo, window, side), whole)
    inside = np.s_[12:69, 32:89]  # at the border the crop repeats its last pixels
    np.testing.assert_allclose(whole[inside], photo[inside], atol=0.06)
    window.cut(whole)[:] = 0
    assert not whole.any()


def test_only_what_the_mask_means_is_pasted():
    whole = np.full((50, 50), 7, np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    CropWindow(10, 20, 20).paste(np.full((32, 32), 200, np.uint8), whole, mask)
    assert (whole[20:30, 10:30] == 200).all()
    assert (whole[30:] == 7).all()
    assert (whole[:, :10] == 7).all()


def test_a_crop_of_its_own_size_is_an_unchanged_copy():
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    crop = crop_image(image, CropWindow(20, 30, 256))
    np.testing.assert_array_equal(crop, image[30:286, 20:276])
    crop[:] = 0
    assert image.any()


def ellipse(centre_x, centre_y, radius_x, radius_y) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    return np.stack([centre_x + radius_x * np.cos(angles), centre_y + radius_y * np.sin(angles)], axis=1)


def inside(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Distance of every pixel to the inside of a convex polygon, negative outside; counter-clockwise."""
    y, x = np.mgrid[:height, :width]
    edges = np.roll(points, -1, axis=0) - points
    distance = np.full((height, width), np.inf)
    for (px, py), (ex, ey) in zip(points, edges, strict=True):
        if length := np.hypot(ex, ey):
            distance = np.minimum(distance, (ex * (y - py) - ey * (x - px)) / length)
    return distance


def test_mask_is_the_convex_hull_without_antialiasing():
    landmarks = np.floor(ellipse(150, 140, 70, 90))
    landmarks[10:20] = (150, 140)  # points inside change nothing
    hull = cv2.convexHull(landmarks.astype(np.int32))[:, 0].astype(float)
    if cv2.contourArea(hull.astype(np.float32), oriented=True) < 0:
        hull = hull[::-1]
    mask = hull_mask(landmarks, CropWindow(10, 10, 256), 300, 280)
    distance = inside(hull, 300, 280)[10:266, 10:266]
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[distance >= 0] == 255).all()
    assert (mask[distance < -1] == 0).all()


def test_mask_is_resized_by_nearest_neighbour_over_the_window():
    landmarks = ellipse(60, 50, 30, 40)
    window = crop_window(landmarks)
    full = np.zeros((110, 130), np.uint8)
    cv2.fillPoly(full, [cv2.convexHull(np.floor(landmarks + 0.5).astype(np.int32))], 1)
    index = np.arange(256) * window.size // 256
    expected = full[window.top + index][:, window.left + index] * 255
    np.testing.assert_array_equal(hull_mask(landmarks, window, 130, 110), expected)


def test_mask_of_landmarks_over_the_border():
    landmarks = ellipse(5, 50, 30, 40)
    window = inner_window(landmarks, 100, 100)
    assert window.left == 0
    mask = hull_mask(landmarks, window, 100, 100)
    assert mask[128, 0] == 255  # the hull goes on beyond the photo
    assert mask[128, -1] == 0


def test_mask_and_crop_show_the_same_place():
    landmarks = ellipse(400, 300, 55, 70)
    image = np.zeros((480, 640, 3), np.uint8)
    cv2.fillConvexPoly(image, np.floor(landmarks + 0.5).astype(np.int32), (255, 255, 255))
    window = crop_window(landmarks)
    crop = crop_image(image, window)[..., 0]
    mask = hull_mask(landmarks, window, 640, 480)
    assert np.mean((crop > 127) != (mask > 0)) < 0.02
