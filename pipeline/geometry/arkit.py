"""The head model's expressions under the 52 names of ARKit, as other programs drive them.

The model divides two of ARKit's shapes in a left and a right one and has no `tongueOut`; here the halves are
joined again, and the tongue stays empty. The model's `eyeLook` shapes move lids and skin alone: here they
turn the eyeballs, too.
"""

import numpy as np
import torch

from pipeline.geometry.head_model import MAX_GAZE, FaceModel, rotate_eyes

JOINED = ("browInnerUp", "cheekPuff")
TONGUE = "tongueOut"


def arkit_name(name: str) -> str:
    """Returns ARKit's name of one of the model's expressions: mouthSmile_L -> mouthSmileLeft."""
    for ending, word in (("_L", "Left"), ("_R", "Right")):
        if name.endswith(ending):
            stem = name.removesuffix(ending)
            return stem if stem in JOINED else stem + word
    return name


def arkit_weights(names: tuple[str, ...], expression: np.ndarray) -> dict[str, float]:
    """Returns the weight of each of the 52 shapes; a joined one has the mean of its halves.

    Args:
        names: The model's names of the expressions.
        expression: (53,) weights.
    """
    found: dict[str, list[float]] = {TONGUE: [0.0]}
    for name, weight in zip(names, expression, strict=True):
        found.setdefault(arkit_name(name), []).append(float(weight))
    return {name: sum(weights) / len(weights) for name, weights in sorted(found.items())}


def arkit_targets(model: FaceModel, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the movement of the vertices for each of the 52 shapes at weight 1.

    A morph target is a straight line: at weight 1 the eyes are turned by `MAX_GAZE`, in between their balls
    are smaller by up to 5 %.

    Args:
        model: The head model.
        vertices: (V, 3) centimetres in head space, of the head whose eyes are turned from straight ahead.

    Returns:
        Name -> (V, 3) float32 centimetres in head space, in the order of the names.
    """
    targets: dict[str, np.ndarray] = {TONGUE: np.zeros(vertices.shape, np.float32)}
    for name, offsets in zip(model.expression_names, model.expression.numpy(), strict=True):
        moved = offsets.reshape(vertices.shape) + _eye_turn(model, vertices, name)
        own = arkit_name(name)
        targets[own] = targets[own] + moved if own in targets else moved
    return dict(sorted(targets.items()))


def _eye_turn(model: FaceModel, vertices: np.ndarray, name: str) -> np.ndarray | float:
    """Movement (V, 3) of the eyeball that looks where an expression says; 0 for other expressions."""
    if not name.startswith("eyeLook"):
        return 0.0
    side = 0 if name.endswith("_L") else 1
    outwards = 1.0 if side == 0 else -1.0
    way = {"In": (-outwards, 0), "Out": (outwards, 0), "Up": (0, 1), "Down": (0, -1)}
    gaze = torch.zeros(1, 2, 2)
    gaze[0, side] = torch.tensor(way[name[len("eyeLook") : -2]]) * torch.from_numpy(MAX_GAZE)
    points = torch.from_numpy(np.ascontiguousarray(vertices, np.float32))[None]
    ids = model.eyes[side].numpy()
    change = np.zeros(vertices.shape, np.float32)
    change[ids] = (rotate_eyes(model, points, gaze)[0] - points)[0, ids].numpy()
    return change
