"""Displacement from normals: known bumps come back, and nothing comes from nothing."""

from dataclasses import replace

import numpy as np
import pytest
from posed_faces import SIDE, camera, normal_map, take

from pipeline.details.displace import DisplaceConfig, displace
from pipeline.details.grid import face_grid, make_grid
from pipeline.evaluate.metrics import angular_error
from pipeline.evaluate.shapes import best_alignment
from pipeline.fitting.fit import fit_views
from pipeline.fitting.head import fit_head
from pipeline.fitting.observe import normals_of_quads
from pipeline.geometry.head_model import load_face_model

LONG = DisplaceConfig(screening=30.0, iterations=(1500, 800, 300))
"""Next to no screening: all that the normals say."""


def sheet(side, size):
    """Quads and vertices (N, 3) of a square grid of some centimetres, facing the viewer."""
    index = np.arange(side * side).reshape(side, side)
    quads = np.stack([index[1:, :-1], index[1:, 1:], index[:-1, 1:], index[:-1, :-1]], -1).reshape(-1, 4)
    y, x = np.mgrid[:side, :side] / (side - 1) - 0.5
    return quads, np.stack([x * size, -y * size, 0 * x], -1).reshape(-1, 3)


def bump(points):
    """Height in cm: 1.5 mm high, 1 cm wide, at the middle."""
    return 0.15 * np.exp(-(points[:, 0] ** 2 + points[:, 1] ** 2) / 2 / 0.5**2)


def photo_of(vertices, quads, state, window=14.0):
    """Normal map of a surface in camera space."""
    size = window * state.focal / -state.position[2]
    left, top = state.centre - size / 2
    return normal_map(vertices, quads, state, (left, top, size))


@pytest.mark.parametrize("shape", ["plane", "sphere"])
def test_a_bump_comes_back(shape):
    quads, flat = sheet(41, 10.0)
    if shape == "sphere":
        flat[:, 2] = np.sqrt(9.0**2 - (flat[:, :2] ** 2).sum(1)) - 9.0
    grid = make_grid(quads, np.ones(len(flat)), 2)
    state = camera(distance=80)
    smooth = grid.refine((flat + state.position).astype(np.float32))
    normals = normals_of_quads(smooth, grid.quads)
    height = bump(smooth)
    found = displace(
        flat + state.position,
        state,
        photo_of(smooth + height[:, None] * normals, grid.quads, state),
        grid,
        LONG,
    )
    inner = np.abs(smooth[:, :2]).max(1) < 4
    assert np.abs(found.height - height)[inner].max() < 0.01
    np.testing.assert_allclose(found.vertices, smooth + found.height[:, None] * found.normals, atol=1e-6)


def test_screening_leaves_wide_shapes_to_the_face():
    quads, flat = sheet(41, 10.0)
    grid = make_grid(quads, np.ones(len(flat)), 2)
    state = camera(distance=80)
    smooth = grid.refine((flat + state.position).astype(np.float32))
    gains = {}
    for wave in (1.0, 8.0):
        height = 0.01 * wave * np.cos(2 * np.pi / wave * smooth[:, 0])
        raised = smooth + height[:, None] * np.float32([0, 0, 1])
        photo = photo_of(raised, grid.quads, state)
        found = displace(flat + state.position, state, photo, grid, DisplaceConfig(screening=0.6))
        inner = np.abs(smooth[:, :2]).max(1) < 3
        gains[wave] = (found.height @ (height * inner)) / (height @ (height * inner))
    assert gains[1.0] > 0.75
    assert gains[8.0] < 0.4


@pytest.fixture(scope="module")
def head(ict_facekit):
    return fit_head(load_face_model(ict_facekit))


@pytest.fixture(scope="module")
def grid(head):
    return face_grid(head, 2)


def test_the_proxys_own_normals_displace_nothing(head, grid):
    state = camera(20, 5)
    face = state.to_camera(head.vertices(np.zeros(100), state.expression))
    smooth = grid.refine(face)
    photo = take(head, np.zeros(100), state, surface=(smooth, grid.quads))
    found = displace(face, state, photo.view.normals, grid)
    seen = found.weight > 0.3
    assert seen.mean() > 0.2
    assert np.sqrt((found.height[seen] ** 2).mean()) < 0.006
    assert np.abs(found.height[found.weight == 0]).max() < 0.06


def test_where_the_normals_say_nothing_the_displacement_fades(head, grid):
    state = camera()
    face = state.to_camera(head.vertices(np.zeros(100), state.expression))
    smooth = grid.refine(face)
    wavy = smooth + 0.1 * np.sin(4 * smooth[:, 1:2]) * normals_of_quads(smooth, grid.quads)
    photo = take(head, np.zeros(100), state, surface=(wavy.astype(np.float32), grid.quads))
    half = photo.view.normals.confidence.copy()
    half[:, : SIDE // 2] = 0
    found = displace(face, state, replace(photo.view.normals, confidence=half), grid)
    assert np.abs(found.height[smooth[:, 0] > 1]).max() > 0.03
    assert np.abs(found.height[smooth[:, 0] < -1.5]).max() < 0.005


def test_a_face_with_known_relief_comes_back_from_points_and_normals(head, grid):
    """Fit and displacement together, against the true surface: within 2.5 degrees and .3 mm."""
    rng = np.random.default_rng(2)
    identity = rng.normal(size=100)
    expression = np.zeros(53)
    expression[[head.expression_names.index(f"mouthSmile_{side}") for side in "LR"]] = 0.6
    state = replace(camera(-15, 5), expression=expression)
    face = state.to_camera(head.vertices(identity, expression))
    smooth = grid.refine(face)
    normals = normals_of_quads(smooth, grid.quads)
    rest = grid.refine(head.neutral)
    waves = [np.sin(rest @ rng.normal(0, k, 3) + rng.uniform(0, 6)) / k for k in (1, 1, 2, 2)]
    displaced = grid.levels[-1].vertices
    relief = np.zeros(len(smooth))
    relief[displaced] = 0.04 * sum(waves)[displaced] * grid.meant
    truth = (smooth + relief[:, None] * normals).astype(np.float32)
    photo = take(head, identity, state, surface=(truth, grid.quads))
    fit = fit_views([photo.view], head)
    view = fit.views[0]
    proxy = view.to_camera(head.vertices(fit.identity, view.expression))
    found = displace(proxy, view, photo.view.normals, grid, DisplaceConfig(screening=1.5))
    seen = found.weight > 0.5
    assert seen.mean() > 0.25

    def degrees(vertices):
        shown, _ = photo.view.normals.sample(view.project(vertices))
        shown = shown @ photo.view.normals.to_camera(state.focal, state.centre).T
        return angular_error(normals_of_quads(vertices, grid.quads), shown)[seen].mean()

    moved = best_alignment(found.vertices[seen], truth[seen])(found.vertices[seen])
    across = np.abs(((moved - truth[seen]) * photo.normals[seen]).sum(1)) * 10
    assert degrees(found.vertices) < 2.5 < degrees(found.smooth)
    assert np.median(across) < 0.3
    small = relief - relief[seen].mean()
    assert np.corrcoef(found.height[seen], small[seen])[0, 1] > 0.6
