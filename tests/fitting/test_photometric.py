"""What two photos show of the same skin, in the fit."""

from dataclasses import replace

import numpy as np
import pytest
from posed_faces import camera, draw, take

from pipeline.evaluate.metrics import rotation_angle
from pipeline.fitting.fit import fit_views
from pipeline.fitting.head import fit_head
from pipeline.fitting.photometric import choose_pairs, pair_terms
from pipeline.fitting.views import Picture
from pipeline.geometry.head_model import load_face_model

SIDE = 320


@pytest.fixture(scope="module")
def head(ict_facekit):
    return fit_head(load_face_model(ict_facekit))


def freckled(head, photo, seed=0, exposure=1.0):
    """The view of a photo with a picture: marks of some millimetres and several hues on the skin."""
    waves = np.random.default_rng(seed).normal(0, 5, (60, 3))
    first, second = np.clip(np.sin(head.neutral @ waves.T).reshape(-1, 2, 30).mean(2).T * 6, -0.7, 0.7)
    colours = np.stack([np.exp(first), np.exp(second), np.ones(len(first))], 1)
    size = photo.view.normals.size
    corner = photo.view.normals.left, photo.view.normals.top
    image, _ = draw(photo.vertices, head.quads, colours, photo.truth, (*corner, size), SIDE)
    pixels = np.clip(image * 200 * exposure, 0, 255).astype(np.uint8)
    return replace(photo.view, picture=Picture(pixels, *corner, size))


def pair(head, seed=8, noise=4.0):
    """Two photos of a person with inexact points."""
    rng = np.random.default_rng(seed)
    identity = rng.normal(size=100)
    return identity, [
        take(head, identity, camera(yaw), noise=noise, sigma=noise, seed=k) for k, yaw in enumerate((-18, 18))
    ]


def test_the_gradient_of_a_pair_is_that_of_its_cost(head):
    identity, photos = pair(head)
    views = tuple(photo.truth for photo in photos)
    pictures = [freckled(head, photo).picture for photo in photos]
    start = identity + np.random.default_rng(0).normal(0, 0.1, 100)
    pairs = choose_pairs(pictures, start, views, head)
    (term,) = pair_terms(pictures, start, views, head, pairs=pairs, scale=(0.4, 1.0), weight=100, robust=0.7)
    _, gradient, columns = term.normal_equations(start, views)
    assert columns[:3].tolist() == [0, 1, 2]
    for k in range(4):
        step = np.zeros(100)
        step[k] = 0.05
        change = term.cost(start + step, views) - term.cost(start - step, views)
        assert change / 0.1 == pytest.approx(gradient[k], rel=0.25, abs=0.02)


def test_marks_of_the_skin_align_photos_whose_points_are_off(head):
    """The points of the second photo are those of a head that is turned four degrees more."""
    identity, photos = pair(head)
    turned = take(head, identity, camera(22), sigma=4.0).view.points
    seen = [
        freckled(head, photo, exposure=exposure) for photo, exposure in zip(photos, (1, 0.6), strict=True)
    ]
    fit = fit_views([seen[0], replace(seen[1], points=turned)], head)
    true = photos[1].truth.rotation @ photos[0].truth.rotation.T

    def off(stage):
        first, second = fit.stages[stage].views
        return rotation_angle(second.rotation @ first.rotation.T @ true.T)

    assert fit.refused is None
    assert fit.costs["photometric"][1] < fit.costs["photometric"][0]
    assert off("photometric") < off("normals") - 0.5


def test_photos_without_common_marks_hardly_count(head):
    identity, photos = pair(head)
    views = tuple(photo.truth for photo in photos)
    alike, other = (freckled(head, photo).picture for photo in photos)
    strange = freckled(head, photos[1], seed=1).picture
    trust = [sum(choose_pairs([alike, p], identity, views, head).values()) for p in (other, strange)]
    assert trust[0] > 1
    assert trust[1] < trust[0] / 4
    assert choose_pairs([alike, None], identity, views, head) == {}
