"""Labels of rendered rows, their mirror images, and training crops made of them."""

import cv2
import numpy as np
import pytest

from pipeline.faces.points import COUNT, DENSE, SIZE
from pipeline.faces.window import RolledWindow
from pipeline.geometry.head_model import load_face_model
from pipeline.points.draw import cut_example, draw_example, head_roll, jitter, true_window
from pipeline.points.labels import decode_bgr, label_row, point_vertices, vertices_digest
from pipeline.synth.rows import encode_batch
from pipeline.synth.sample import SampleConfig, Sampler


@pytest.fixture(scope="module")
def rows(ict_facekit):
    sampler = Sampler(SampleConfig(size=96), seed=5, model=ict_facekit)
    return encode_batch(sampler.render([0, 1, 2]), "test-")


@pytest.fixture(scope="module")
def heads(rows, ict_facekit):
    return [label_row(row, load_face_model(ict_facekit)) for row in rows]


def test_points_are_those_that_the_renderer_stored(rows, heads):
    for row, head in zip(rows, heads, strict=True):
        stored = np.reshape(row["dense"], (DENSE, 3))[:, :2]
        assert np.abs(head.points[0, :DENSE] - stored).max() < 0.02
        assert np.abs(head.points[0, DENSE:] - np.reshape(row["landmarks"], (68, 2))).max() < 0.02
        assert (head.visible[0, :DENSE] == row["dense_visible"]).mean() > 0.995


def test_a_mirrored_head_is_seen_as_much(heads):
    for head in heads:
        assert abs(head.visible[0].mean() - head.visible[1].mean()) < 0.06
        assert np.linalg.det(head.rotation[1]) == pytest.approx(1, abs=1e-4)
        assert head_roll(head.rotation[1]) == pytest.approx(-head_roll(head.rotation[0]), abs=1e-3)
        # The tip of the nose is its own mirror image; the corners of the mouth change places.
        nose, right, left = DENSE + 30, DENSE + 48, DENSE + 54
        flipped = head.points[0] * [-1, 1] + [head.size - 1, 0]
        assert np.abs(head.points[1, nose] - flipped[nose]).max() < 0.1
        assert np.abs(head.points[1, right] - flipped[left]).max() < 0.1


def test_crops_are_upright_and_agree_with_their_points(heads):
    for head in heads:
        for mirrored in (False, True):
            window = true_window(head, mirrored)
            example = cut_example(head, window, mirrored)
            assert abs(head_roll(example.rotation)) < 2  # what perspective turns
            assert example.image.shape == (SIZE, SIZE, 3)
            back = window.to_photo(example.points * SIZE + (SIZE - 1) / 2, SIZE)
            assert np.abs(back - head.points[int(mirrored)]).max() < 0.01


def test_a_crop_is_the_picture_at_its_points(heads):
    """The colours at the points in a turned crop are those at the points in the picture."""
    for head in heads:
        window = true_window(head)
        turned = RolledWindow(window.x, window.y, window.side, window.roll + 50)
        example = cut_example(head, turned)
        image = cv2.GaussianBlur(decode_bgr(head.image, cv2.IMREAD_COLOR)[..., ::-1], (0, 0), 2)
        crop = cv2.GaussianBlur(example.image, (0, 0), 2 * SIZE / window.side)
        seen = example.visible
        here = np.rint(head.points[0][seen]).astype(int)
        there = np.rint(example.points[seen] * SIZE + (SIZE - 1) / 2).astype(int)
        difference = image[here[:, 1], here[:, 0]].astype(int) - crop[there[:, 1], there[:, 0]]
        assert np.abs(difference).mean() < 8


def test_training_crops_are_bounded_and_repeatable(heads):
    for index in range(40):
        example = draw_example(heads[index % 3], np.random.default_rng(index))
        again = draw_example(heads[index % 3], np.random.default_rng(index))
        assert (example.image == again.image).all()
        assert (example.image.shape, example.image.dtype) == ((SIZE, SIZE, 3), np.uint8)
        assert example.points.shape == (COUNT, 2)
        assert example.points.dtype == np.float32
        inside = (np.abs(example.points) < 0.5).all(1)
        assert not example.visible[~inside].any()
        assert np.allclose(example.rotation @ example.rotation.T, np.eye(3), atol=1e-4)


def test_detector_like_windows_stay_near(heads):
    rng = np.random.default_rng(0)
    window = true_window(heads[0])
    drawn = [jitter(window, rng, any_roll=False) for _ in range(300)]
    sides = np.array([w.side for w in drawn]) / window.side
    assert 0.07 < np.log(sides).std() < 0.12
    assert (
        np.hypot(*[[w.x - window.x for w in drawn], [w.y - window.y for w in drawn]]).max()
        < 0.2 * window.side
    )


def test_the_choice_of_vertices_has_a_name(ict_facekit):
    ids = point_vertices(load_face_model(ict_facekit))
    assert ids.shape == (COUNT,)
    assert vertices_digest(ids) != vertices_digest(ids[::-1])
