"""ARKit's names for the model's expressions, and eyes that follow them."""

import numpy as np
import pytest

from pipeline.geometry.arkit import arkit_targets, arkit_weights
from pipeline.geometry.head_model import load_face_model


@pytest.fixture(scope="module")
def model(ict_facekit):
    return load_face_model(ict_facekit)


def test_52_names(model):
    weights = arkit_weights(model.expression_names, np.zeros(53))
    assert len(weights) == 52
    assert {"browInnerUp", "cheekPuff", "mouthSmileLeft", "jawOpen", "tongueOut"} <= set(weights)
    assert not any("_" in name for name in weights)


def test_joined_shapes(model):
    expression = np.zeros(53)
    expression[model.expression_index("browInnerUp_L")] = 0.2
    expression[model.expression_index("browInnerUp_R")] = 0.6
    expression[model.expression_index("mouthSmile_R")] = 0.5
    weights = arkit_weights(model.expression_names, expression)
    assert weights["browInnerUp"] == pytest.approx(0.4)
    assert (weights["mouthSmileRight"], weights["mouthSmileLeft"]) == (0.5, 0)


def test_targets_add_up_to_the_models_expressions(model):
    targets = arkit_targets(model, model.neutral.numpy())
    assert list(targets) == list(arkit_weights(model.expression_names, np.zeros(53)))
    halves = [model.expression[model.expression_index(f"cheekPuff_{side}")] for side in "LR"]
    assert np.allclose(targets["cheekPuff"].ravel(), (halves[0] + halves[1]).numpy(), atol=1e-6)
    assert not targets["tongueOut"].any()


@pytest.mark.parametrize(
    ("name", "axis", "sign"),
    [
        ("eyeLookOutLeft", 0, 1),
        ("eyeLookInLeft", 0, -1),
        ("eyeLookOutRight", 0, -1),
        ("eyeLookInRight", 0, 1),
        ("eyeLookUpLeft", 1, 1),
        ("eyeLookDownRight", 1, -1),
    ],
)
def test_eyes_look_where_the_name_says(model, name, axis, sign):
    """Left is the subject's: +x. Out is away from the nose."""
    vertices = model.neutral.numpy()
    target = arkit_targets(model, vertices)[name]
    side = 0 if name.endswith("Left") else 1
    ids = model.eyes[side].numpy()
    front = ids[np.argmax(vertices[ids, 2])]
    assert 0.4 < sign * target[front, axis] < 1.2
    other = model.eyes[1 - side].numpy()
    assert not target[other].any()
    # The ball keeps its size.
    centre = (vertices[ids].min(0) + vertices[ids].max(0)) / 2
    before, after = (np.linalg.norm(points[ids] - centre, axis=1) for points in (vertices, vertices + target))
    assert np.abs(after - before).max() < 1e-3
