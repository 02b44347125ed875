"""Derivatives of all terms against differences, on a turned head with an expression."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from posed_faces import camera

from pipeline.fitting import terms
from pipeline.fitting.head import EXPRESSION, IDENTITY, fit_head
from pipeline.geometry.head_model import load_face_model


@pytest.fixture(scope="module")
def head(ict_facekit):
    return fit_head(load_face_model(ict_facekit))


@pytest.fixture(scope="module")
def state():
    rng = np.random.default_rng(0)
    tilt = cv2.Rodrigues(np.array([0.02, -0.05, 0.01]))[0]
    return rng.normal(size=100), replace(camera(25, -10, 5, at=(4, -3)), expression=rng.random(53), tilt=tilt)


def moved(state, change):
    identity, view = state
    zoom = np.exp(change[terms.FOCAL])
    return identity + change[:IDENTITY], replace(
        view,
        expression=view.expression + change[IDENTITY : IDENTITY + EXPRESSION],
        rotation=cv2.Rodrigues(change[terms.ROTATION])[0] @ view.rotation,
        position=view.position * zoom + change[terms.POSITION],
        focal=view.focal * zoom,
        tilt=cv2.Rodrigues(change[terms.TILT])[0] @ view.tilt,
    )


def make(kind, head, state):
    rng = np.random.default_rng(3)
    ids, pixels, sigma = head.dense[:20], rng.random((20, 2)) * 500, rng.uniform(1, 3, 20)
    across = rng.normal(size=(20, 2))
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    if kind == "points":
        return terms.point_term(head, ids, pixels, sigma, weight=1.0, robust=3.0)
    if kind == "differences":
        return terms.difference_term(
            head, ids.reshape(10, 2), pixels[:10], sigma[:10], weight=1.0, robust=3.0
        )
    if kind == "contours":
        return terms.contour_term(head, ids, pixels, across, sigma=sigma, weight=1.0, robust=3.0)
    normals = rng.normal([0, 0, 3], 1, (20, 3))
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    to_camera = cv2.Rodrigues(np.array([0.1, 0.05, 0.0]))[0]
    return terms.NormalTerm(np.arange(0, 2000, 100), normals, to_camera, np.ones(20), 0.3, head)


@pytest.mark.parametrize("kind", ["points", "differences", "contours", "normals"])
def test_derivatives_are_those_of_the_residuals(kind, head, state):
    term = make(kind, head, state)
    derivatives = term.derivatives(*state)
    rng = np.random.default_rng(5)
    step = 0.02
    for _ in range(8):
        change = rng.normal(size=terms.LOCAL) * step
        change[terms.ROTATION] /= 20
        change[terms.TILT] /= 20
        change[terms.FOCAL] /= 20
        if kind == "normals":
            # Lengths of tangents are taken as constant, which holds for all that does not stretch the face.
            change[: IDENTITY + EXPRESSION] = 0
        difference = term.residuals(*moved(state, change)) - term.residuals(*moved(state, -change))
        expected = 2 * derivatives @ change
        np.testing.assert_allclose(difference, expected, atol=0.02 * np.abs(expected).max())


def test_shape_derivatives_of_normals_lower_the_residual(head, state):
    """A Gauss-Newton step by normals alone recovers a small change of the shape's normals."""
    identity, view = state
    term = make("normals", head, state)
    h, g = terms.normal_equations(term, identity, view)
    shape = slice(0, IDENTITY + EXPRESSION)
    change = np.zeros(terms.LOCAL)
    change[shape] = -0.1 * np.linalg.solve(h[shape, shape] + 1e-3 * np.eye(153), g[shape])
    after = terms.cost(term, term.residuals(*moved(state, change)))
    assert after < terms.cost(term, term.residuals(identity, view))


def test_far_residuals_count_less(head, state):
    term = make("points", head, state)
    near = terms.cost(term, np.full((20, 2), 0.1))
    assert near == pytest.approx(20 * 0.02 / 2, rel=0.01)
    assert terms.cost(term, np.full((20, 2), 100.0)) < 20 * 20000 / 2 / 100
