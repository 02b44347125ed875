"""Action units, emotions and priors of the 53 expression weights.

The table of action units (Ekman and Friesen's FACS) follows ICT-FaceKit's own, but for AU10, which raises the
upper lip (mouthUpperUp) as in py-feat, and AU23, whose nearest shape is mouthPress. Emotions are the usual
combinations of EMFACS: a hint that a user gives, never an answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

ACTION_UNITS: dict[str, tuple[str, ...]] = {
    "AU1": ("browInnerUp_L", "browInnerUp_R"),
    "AU2": ("browOuterUp_L", "browOuterUp_R"),
    "AU4": ("browDown_L", "browDown_R"),
    "AU5": ("eyeWide_L", "eyeWide_R"),
    "AU6": ("cheekSquint_L", "cheekSquint_R"),
    "AU7": ("eyeSquint_L", "eyeSquint_R"),
    "AU9": ("noseSneer_L", "noseSneer_R"),
    "AU10": ("mouthUpperUp_L", "mouthUpperUp_R"),
    "AU12": ("mouthSmile_L", "mouthSmile_R"),
    "AU14": ("mouthDimple_L", "mouthDimple_R"),
    "AU15": ("mouthFrown_L", "mouthFrown_R"),
    "AU16": ("mouthLowerDown_L", "mouthLowerDown_R"),
    "AU17": ("mouthShrugLower",),
    "AU18": ("mouthPucker",),
    "AU20": ("mouthStretch_L", "mouthStretch_R"),
    "AU22": ("mouthFunnel",),
    "AU24": ("mouthPress_L", "mouthPress_R"),
    "AU26": ("jawOpen",),
    "AU28": ("mouthRollLower", "mouthRollUpper"),
    "AU29": ("jawForward",),
    "AU33": ("cheekPuff_L", "cheekPuff_R"),
    "AU45": ("eyeBlink_L", "eyeBlink_R"),
    "AU63": ("eyeLookUp_L", "eyeLookUp_R"),
    "AU64": ("eyeLookDown_L", "eyeLookDown_R"),
}
"""Action unit -> shapes that make it together; in a record its intensity is their mean."""

ALIASES = {"AU23": "AU24", "AU25": "AU26", "AU27": "AU26", "AU34": "AU33"}
"""Action units that are taken in a hint for another one."""

EMOTIONS: dict[str, tuple[str, ...]] = {
    "neutral": (),
    "happy": ("AU6", "AU12"),
    "sad": ("AU1", "AU4", "AU15"),
    "surprise": ("AU1", "AU2", "AU5", "AU26"),
    "fear": ("AU1", "AU2", "AU4", "AU5", "AU7", "AU20", "AU26"),
    "anger": ("AU4", "AU5", "AU7", "AU23"),
    "disgust": ("AU9", "AU15", "AU16"),
}

FULL_INTENSITY = 5.0
"""Intensity of an action unit whose shapes have weight 1."""

_HINTED = 3.0
"""Intensity that an emotion stands for."""

_TOGETHER: tuple[tuple[str, ...], ...] = (
    ("AU6", "AU7", "AU12"),
    ("AU12", "AU10", "AU16"),
    ("AU26", "AU16", "AU10"),
    ("AU1", "AU2", "AU5"),
    ("AU4", "AU7", "AU9"),
    ("AU9", "AU10"),
    ("AU15", "AU17"),
    ("AU18", "AU22"),
)
"""Action units that mostly come together: their weights are correlated beforehand."""


@dataclass(frozen=True, eq=False)
class ExpressionPrior:
    """A Gaussian over the 53 weights: mean (53,) and precision (53, 53)."""

    mean: np.ndarray
    precision: np.ndarray


def expression_prior(
    names: tuple[str, ...],
    actions: Mapping[str, float] | None = None,
    *,
    sigma: float = 0.3,
    asymmetry: float = 0.15,
    together: float = 0.3,
    hinted: float = 0.12,
) -> ExpressionPrior:
    """The prior of a face's expression.

    Args:
        names: The names of the 53 expressions.
        actions: Action unit -> intensity 0..5 that the user gives; others stay as they are.
        sigma: Standard deviation of each weight by itself.
        asymmetry: Standard deviation of left minus right of a pair.
        together: Standard deviation of each plausible combination, added to `sigma`.
        hinted: Standard deviation of weights that the user gives.

    Raises:
        ValueError: There is no such action unit.
    """
    index = {name: k for k, name in enumerate(names)}
    covariance = np.eye(len(names)) * sigma**2
    for units in _TOGETHER:
        direction = np.zeros(len(names))
        for unit in units:
            direction[[index[shape] for shape in ACTION_UNITS[unit]]] = 1.0
        covariance += together**2 * np.outer(direction, direction)
    precision = np.linalg.inv(covariance)
    for name, left in index.items():
        if name.endswith("_L") and not name.startswith(("eyeLookIn", "eyeLookOut")):
            right = index[name[:-2] + "_R"]
            precision[[left, right], [left, right]] += 1 / asymmetry**2
            precision[[left, right], [right, left]] -= 1 / asymmetry**2
    information = np.zeros(len(names))
    for shape, weight in hinted_weights(actions or {}).items():
        information[index[shape]] = weight / hinted**2
        precision[index[shape], index[shape]] += 1 / hinted**2
    return ExpressionPrior(np.linalg.solve(precision, information), precision)


def hinted_weights(actions: Mapping[str, float]) -> dict[str, float]:
    """Weights of the shapes of action units with intensities 0..5.

    Raises:
        ValueError: There is no such action unit.
    """
    weights: dict[str, float] = {}
    for unit, intensity in actions.items():
        shapes = ACTION_UNITS.get(ALIASES.get(unit, unit))
        if shapes is None:
            raise ValueError(f"there is no action unit {unit!r}; known: {', '.join(ACTION_UNITS)}")
        weight = min(max(intensity / FULL_INTENSITY, 0.0), 1.0)
        weights |= {shape: max(weight, weights.get(shape, 0.0)) for shape in shapes}
    return weights


def emotion_actions(emotion: str) -> dict[str, float]:
    """Action units of an emotion, as a hint.

    Raises:
        ValueError: There is no such emotion.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"there is no emotion {emotion!r}; known: {', '.join(EMOTIONS)}")
    present = dict.fromkeys(EMOTIONS[emotion], _HINTED)
    # What the emotion does not name is left alone, but a neutral face is a statement about all.
    return present or dict.fromkeys(ACTION_UNITS, 0.0)


def action_units(names: tuple[str, ...], expression: np.ndarray) -> dict[str, float]:
    """Intensities 0..5 of all action units, from weights (53,)."""
    index = {name: k for k, name in enumerate(names)}
    return {
        unit: round(FULL_INTENSITY * float(np.mean([expression[index[shape]] for shape in shapes])), 3)
        for unit, shapes in ACTION_UNITS.items()
    }
