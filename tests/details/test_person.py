"""Which photos and faces belong to one person."""

from __future__ import annotations

import numpy as np

from pipeline.details.person import choose_faces, find_strangers, most_different


def shape(size: float) -> np.ndarray:
    return np.full((10, 3), size / np.sqrt(3))


def test_the_face_most_like_those_that_are_alone_is_chosen():
    shapes = {0: {0: shape(1.0)}, 1: {0: shape(5.0), 2: shape(1.1)}, 4: {1: shape(0.9)}}
    assert choose_faces(shapes) == {0: 0, 1: 2, 4: 1}


def test_crowds_alone_go_by_their_largest_faces():
    shapes = {0: {0: shape(1.0), 1: shape(3.0)}, 1: {0: shape(1.2), 1: shape(1.05)}}
    assert choose_faces(shapes) == {0: 0, 1: 1}


def test_strangers_are_found_one_after_the_other():
    shapes = {0: shape(1.0), 1: shape(1.1), 2: shape(2.0), 3: shape(0.9), 4: shape(1.9)}
    found = find_strangers(shapes, dict.fromkeys(shapes, 8.0), most_mm=4.5)
    assert set(found) == {2, 4}
    assert np.isclose(found[4], 9.0)


def test_of_two_that_differ_the_one_that_fits_better_stays():
    assert set(find_strangers({3: shape(1.0), 7: shape(2.0)}, {3: 9.0, 7: 6.0}, most_mm=4.5)) == {3}
    assert set(find_strangers({3: shape(1.0), 7: shape(2.0)}, {3: 6.0, 7: 6.0}, most_mm=4.5)) == {7}
    assert not find_strangers({3: shape(1.0), 7: shape(1.4)}, {3: 9.0, 7: 6.0}, most_mm=4.5)


def test_views_are_chosen_for_their_spread():
    angles = np.radians([0, 2, 5, -40, -42, 60, 3])
    directions = np.stack([np.sin(angles), np.zeros(7), np.cos(angles)], axis=1)
    assert most_different(directions, 3) == [0, 4, 5]
    assert most_different(directions, 9) == list(range(7))
