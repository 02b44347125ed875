"""Action units, emotions and the prior of expressions."""

import numpy as np
import pytest

from pipeline.fitting.expressions import (
    ACTION_UNITS,
    EMOTIONS,
    action_units,
    emotion_actions,
    expression_prior,
    hinted_weights,
)
from pipeline.geometry.head_model import load_face_model


@pytest.fixture(scope="module")
def names(ict_facekit):
    return load_face_model(ict_facekit).expression_names


def test_the_table_names_shapes_of_the_model_each_once(names):
    shapes = [shape for group in ACTION_UNITS.values() for shape in group]
    assert set(shapes) <= set(names)
    assert len(shapes) == len(set(shapes))


def test_hints_and_answers_are_each_others_inverse(names):
    weights = hinted_weights({"AU12": 3, "AU6": 2, "AU27": 5})
    assert weights["mouthSmile_L"] == pytest.approx(0.6)
    assert weights["jawOpen"] == 1
    expression = np.array([weights.get(name, 0) for name in names])
    found = action_units(names, expression)
    assert (found["AU12"], found["AU6"], found["AU26"], found["AU4"]) == (3, 2, 5, 0)


def test_unknown_hints_are_refused():
    with pytest.raises(ValueError, match="no action unit 'AU99'"):
        hinted_weights({"AU99": 1})
    with pytest.raises(ValueError, match="no emotion 'hungry'"):
        emotion_actions("hungry")


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_emotions_are_action_units(emotion):
    assert hinted_weights(emotion_actions(emotion)) is not None


def test_prior_favours_what_is_symmetric_and_plausible_and_what_the_user_says(names):
    def cost(prior, **weights):
        off = np.array([weights.get(name, 0.0) for name in names]) - prior.mean
        return off @ prior.precision @ off

    free = expression_prior(names)
    assert np.linalg.eigvalsh(free.precision).min() > 0
    np.testing.assert_allclose(free.mean, 0)
    both = cost(free, mouthSmile_L=0.5, mouthSmile_R=0.5)
    assert both < cost(free, mouthSmile_L=0.7)
    cheeks = cost(free, mouthSmile_L=0.5, mouthSmile_R=0.5, cheekSquint_L=0.4, cheekSquint_R=0.4)
    sneer = cost(free, mouthSmile_L=0.5, mouthSmile_R=0.5, noseSneer_L=0.4, noseSneer_R=0.4)
    assert cheeks < sneer
    hinted = expression_prior(names, {"AU12": 3})
    index = names.index("mouthSmile_L")
    assert hinted.mean[index] == pytest.approx(0.6, abs=0.1)
    assert hinted.precision[index, index] > free.precision[index, index]
