"""Distributions of heads: who it is, what the face does, where the eyes look.

| what | distribution |
|---|---|
| identity | all 100 coefficients N(0, s), s ~ U(0.7, 1.4) once per head |
| build | three axis scales, each N(1, 0.03) |
| expression | one of `KINDS` below, then lids and gaze on top |
| lids | 12 % closed, 12 % half closed, 2 % one closed, 8 % wide, 10 % squinting |
| gaze | 75 % N(0, 7) degrees sideways and N(0, 4) up and down, 25 % N(0, 18) and N(0, 10); lids follow |

Left and right weights of a pair differ by up to a quarter, as in real faces. Weights lie in 0..1. The head
model's expressions are linear, so 1.0 is the strongest natural pose of each.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.geometry.head_model import MAX_GAZE

_PORTRAIT_KINDS = {"neutral": 0.6, "smile": 0.4}


@dataclass(frozen=True)
class DrawnHead:
    """One head.

    Attributes:
        identity: (100,) float64 coefficients.
        scale: (3,) float64 scale of each axis.
        expression: (53,) float64 weights in 0..1.
        gaze: (2,) float64 radians, yaw (positive to the subject's left) and pitch (positive up).
        kind: Name of the expression, one of `KINDS`.
        eyes: "open", "closed", "half", "wink", "wide" or "squint".
    """

    identity: np.ndarray
    scale: np.ndarray
    expression: np.ndarray
    gaze: np.ndarray
    kind: str
    eyes: str

    @property
    def offsets(self) -> np.ndarray:
        """(153,) identity coefficients and expression weights in a row."""
        return np.concatenate([self.identity, self.expression])


def draw_head(rng: np.random.Generator, names: tuple[str, ...], portrait: bool = False) -> DrawnHead:
    """Draws a head."""
    identity = rng.normal(0, rng.uniform(0.7, 1.4), 100)
    scale = rng.normal(1, 0.03, 3).clip(0.9, 1.1)
    expression, kind, eyes, gaze = draw_expression(rng, names, portrait)
    return DrawnHead(identity, scale, expression, gaze, kind, eyes)


def draw_expression(
    rng: np.random.Generator, names: tuple[str, ...], portrait: bool = False
) -> tuple[np.ndarray, str, str, np.ndarray]:
    """Draws what a face does: expression weights (53,), its kind, the state of the eyes and the gaze (2,)."""
    weights = dict.fromkeys(names, 0.0)
    kinds = _PORTRAIT_KINDS if portrait else {kind: share for kind, (share, _) in KINDS.items()}
    kind = str(rng.choice(list(kinds), p=list(kinds.values())))
    KINDS[kind][1](rng, weights)
    gaze = _draw_gaze(rng, portrait)
    eyes = _draw_lids(rng, weights, portrait)
    _follow_gaze(weights, gaze)
    pairs = [name[:-2] for name in names if name.endswith("_L")]
    for name, skew in zip(pairs, rng.normal(0, 0.1, len(pairs)).clip(-0.25, 0.25), strict=True):
        weights[f"{name}_L"] *= 1 + skew
        weights[f"{name}_R"] *= 1 - skew
    return np.clip([weights[name] for name in names], 0.0, 1.0), kind, eyes, gaze


def _pair(weights: dict[str, float], name: str, value: float) -> None:
    """Raises both sides of a paired expression to a value."""
    for side in ("_L", "_R"):
        weights[name + side] = max(weights[name + side], value)


def _neutral(rng: np.random.Generator, weights: dict[str, float]) -> None:
    """Nearly nothing: a few weak shapes, as every relaxed face has."""
    for name in rng.choice(list(weights), 4, replace=False):
        weights[str(name)] = rng.uniform(0, 0.15)


def _smile(rng: np.random.Generator, weights: dict[str, float]) -> None:
    strength = rng.uniform(0.2, 1.0)
    _pair(weights, "mouthSmile", strength)
    _pair(weights, "cheekSquint", strength * rng.uniform(0.1, 0.9))
    _pair(weights, "eyeSquint", strength * rng.uniform(0, 0.7))
    _pair(weights, "mouthDimple", rng.uniform(0, 0.4))
    if rng.random() < 0.55:  # showing the teeth
        _pair(weights, "mouthUpperUp", strength * rng.uniform(0.1, 0.7))
        _pair(weights, "mouthLowerDown", strength * rng.uniform(0, 0.5))
        weights["jawOpen"] = rng.uniform(0, 0.25)


def _talk(rng: np.random.Generator, weights: dict[str, float]) -> None:
    weights["jawOpen"] = rng.uniform(0, 0.4)
    weights["mouthClose"] = weights["jawOpen"] * rng.choice([0.0, rng.uniform(0, 0.7)])
    shape = rng.choice(["mouthFunnel", "mouthPucker", "mouthRollLower", "mouthShrugUpper", "mouthShrugLower"])
    weights[str(shape)] = rng.uniform(0, 0.7)
    _pair(weights, "mouthLowerDown", rng.uniform(0, 0.5))
    _pair(weights, "mouthUpperUp", rng.uniform(0, 0.4))
    _pair(weights, "mouthStretch", rng.uniform(0, 0.3))
    weights["jawLeft"] = max(0.0, rng.normal(0, 0.1))
    weights["jawRight"] = max(0.0, rng.normal(0, 0.1))
    _brows(rng, weights, 0.5)


def _random(rng: np.random.Generator, weights: dict[str, float]) -> None:
    """One to six shapes of the model, whatever they are."""
    shapes = [name for name in weights if not name.startswith("eyeLook")]
    for name in rng.choice(shapes, rng.integers(1, 7), replace=False):
        value = rng.uniform(0, 0.9)
        if str(name)[-2:] in ("_L", "_R") and rng.random() < 0.7:
            _pair(weights, str(name)[:-2], value)
        else:
            weights[str(name)] = value


def _open(rng: np.random.Generator, weights: dict[str, float]) -> None:
    weights["jawOpen"] = rng.uniform(0.4, 1.0)
    _pair(weights, "mouthSmile", rng.choice([0.0, rng.uniform(0, 0.9)]))
    _pair(weights, "mouthStretch", rng.uniform(0, 0.4))
    _pair(weights, "mouthUpperUp", rng.uniform(0, 0.5))
    weights["mouthFunnel"] = rng.choice([0.0, rng.uniform(0, 0.5)])
    _brows(rng, weights, 0.8)


def _frown(rng: np.random.Generator, weights: dict[str, float]) -> None:
    _pair(weights, "browDown", rng.uniform(0.3, 1.0))
    _pair(weights, "eyeSquint", rng.uniform(0, 0.7))
    _pair(weights, "mouthFrown", rng.uniform(0, 0.9))
    _pair(weights, "mouthPress", rng.uniform(0, 0.6))
    _pair(weights, "noseSneer", rng.choice([0.0, rng.uniform(0, 0.8)]))


def _grimace(rng: np.random.Generator, weights: dict[str, float]) -> None:
    _pair(weights, "noseSneer", rng.uniform(0.3, 1.0))
    _pair(weights, "mouthUpperUp", rng.uniform(0, 0.8))
    _pair(weights, "mouthStretch", rng.uniform(0, 0.9))
    _pair(weights, "eyeSquint", rng.uniform(0.2, 1.0))
    weights["cheekPuff_L"] = weights["cheekPuff_R"] = rng.choice([0.0, 0.0, rng.uniform(0.3, 1.0)])
    weights[str(rng.choice(["mouthLeft", "mouthRight"]))] = rng.uniform(0, 0.7)


def _surprise(rng: np.random.Generator, weights: dict[str, float]) -> None:
    weights["browInnerUp_L"] = weights["browInnerUp_R"] = rng.uniform(0.4, 1.0)
    _pair(weights, "browOuterUp", rng.uniform(0.3, 1.0))
    _pair(weights, "eyeWide", rng.uniform(0.2, 1.0))
    weights["jawOpen"] = rng.uniform(0, 0.7)


KINDS = {
    "neutral": (0.25, _neutral),
    "smile": (0.2, _smile),
    "talk": (0.2, _talk),
    "random": (0.15, _random),
    "open": (0.07, _open),
    "frown": (0.06, _frown),
    "grimace": (0.04, _grimace),
    "surprise": (0.03, _surprise),
}
"""Kind of expression -> its share, and what draws it."""


def _brows(rng: np.random.Generator, weights: dict[str, float], share: float) -> None:
    if rng.random() < share:
        name = str(rng.choice(["browDown", "browInnerUp", "browOuterUp"]))
        _pair(weights, name, rng.uniform(0, 0.8))


def _draw_gaze(rng: np.random.Generator, portrait: bool) -> np.ndarray:
    wide = not portrait and rng.random() < 0.25
    gaze = np.radians(rng.normal(0, [18.0, 10.0] if wide else [7.0, 4.0]))
    return np.clip(gaze, -MAX_GAZE, MAX_GAZE)


def _draw_lids(rng: np.random.Generator, weights: dict[str, float], portrait: bool) -> str:
    shares = {"open": 0.56, "closed": 0.12, "half": 0.12, "wink": 0.02, "wide": 0.08, "squint": 0.1}
    if portrait:
        shares = {"open": 0.9, "closed": 0.04, "half": 0.06}
    state = str(rng.choice(list(shares), p=list(shares.values())))
    if state == "closed":
        _pair(weights, "eyeBlink", 1.0)
        _pair(weights, "eyeSquint", rng.choice([0.0, rng.uniform(0, 0.6)]))
    elif state == "half":
        _pair(weights, "eyeBlink", rng.uniform(0.15, 0.75))
    elif state == "wink":
        weights[str(rng.choice(["eyeBlink_L", "eyeBlink_R"]))] = 1.0
    elif state == "wide":
        _pair(weights, "eyeWide", rng.uniform(0.2, 1.0))
    elif state == "squint":
        _pair(weights, "eyeSquint", rng.uniform(0.3, 1.0))
    return state


def _follow_gaze(weights: dict[str, float], gaze: np.ndarray) -> None:
    """Moves the lids with the eyes, unless they are closed."""
    yaw, pitch = gaze / MAX_GAZE
    for side, inwards in (("_L", -yaw), ("_R", yaw)):
        lids = 1.0 - weights[f"eyeBlink{side}"]
        weights[f"eyeLookIn{side}"] = lids * max(0.0, inwards)
        weights[f"eyeLookOut{side}"] = lids * max(0.0, -inwards)
        weights[f"eyeLookUp{side}"] = lids * max(0.0, pitch)
        weights[f"eyeLookDown{side}"] = lids * max(0.0, -pitch)
