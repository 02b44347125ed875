"""Textures of eyeballs whose texture is known, from a picture of the head."""

import numpy as np
import pytest
from head_pictures import draw, placed, turn, view_of

from pipeline.details.eyes import eye_texture, find_iris
from pipeline.details.unwrap import PhotoView, PosedHead
from pipeline.geometry.mesh import EYES, FACE, HEAD_PARTS, load_topology, vertex_normals
from pipeline.geometry.uv import uv_map

SIZE = 128


def painted(x: float, y: float) -> np.ndarray:
    """An eyeball's picture with a blue iris in the middle (x, y)."""
    rows, columns = (np.mgrid[0:SIZE, 0:SIZE] + 0.5) / SIZE
    picture = np.empty((SIZE, SIZE, 3), np.uint8)
    picture[:] = 215, 210, 206
    distance = np.hypot(columns - x, rows - y)
    picture[distance < 0.11] = 60, 90, 130
    picture[distance < 0.045] = 10, 10, 10
    return picture


@pytest.mark.parametrize("gaze", [(0.5, 0.5), (0.58, 0.5), (0.44, 0.53)])
def test_the_iris_is_whole_where_the_lids_hide_it(ict_facekit, gaze):
    topology = load_topology(ict_facekit)
    head = topology.only(*HEAD_PARTS)
    neutral = np.load(ict_facekit / "ict_facekit.npz")["neutral"]
    vertices = placed(neutral - neutral[:9409].mean(0), turn(10, 3))
    normals = vertex_normals(vertices, head)
    skin = np.full((8, 8, 3), (190, 140, 120), np.uint8)
    image, _ = draw(view_of(1200), vertices, head, {FACE: skin} | dict.fromkeys(EYES, painted(*gaze)))
    for eye in EYES:
        texels = uv_map(topology.only(eye), SIZE)
        posed = PosedHead(view_of(1200, image), vertices, normals, head)
        found = eye_texture(posed, texels).astype(int)
        rows, columns = (np.mgrid[0:SIZE, 0:SIZE] + 0.5) / SIZE
        near = np.hypot(columns - gaze[0], rows - gaze[1]) < 0.3
        error = np.abs(found - painted(*gaze)).max(2)
        assert np.mean(error[near] > 40) < 0.1  # edges are soft, and the middle is found to a texel or two
        assert np.median(error[near]) < 12


def test_an_eye_that_is_not_seen_is_white_with_an_iris(ict_facekit):
    topology = load_topology(ict_facekit)
    vertices = placed(np.load(ict_facekit / "ict_facekit.npz")["neutral"], turn(180))
    head = topology.only(*HEAD_PARTS)
    view = PhotoView(np.zeros((64, 64, 3), np.uint8), 100.0, (32.0, 32.0))
    texels = uv_map(topology.only(EYES[0]), SIZE)
    found = eye_texture(PosedHead(view, vertices, vertex_normals(vertices, head), head), texels)
    assert found[SIZE // 2, SIZE // 2].max() < 40
    assert found[SIZE // 2, SIZE // 8].min() > 180


def test_too_little_to_find_an_iris():
    assert find_iris(np.zeros((64, 64)), np.zeros((64, 64)))[:2] == (0.5, 0.5)
