"""Catmull-Clark subdivision: counts, known positions, borders."""

import numpy as np
import pytest

from pipeline.geometry.subdivide import subdivide, unique_edges

CUBE = np.array([[0, 3, 2, 1], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]])
CORNERS = np.array([[x, y, z] for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], float)


def plane(rows, columns):
    """Quads of a grid, and its vertices in the plane z = 0."""
    index = np.arange(rows * columns).reshape(rows, columns)
    quads = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], -1).reshape(-1, 4)
    y, x = np.mgrid[:rows, :columns]
    return quads, np.stack([x, y, 0 * x], -1).reshape(-1, 3).astype(float)


def test_a_cube_becomes_what_the_rules_say():
    step = subdivide(CUBE, 8)
    vertices = step.smooth @ CORNERS
    assert vertices.shape == (8 + 12 + 6, 3)
    assert len(step.quads) == 24
    np.testing.assert_allclose(vertices[:8], CORNERS * 5 / 9, atol=1e-6)  # (F + 2 M + 0 P) / 3
    np.testing.assert_allclose(np.abs(vertices[8:20]).max(1), 0.75, atol=1e-6)
    np.testing.assert_allclose(np.abs(vertices[20:]).sum(1), 1, atol=1e-6)


def test_finer_quads_look_the_same_way_as_their_parent():
    step = subdivide(CUBE, 8)
    corners = (step.smooth @ CORNERS)[step.quads]
    facing = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    assert ((facing * corners.mean(1)).sum(1) > 0).all()
    assert unique_edges(step.quads)[2].max() == 2


def test_many_steps_approach_a_smooth_closed_surface():
    quads, vertices = CUBE, CORNERS
    for _ in range(4):
        step = subdivide(quads, len(vertices))
        quads, vertices = step.quads, step.smooth @ vertices
    radius = np.linalg.norm(vertices, axis=1)
    assert radius.max() / radius.min() < 1.2


def test_a_plane_stays_a_plane_with_its_corners_and_straight_borders():
    quads, vertices = plane(4, 5)
    step = subdivide(quads, len(vertices))
    finer = step.smooth @ vertices
    assert (finer[:, 2] == 0).all()
    np.testing.assert_allclose([finer.min(0), finer.max(0)], [vertices.min(0), vertices.max(0)], atol=1e-6)
    np.testing.assert_allclose(finer[0], vertices[0])
    np.testing.assert_allclose(np.asarray(step.smooth.sum(1)), 1, atol=1e-6)
    np.testing.assert_allclose(np.asarray(step.linear.sum(1)), 1, atol=1e-6)
    np.testing.assert_allclose(finer[len(vertices) :], (step.linear @ vertices)[len(vertices) :], atol=0.2)


def test_a_vertex_of_no_quad_stays():
    quads, vertices = plane(3, 3)
    step = subdivide(quads, len(vertices) + 1)
    assert (step.smooth @ np.vstack([vertices, [[7, 8, 9]]]))[9].tolist() == [7, 8, 9]


def test_an_edge_of_three_quads_is_refused():
    with pytest.raises(ValueError, match="more than two"):
        subdivide(np.array([[0, 1, 2, 3], [0, 1, 4, 5], [0, 1, 6, 7]]), 8)
