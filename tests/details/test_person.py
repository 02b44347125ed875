"""Which photos and faces belong to one person."""

import numpy as np

from pipeline.details.person import choose_faces, find_strangers, likenesses, most_different


def shape(degrees: float) -> np.ndarray:
    return 8 * np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0])


def test_the_face_most_like_those_that_are_alone_is_chosen():
    shapes = {0: {0: shape(10)}, 1: {0: shape(100), 2: shape(12)}, 4: {1: shape(-10)}}
    assert choose_faces(shapes) == {0: 0, 1: 2, 4: 1}


def test_crowds_alone_go_by_their_largest_faces():
    shapes = {0: {0: shape(10), 1: shape(80)}, 1: {0: shape(30), 1: shape(18)}}
    assert choose_faces(shapes) == {0: 0, 1: 1}


def test_strangers_are_found_one_after_the_other():
    shapes = {0: shape(10), 1: shape(11), 2: shape(130), 3: shape(9), 4: shape(120)}
    found = find_strangers(shapes, dict.fromkeys(shapes, 8.0), least=0.0)
    assert set(found) == {2, 4}
    assert np.isclose(found[4], np.cos(np.radians(110)))


def test_of_two_that_differ_the_one_that_fits_better_stays():
    assert set(find_strangers({3: shape(0), 7: shape(100)}, {3: 9.0, 7: 6.0}, least=0.0)) == {3}
    assert set(find_strangers({3: shape(0), 7: shape(100)}, {3: 6.0, 7: 6.0}, least=0.0)) == {7}
    assert not find_strangers({3: shape(0), 7: shape(80)}, {3: 9.0, 7: 6.0}, least=0.0)


def test_a_head_must_be_more_like_many_others_than_like_one():
    others = {0: shape(0), 1: shape(1), 2: shape(2)}
    assert not find_strangers({0: shape(0), 9: shape(85)}, {0: 6.0, 9: 8.0}, least=0.0)
    assert set(find_strangers(others | {9: shape(86)}, dict.fromkeys([0, 1, 2, 9], 8.0), least=0.0)) == {9}


def test_one_head_is_like_nobody():
    assert likenesses({3: shape(0)}) == {}
    assert np.isclose(likenesses({3: shape(0), 4: shape(60)})[4], 0.5)


def test_views_are_chosen_for_their_spread():
    angles = np.radians([0, 2, 5, -40, -42, 60, 3])
    directions = np.stack([np.sin(angles), np.zeros(7), np.cos(angles)], axis=1)
    assert most_different(directions, 3) == [0, 4, 5]
    assert most_different(directions, 9) == list(range(7))
