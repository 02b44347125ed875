"""Textures of the eyeballs: what the photo shows between the lids, carried on round the iris.

An eyeball's texture is a disc about the straight look: the iris is a circle in it, wherever the eye looks. So
what the lids hide has the colour of what is seen at the same distance from the middle of the iris.
"""

import cv2
import numpy as np

from pipeline.details.unwrap import PosedHead, observe
from pipeline.geometry.uv import UvMap

_IRISES = (0.09, 0.1, 0.11, 0.12)  # radii in texture coordinates: 11 to 14 mm across on the model's eyeball
_WHITE = (1.2, 1.9)  # ring of what lies beside it, in radii of the iris
_REACH = 0.16  # how far from the straight look an iris is looked for
_BINS = 48
_UNSEEN = ((20, 70, 60, 200), (16, 48, 42, 196), (14, 34, 32, 192))  # channels: pupil, iris, rim, white


def eye_texture(head: PosedHead, texels: UvMap) -> np.ndarray:
    """Makes the texture of an eyeball.

    Args:
        head: The head.
        texels: The eyeball in texture space.

    Returns:
        (S, S, 3) uint8 RGB: grey-white with a brown iris where the photo shows nothing of the eye.
    """
    colours, seen = observe(head, texels)
    size = texels.size
    width = max(1, size // 64)
    seen = cv2.erode(seen, np.ones((2 * width + 1, 2 * width + 1), np.uint8))  # lashes and the lid's edge
    rows, columns = (np.mgrid[0:size, 0:size] + 0.5) / size
    x, y, iris = find_iris(colours.mean(2), seen)
    picture = _round(colours, seen, np.hypot(columns - x, rows - y), iris)
    soft = cv2.blur(seen, (2 * width + 1, 2 * width + 1)) * (seen > 0)
    picture += soft[..., None] * (colours - picture)
    return (picture + 0.5).clip(0, 255).astype(np.uint8)


def find_iris(lightness: np.ndarray, seen: np.ndarray) -> tuple[float, float, float]:
    """Finds the darkest disc within a bright ring.

    Args:
        lightness: (S, S) of the eyeball's texture.
        seen: (S, S) weights of texels that the photo shows.

    Returns:
        Column and row of the middle, and the radius, in 0..1; the straight look where too little is seen.
    """
    side = 64
    light, weight = (
        cv2.resize(values.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        for values in (lightness * seen, seen)
    )
    rows, columns = (np.mgrid[0:side, 0:side] + 0.5) / side
    straight = np.hypot(columns - 0.5, rows - 0.5)
    best = (0.0, 0.5, 0.5, _IRISES[1])
    for radius in _IRISES:
        reach = int(np.ceil(_WHITE[1] * radius * side))
        offsets = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) / side / radius
        dark, disc = _means(light, weight, offsets < 1)
        bright, ring = _means(light, weight, (offsets > _WHITE[0]) & (offsets < _WHITE[1]))
        enough = (disc > 0.3) & (ring > 0.05) & (straight < _REACH)
        # Between equals the straighter look is likelier.
        contrast = np.where(enough, bright - dark - 100 * straight, 0)
        at = int(np.argmax(contrast))
        best = max(best, (float(contrast.flat[at]), columns.flat[at], rows.flat[at], radius))
    return best[1:]


def _means(light: np.ndarray, weight: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of what is seen within a mask about each texel, and how much of the mask is seen."""
    kernel = mask.astype(np.float32) / np.count_nonzero(mask)
    share = cv2.filter2D(weight, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    total = cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    return total / np.maximum(share, 1e-6), share


def _round(colours: np.ndarray, seen: np.ndarray, radius: np.ndarray, iris: float) -> np.ndarray:
    """A picture that depends on the distance from the iris alone, from what is seen at each: (S, S, 3)."""
    bins = np.minimum(radius * 2 * _BINS, _BINS - 1).astype(int).ravel()
    mass = np.bincount(bins, seen.ravel(), _BINS)
    middles = (np.arange(_BINS) + 0.5) / (2 * _BINS)
    known = (mass > 0.02 * np.bincount(bins, minlength=_BINS)) & (mass > 1)
    white = known & (middles > _WHITE[0] * iris) & (middles < _WHITE[1] * iris)
    if not white.any() or not (known & (middles < iris)).any():
        stops = np.array([0.45, 0.55, 0.95, 1.15]) * iris
        return np.stack([np.interp(radius, stops, values) for values in _UNSEEN], -1).astype(np.float32)
    kept = known & (middles < _WHITE[1] * iris)
    total = np.stack([np.bincount(bins, (seen * colours[..., k]).ravel(), _BINS) for k in range(3)])
    mean = (total / np.maximum(mass, 1e-6))[:, kept]
    beyond = total[:, white].sum(1) / mass[white].sum()
    beyond += 0.7 * (beyond.max() - beyond)  # lids get into it: the white of an eye is nearly grey
    channels = [np.interp(radius, middles[kept], mean[k], right=beyond[k]) for k in range(3)]
    return np.stack(channels, -1).astype(np.float32)
