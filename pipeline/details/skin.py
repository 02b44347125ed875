"""Which texels of a face show the person's own skin, and its tone.

Ears, scalp and neck of a fitted head often lie over hair, clothes or the background: nothing is taken from
the photo there. At the rim of the face, above the brows and beside them a texel is taken where its colour is
one of the face's.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from pipeline.geometry.head_model import NARROW_FACE_VERTICES
from pipeline.geometry.uv import UvMap

_CHROMA = 5.0  # least spread of a* and b* in a face
_LIKE = (1.5, 2.5)  # spreads between which a colour ceases to be skin
_LIGHTNESS = (0.4, 0.6, 1.6, 2.0)  # of the face's own: a temple in shadow, a shiny forehead
_EDGE = 9  # of 512 texels


@dataclass(frozen=True, eq=False)
class FaceArea:
    """The face in texture space.

    Attributes:
        inner: (S, S) bool: skin, brows, lips, beard: whatever is seen is taken.
        share: (S, S) float32: 1 within the narrow face, falling to 0 towards its outline: what looks like
            skin is taken.
    """

    inner: np.ndarray
    share: np.ndarray


@lru_cache(maxsize=2)
def face_area(texels: UvMap, brows: tuple[int, ...]) -> FaceArea:
    """Finds the area of the face in its texture (cached in the process).

    Args:
        texels: The part that holds the face.
        brows: Vertex ids of the brows.
    """
    within = np.asarray(np.all(texels.corners < NARROW_FACE_VERTICES, axis=1), np.uint8)
    narrow = texels.image(within, empty=1)
    half = texels.size // 20
    inner = cv2.erode(narrow, np.ones((2 * half + 1, 4 * half + 1), np.uint8), borderValue=0) > 0
    rows, columns = np.divmod(texels.texel[np.isin(texels.corners, brows).any(1)], texels.size)
    inner[: max(rows.min() - half // 2, 0)] = False
    beside = inner[: rows.max() + half]  # at the height of brows and eyes hair hangs over the temples
    beside[:, : columns.min()] = beside[:, columns.max() + 1 :] = False
    soft = 2 * (half // 2) + 1
    eroded = cv2.erode(narrow, np.ones((soft, soft), np.uint8), borderValue=0)
    return FaceArea(inner, cv2.blur(eroded.astype(np.float32), (soft, soft)))


def skin_weight(colours: np.ndarray, seen: np.ndarray, area: FaceArea) -> tuple[np.ndarray, np.ndarray]:
    """How much texels look like skin, and what colour skin has.

    Args:
        colours: (S, S, 3) float32 RGB, 0..255.
        seen: (S, S) weights of texels that the photo shows.
        area: The face.

    Returns:
        (S, S) float32: 1 in the inner face, 0 beyond the face, 0..1 between; and (3,) RGB.
    """
    face = area.inner
    size = len(seen)
    small = (min(size, 512),) * 2  # skin is no matter of single texels
    reduced = cv2.resize(np.ascontiguousarray(colours, np.float32), small, interpolation=cv2.INTER_AREA)
    sure = cv2.resize((face & (seen > 0.9)).astype(np.float32), small, interpolation=cv2.INTER_AREA) == 1
    if np.count_nonzero(sure) < 100:
        known = seen > 0
        return area.share, np.median(colours[known], 0) if known.any() else np.full(3, 128, np.float32)
    lab = cv2.cvtColor(reduced / 255, cv2.COLOR_RGB2LAB)
    sample = lab[sure][::7]
    middle = np.median(sample, 0)
    spread = np.maximum(1.5 * np.median(np.abs(sample - middle), 0)[1:], _CHROMA)
    distance = np.sqrt((((lab[..., 1:] - middle[1:]) / spread) ** 2).sum(2))
    like = ((_LIKE[1] - distance) / (_LIKE[1] - _LIKE[0])).clip(0, 1)
    like *= np.interp(lab[..., 0] / max(middle[0], 1), _LIGHTNESS, (0, 1, 1, 0))
    wide = (_EDGE, _EDGE)  # where hair begins colours mix
    like = cv2.blur(cv2.erode(like, np.ones(wide, np.uint8)), wide).astype(np.float32)
    like = cv2.resize(like, (size, size), interpolation=cv2.INTER_LINEAR) * area.share
    return np.where(face, np.float32(1), like), np.median(reduced[sure], 0)
