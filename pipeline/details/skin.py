"""Which texels look like the person's own skin: a stop-gap for what a photo's mask does not say.

Ears, temples, scalp and neck of a fitted head often lie over hair, clothes or the background. There a texel
is kept only where its colour is one that the face has.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.geometry.head_model import NARROW_FACE_VERTICES
from pipeline.geometry.uv import UvMap

_CHROMA = 5.0  # least spread of a* and b* in a face
_LIKE = (2.0, 3.5)  # spreads between which a colour ceases to be skin
_LIGHTNESS = (0.35, 1.25)  # of the face's own: a neck in shadow, a shiny temple


def inner_face(texels: UvMap) -> np.ndarray:
    """Texels of the narrow face, brows and lips included, without its rim: (S, S) bool."""
    within = np.asarray(np.all(texels.corners < NARROW_FACE_VERTICES, axis=1), np.uint8)
    narrow = texels.image(within, empty=1)
    half = texels.size // 20
    return cv2.erode(narrow, np.ones((2 * half + 1, 4 * half + 1), np.uint8), borderValue=0) > 0


def skin_weight(colours: np.ndarray, seen: np.ndarray, face: np.ndarray) -> np.ndarray:
    """How much texels look like skin.

    Args:
        colours: (S, S, 3) float32 RGB, 0..255.
        seen: (S, S) weights of texels that the photo shows.
        face: (S, S) bool, where skin is expected and whatever is seen is kept.

    Returns:
        (S, S) float32: 1 within the face, 0..1 outside.
    """
    size = len(seen)
    small = (min(size, 512),) * 2  # skin is no matter of single texels
    reduced = cv2.resize(np.ascontiguousarray(colours, np.float32), small, interpolation=cv2.INTER_AREA)
    sure = cv2.resize((face & (seen > 0.9)).astype(np.float32), small, interpolation=cv2.INTER_AREA) == 1
    if np.count_nonzero(sure) < 100:
        return np.ones_like(seen)
    lab = cv2.cvtColor(reduced / 255, cv2.COLOR_RGB2LAB)
    sample = lab[sure][::7]
    middle = np.median(sample, 0)
    spread = np.maximum(1.5 * np.median(np.abs(sample - middle), 0)[1:], _CHROMA)
    distance = np.sqrt((((lab[..., 1:] - middle[1:]) / spread) ** 2).sum(2))
    like = ((_LIKE[1] - distance) / (_LIKE[1] - _LIKE[0])).clip(0, 1)
    dark, bright = (bound * middle[0] for bound in _LIGHTNESS)
    like *= (lab[..., 0] > dark) & (lab[..., 0] < bright + 5)
    like = cv2.blur(cv2.erode(like, np.ones((3, 3), np.uint8)), (3, 3)).astype(np.float32)
    return np.where(face, np.float32(1), cv2.resize(like, (size, size), interpolation=cv2.INTER_LINEAR))
