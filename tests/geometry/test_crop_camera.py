"""The crop camera: what a crop shows does not depend on where in its photo it was."""

import json

import numpy as np
import pytest
import torch
from spheres import sphere_row

from pipeline.errors import DataError
from pipeline.geometry.crop_camera import crop_camera, rotation_between
from pipeline.samples.sample import decode_row
from pipeline.synth.rows import encode_batch
from pipeline.synth.sample import SampleConfig, Sampler
from pipeline.train.batches import WorkerShare
from pipeline.train.rendering import rendered_batches

SIZE, FOCAL = 65, 130.0


def sphere_in_a_photo(x: float, y: float) -> tuple[np.ndarray, list[float]]:
    """Normals of a crop around a sphere that stands off the photo's middle, and the principal point.

    The middle of the sphere is seen along (x, y, -1), from the same distance wherever it is.
    """
    towards = np.array([x, y, -1.0])
    middle = 10 * towards / np.linalg.norm(towards)
    half = (SIZE - 1) / 2
    centre = [half - x * FOCAL, half + y * FOCAL]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    rays = np.stack(
        [(columns - centre[0]) / FOCAL, (centre[1] - rows) / FOCAL, -np.ones((SIZE, SIZE))], axis=-1
    )
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    along = rays @ middle
    root = np.sqrt(np.maximum(along**2 - (100 - 4), 0))
    normals = (rays * (along - root)[..., None] - middle) / 2
    return normals * (root > 0)[..., None], centre


def degrees(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles where both have a normal, of whatever length."""
    both = first.any(-1) & second.any(-1)
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return np.degrees(np.arccos(np.clip(((first * second).sum(-1)[both] / lengths[both]), -1, 1)))


@pytest.mark.parametrize("place", [(0.3, 0.0), (0.0, -0.2), (-0.25, 0.2)])
def test_the_same_crop_has_the_same_normals_wherever_it_was(place):
    straight, centre = sphere_in_a_photo(0.0, 0.0)
    np.testing.assert_allclose(crop_camera(FOCAL, centre, SIZE), np.eye(3), atol=1e-12)
    aside, centre = sphere_in_a_photo(*place)
    turned = aside @ crop_camera(FOCAL, centre, SIZE).T
    middle = SIZE // 2
    np.testing.assert_allclose(turned[middle, middle], (0, 0, 1), atol=1e-12)
    before, after = degrees(aside, straight).mean(), degrees(turned, straight).mean()
    assert before > 10
    assert after < 0.3 * before, "what is left is that a photo stretches what stands at its side"


def test_rotation_between_two_directions():
    start, end = np.array([0, 0, 1.0]), np.array([0.6, 0, 0.8])
    turn = rotation_between(start, end)
    np.testing.assert_allclose(turn @ start, end, atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)


def test_rows_with_a_camera_are_turned():
    row = sphere_row(0, 64)
    plain = decode_row(row, None)
    camera = {"focal": 100.0, "centre": [-20.0, 31.5]}
    turned = decode_row(row | {"meta": json.dumps(camera)}, None)
    expected = plain.normals / 127 @ crop_camera(100.0, camera["centre"], 64).T
    assert np.abs(turned.normals / 127 - expected).max() < 0.015
    assert turned.normals[32, 32, 0] > 50, "the face stands right of the middle: it is seen from the left"
    half = decode_row(row | {"meta": json.dumps(camera)}, 32)
    assert degrees(half.normals / 127, turned.normals[::2, ::2] / 127).mean() < 4


@pytest.mark.parametrize(
    "camera",
    [
        {"focal": 0, "centre": [1, 2]},
        {"focal": "far", "centre": [1, 2]},
        {"focal": 1e400, "centre": [1, 2]},
        {"focal": 50, "centre": 7},
        {"focal": 50, "centre": [1, 2, 3]},
    ],
)
def test_what_is_no_camera_makes_a_bad_row(camera):
    with pytest.raises(DataError, match="no camera"):
        decode_row(sphere_row(0, 64) | {"meta": json.dumps(camera)}, None)


def test_rows_that_are_rendered_as_they_are_needed_are_those_that_are_stored(ict_facekit, monkeypatch):
    monkeypatch.setenv("FACET_ASSETS", str(ict_facekit))
    batches = rendered_batches(
        seed=3, size=64, batch_size=3, device=torch.device("cpu"), position=0, share=WorkerShare(0, 1)
    )
    _, fresh = next(batches)
    stored = [
        decode_row(row, None) for row in encode_batch(Sampler(SampleConfig(size=64), 3).render(range(3)), "")
    ]
    for normals, sample in zip(fresh.normals.permute(0, 2, 3, 1).numpy(), stored, strict=True):
        assert degrees(normals, sample.normals / 127).mean() < 1
        assert np.mean(normals.any(-1) != sample.normals.any(-1)) < 0.001
