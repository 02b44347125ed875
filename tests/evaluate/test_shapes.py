"""Scores of meshes: alignments that are known, and drawn normals."""

import numpy as np
import pytest

from pipeline.evaluate import shapes


def hill(side=60, size=10.0):
    """An uneven hill: vertices (N, 3) in cm and triangles."""
    index = np.arange(side * side).reshape(side, side)
    a, b, c, d = index[1:, :-1], index[1:, 1:], index[:-1, 1:], index[:-1, :-1]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    y, x = (np.mgrid[:side, :side] / (side - 1) - 0.5) * size
    z = 3 * np.exp(-(x**2 + 2 * y**2) / 12) + np.exp(-((x - 2) ** 2 + (y - 1) ** 2)) - 0.2 * x
    return np.stack([x, -y, z], -1).reshape(-1, 3), triangles


@pytest.fixture(scope="module")
def scan():
    return shapes.scan_of(*hill(), count=100_000)


@pytest.fixture(scope="module")
def mesh():
    """Points of the hill, moved by a known similarity, and the way back."""
    vertices, _ = hill()
    inner = np.abs(vertices[:, :2]).max(1) < 4
    turn = np.linalg.qr(np.eye(3) + 0.1 * np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.diag(turn))
    return vertices[inner], shapes.Alignment(0.9, turn, np.array([1.0, -2.0, 0.5]))


def test_best_alignment_is_exact(mesh):
    points, known = mesh
    found = shapes.best_alignment(points, known(points))
    assert found.scale == pytest.approx(0.9)
    np.testing.assert_allclose(found(points), known(points), atol=1e-9)
    assert shapes.best_alignment(points, known(points), scaled=False).scale == 1


def test_a_moved_copy_has_no_error_and_its_scale_is_known(mesh, scan):
    points, known = mesh
    start = shapes.Alignment(1.0, np.eye(3), points.mean(0) - known(points).mean(0))
    normals = scan.normals[scan.tree.query(points)[1]] @ known.rotation.T
    found = shapes.score(known(points), normals, scan, start)
    assert found["similarity_p90"] < 0.5  # the scan's samples are that far apart
    assert found["scale"] == pytest.approx(1 / 0.9, rel=0.01)
    assert found["degrees"] < 2
    assert found["own_mean"] > 2 * found["similarity_mean"]


def test_a_bulge_is_measured(mesh, scan):
    points, _ = mesh
    bulge = points + np.float64([0, 0, 0.3]) * (np.linalg.norm(points[:, :2] - 1, axis=1) < 1.5)[:, None]
    start = shapes.Alignment(1.0, np.eye(3), np.zeros(3))
    plain, raised = (
        shapes.score(p, scan.normals[scan.tree.query(points)[1]], scan, start) for p in (points, bulge)
    )
    assert raised["similarity_p90"] > plain["similarity_p90"] + 0.8
