"""Texture space: which texel shows what, reading pictures, filling gaps."""

import numpy as np
import pytest

from pipeline.geometry.mesh import FACE, load_topology
from pipeline.geometry.uv import push_pull, read_picture, read_pixels, uv_map


@pytest.mark.parametrize("size", [512, 1024])
def test_texels_lie_where_their_middle_is(ict_facekit, size):
    face = load_topology(ict_facekit).only(FACE)
    texels = uv_map(face, size)
    rows, columns = np.divmod(texels.texel, size)
    uv = texels.sample_uv(face.uv)
    error = np.abs(uv - np.stack([(columns + 0.5) / size, 1 - (rows + 0.5) / size], 1)).max(1)
    assert np.percentile(error, 99.9) < 2e-5  # a few slivers at the rim go on less far
    assert error.max() < 3 / size
    assert np.abs(texels.weights.sum(1) - 1).max() < 1e-4
    assert (face.uv_vertex[texels.corners_uv] == texels.corners).all()
    assert len(texels.texel) / size**2 == pytest.approx(0.96, abs=0.008)
    assert uv_map(face, size) is texels


def test_what_is_drawn_is_read_back(ict_facekit):
    face = load_topology(ict_facekit).only(FACE)
    texels = uv_map(face, 512)
    picture = texels.image(texels.sample_uv(face.uv))
    used = np.unique(face.faces_uv)
    error = np.abs(read_picture(picture, face.uv[used]) - face.uv[used]).max(1)
    assert np.percentile(error, 99.5) < 1e-4
    assert error.max() < 2 / 512


def test_reading_between_pixels_and_over_the_border():
    picture = np.array([[0, 10], [20, 30]], np.uint16)
    x, y = np.array([0, 1, 0.5, 0.5, -3]), np.array([0, 0, 0, 0.5, 9])
    assert read_pixels(picture, x, y).tolist() == [0, 10, 5, 15, 20]
    many = read_pixels(picture, np.zeros(100_000), np.ones(100_000))
    assert many.shape == (100_000,)
    assert (many == 20).all()


def test_filling_keeps_what_is_known_and_is_smooth():
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[0:200, 0:136] / 200
    truth = np.stack([rows, columns, rows + columns], -1).astype(np.float32)
    known = (rng.random(rows.shape) < 0.05).astype(np.float32)
    filled = push_pull(truth * known[..., None], known)
    assert np.allclose(filled[known == 1], truth[known == 1])
    assert np.abs(filled - truth).mean() < 0.02
    assert (push_pull(truth, np.zeros_like(known)) == 0).all()
    one = np.zeros_like(known)
    one[7, 9] = 1
    assert np.allclose(push_pull(truth, one), truth[7, 9], atol=1e-5)
