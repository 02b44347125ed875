"""Heads that lean: the answer turns with the photo."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.faces.crop import CropWindow
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.faces.window import RolledWindow, lean
from pipeline.normals.estimate import FaceNormals, estimate_normals
from pipeline.normals.inference import NormalsEstimator
from pipeline.normals.upright import in_photo

PHOTOS = Path(__file__).resolve().parents[1] / "photos"


def sphere(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normals and mask of a sphere at (60, 50), of radius 20, in the pixels of a photo."""
    x, y = (x - 60) / 20, (50 - y) / 20
    inside = x**2 + y**2 < 0.9
    z = np.sqrt(np.where(inside, 1 - x**2 - y**2, 1))
    normals = np.where(inside[..., None], np.stack([x, y, z], -1), [0, 0, 1])
    return normals.astype(np.float32), np.where(inside, 255, 0).astype(np.uint8)


@pytest.mark.parametrize("roll", [30.0, -90.0, 180.0])
def test_a_sphere_seen_at_any_lean_is_a_sphere(roll):
    seen, window = RolledWindow(61, 52, 50, roll), CropWindow(35, 27, 50)
    grid = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1)
    normals, mask = sphere(*np.moveaxis(seen.to_photo(grid, 256), -1, 0))
    upright = (normals @ lean(-roll).T).astype(np.float32)
    answer = upright[None], mask[None], mask[None].astype(np.float32)
    turned, turned_mask, sure = in_photo(answer, 0, seen, window, (60, 100))
    assert np.array_equal(turned_mask > 0, (sure > 127) & ~window.beyond(60, 100))
    expected, inside = sphere(*np.moveaxis(window.to_photo(grid), -1, 0))
    inside[window.to_photo(grid)[..., 0] > 59.5] = 0  # beyond the photo
    assert np.mean(turned_mask != inside) < 0.01
    both = cv2.erode(turned_mask & inside, np.ones((9, 9))) > 0
    assert np.abs(turned - expected)[both].max() < 0.03
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), 1, atol=1e-5)


def test_a_face_that_does_not_lean_is_left_as_it_is():
    normals, mask = sphere(*np.meshgrid(np.arange(100.0), np.arange(100.0)))
    answer = normals[None], mask[None], None
    same, same_mask, _ = in_photo(answer, 0, None, CropWindow(0, 0, 100), (100, 100))
    np.testing.assert_array_equal(same, normals)
    np.testing.assert_array_equal(same_mask, mask)


@pytest.fixture(scope="module")
def estimate():
    network, find = NormalsEstimator(), FaceFinder(DetectConfig(mode="auto"))

    def nearest(photo: np.ndarray, place: np.ndarray) -> FaceNormals:
        """The face about a place: where the photo goes on mirrored there may be one more."""

        def distance(face: FaceNormals) -> float:
            return float(np.linalg.norm(face.window.to_crop(place) - 127.5)) * face.window.size

        return min(estimate_normals(photo, network, find), key=distance)

    return nearest


@pytest.mark.parametrize("name", ["astronaut.jpg", "rendered_4.jpg"])
def test_turning_a_photo_turns_its_normals(estimate, name):
    photo = cv2.cvtColor(cv2.imread(str(PHOTOS / name)), cv2.COLOR_BGR2RGB)
    height, width = photo.shape[:2]
    before = estimate(photo, np.array([width / 2, height / 4]))
    middle = before.window.to_photo(np.array([127.5, 127.5]))
    side = int(np.hypot(height, width)) + 1
    grid = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1)
    round_part = np.linalg.norm(grid - 127.5, axis=-1) < 120  # corners are not seen upright
    for degrees in (90, 180, 270, 30):
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        matrix[:, 2] += [(side - width) / 2, (side - height) / 2]
        turned = cv2.warpAffine(photo, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
        after = estimate(turned, matrix[:, :2] @ middle + matrix[:, 2])
        there = after.window.to_crop(before.window.to_photo(grid) @ matrix[:, :2].T + matrix[:, 2])
        x, y = np.moveaxis(there.astype(np.float32), -1, 0)
        normals = cv2.remap(after.normals, x, y, cv2.INTER_LINEAR) @ lean(degrees)
        mask = cv2.remap(after.mask, x, y, cv2.INTER_NEAREST)
        assert np.mean((mask > 0)[round_part] == (before.mask > 0)[round_part]) > 0.95
        both = (mask > 0) & (before.mask > 0)
        angle = np.degrees(np.arccos(np.clip((normals * before.normals).sum(-1)[both], -1, 1)))
        assert angle.mean() < 4, degrees


@pytest.mark.parametrize("name", ["rendered_2.jpg", "rendered_4.jpg"])
def test_a_mirrored_photo_has_mirrored_normals(estimate, name):
    photo = cv2.cvtColor(cv2.imread(str(PHOTOS / name)), cv2.COLOR_BGR2RGB)
    middle = np.array([photo.shape[1] / 2, photo.shape[0] / 4])
    before = estimate(photo, middle)
    after = estimate(np.ascontiguousarray(photo[:, ::-1]), middle)
    grid = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1)
    mirrored = [photo.shape[1] - 1, 0] + before.window.to_photo(grid) * [-1, 1]
    x, y = np.moveaxis(after.window.to_crop(mirrored).astype(np.float32), -1, 0)
    normals = cv2.remap(after.normals, x, y, cv2.INTER_LINEAR) * (-1, 1, 1)
    both = (cv2.remap(after.mask, x, y, cv2.INTER_NEAREST) > 0) & (before.mask > 0)
    angle = np.degrees(np.arccos(np.clip((normals * before.normals).sum(-1)[both], -1, 1)))
    assert both.mean() > 0.3
    assert angle.mean() < 3.5
