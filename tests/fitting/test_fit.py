"""The fit on faces of which everything is known."""

from dataclasses import replace

import numpy as np
import pytest
from posed_faces import camera, take
from scipy.spatial import cKDTree

from pipeline.evaluate.metrics import angular_error, rotation_angle
from pipeline.evaluate.shapes import best_alignment
from pipeline.fitting.fit import FitConfig, FitError, fit_views
from pipeline.fitting.head import fit_head
from pipeline.fitting.observe import normals_of_quads
from pipeline.fitting.views import Points
from pipeline.geometry.head_model import load_face_model


@pytest.fixture(scope="module")
def head(ict_facekit):
    return fit_head(load_face_model(ict_facekit))


def person(seed):
    rng = np.random.default_rng(seed)
    expression = np.zeros(53)
    expression[rng.choice(53, 5, replace=False)] = rng.uniform(0.1, 0.7, 5)
    return rng.normal(size=100), expression


def errors(head, photo, fit, k=0):
    """Median distance in mm after similarity alignment, and mean degrees, over the open skin."""
    view = fit.views[k]
    found = view.to_camera(head.vertices(fit.identity, view.expression))
    skin, goal = head.skin, photo.vertices[: len(head.neutral)]
    moved = best_alignment(found[skin], goal[skin])(found[skin])
    angle = angular_error(normals_of_quads(found, head.quads)[skin], normals_of_quads(goal, head.quads)[skin])
    return np.median(np.linalg.norm(moved - goal[skin], axis=1)) * 10, angle.mean()


@pytest.mark.parametrize("yaw", [0, 35, -60])
def test_true_points_and_normals_give_the_face_back(head, yaw):
    identity, expression = person(yaw + 100)
    photo = take(head, identity, replace(camera(yaw, 8, -6, at=(3, 2)), expression=expression))
    fit = fit_views([photo.view], head)
    mm, degrees = errors(head, photo, fit)
    assert mm < 0.6
    assert degrees < 4  # creases of lids and lips are smoothed, and half the face is unseen
    assert fit.quality[0].points < 1.5
    assert fit.quality[0].normals < 3
    assert not fit.quality[0].disagree
    assert ((fit.views[0].expression >= 0) & (fit.views[0].expression <= 1)).all()
    for costs in fit.costs.values():
        assert costs[-1] <= costs[0] * 1.5


def test_a_mirrored_photo_gives_the_mirrored_face(head):
    identity, expression = person(3)
    photo = take(head, identity, replace(camera(20, -5, 4, at=(5, 3)), expression=expression), noise=1.0)
    # The mirror image of a vertex of the neutral face is a vertex.
    partner = cKDTree(head.neutral).query(head.neutral * [-1, 1, 1])[1]
    view = photo.view
    points = Points(partner[view.points.vertices], view.points.photo * [-1, 1] + [799, 0], view.points.sigma)
    flipped = view.normals.normals[:, ::-1] * np.float32([-1, 1, 1])
    normals = replace(
        view.normals,
        normals=np.ascontiguousarray(flipped),
        confidence=np.ascontiguousarray(view.normals.confidence[:, ::-1]),
        left=800 - view.normals.left - view.normals.size,
    )
    first = fit_views([view], head)
    second = fit_views([replace(view, points=points, normals=normals)], head)
    a, b = (head.vertices(f.identity, f.views[0].expression) for f in (first, second))
    assert np.abs(a - b[partner] * [-1, 1, 1])[head.skin].max() < 0.05  # half a millimetre
    assert np.abs(first.views[0].position - second.views[0].position * [-1, 1, 1]).max() < 0.5


def test_two_photos_share_the_identity_and_tell_more_than_one(head):
    identity, expression = person(8)
    photos = [
        take(head, identity, replace(camera(yaw), expression=e), noise=2.0, sigma=2.0, seed=k)
        for k, (yaw, e) in enumerate([(-30, expression), (30, np.zeros(53))])
    ]
    both = fit_views([photo.view for photo in photos], head)
    alone = fit_views([photos[0].view], head)
    assert len(both.views) == len(both.quality) == 2

    def off(fit):
        found, goal = (head.vertices(value, np.zeros(53))[head.skin] for value in (fit.identity, identity))
        return np.linalg.norm(best_alignment(found, goal)(found) - goal, axis=1).mean()

    assert off(both) < off(alone)
    turn = both.views[1].rotation @ both.views[0].rotation.T
    true = photos[1].truth.rotation @ photos[0].truth.rotation.T
    assert rotation_angle(turn @ true.T) < 2


def test_normals_that_contradict_the_points_raise_the_flag(head):
    identity, expression = person(4)
    photo = take(head, identity, replace(camera(-25), expression=expression))
    other = take(head, identity, replace(camera(35), expression=expression))
    fit = fit_views([replace(photo.view, normals=other.view.normals)], head)
    assert fit.quality[0].disagree
    assert fit.quality[0].disagreement > FitConfig().disagreement


def test_all_normals_turned_alike_do_not_become_shape(head):
    identity, expression = person(5)
    photo = take(head, identity, replace(camera(10), expression=expression))
    turn = np.array(
        [[1, 0, 0], [0, np.cos(0.09), -np.sin(0.09)], [0, np.sin(0.09), np.cos(0.09)]], np.float32
    )
    turned = replace(photo.view.normals, normals=photo.view.normals.normals @ turn.T)
    fit = fit_views([replace(photo.view, normals=turned)], head)
    assert fit.quality[0].tilt == pytest.approx(np.degrees(0.09), abs=1.5)
    assert errors(head, photo, fit)[1] < 3


def test_a_view_without_normals_and_with_unknown_points_is_fitted_by_the_rest(head):
    identity, expression = person(6)
    photo = take(head, identity, replace(camera(15), expression=expression))
    points = photo.view.points
    sigma = points.sigma.copy()
    sigma[::3] = np.inf
    pixels = points.photo.copy()
    pixels[::3] = np.nan
    fit = fit_views(
        [replace(photo.view, points=replace(points, photo=pixels, sigma=sigma), normals=None)], head
    )
    assert errors(head, photo, fit)[0] < 1
    assert np.isnan(fit.quality[0].normals)
    assert fit.quality[0].covered == 0


def test_contour_points_of_the_jaw_do_not_pin_vertices(head):
    """On a turned head annotated jaw points lie on the contour, not on the model's jaw vertices."""
    identity, expression = person(7)
    photo = take(head, identity, replace(camera(40), expression=expression))
    points = photo.view.points
    contour = np.zeros(len(points.sigma), bool)
    contour[500:517] = True
    view = replace(photo.view, points=replace(points, contour=contour), normals=None)
    assert errors(head, photo, fit_views([view], head))[0] < 1


def test_a_hint_is_followed_where_the_photo_says_nothing(head):
    identity, _ = person(9)
    photo = take(head, identity, camera())
    loose = replace(photo.view, points=replace(photo.view.points, sigma=photo.view.points.sigma * 200))
    smile = head.expression_names.index("mouthSmile_L")
    hinted = fit_views([replace(loose, normals=None, actions={"AU12": 4})], head)
    plain = fit_views([replace(loose, normals=None)], head)
    assert hinted.views[0].expression[smile] > plain.views[0].expression[smile] + 0.3


def test_too_few_points_are_an_error(head):
    photo = take(head, np.zeros(100), camera())
    sigma = photo.view.points.sigma.copy()
    sigma[5:] = np.inf
    with pytest.raises(FitError, match="5 points"):
        fit_views([replace(photo.view, points=replace(photo.view.points, sigma=sigma))], head)
