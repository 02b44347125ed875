"""Numpy painting tools that the painters of skin, wrinkles and backgrounds share."""

from functools import lru_cache

import cv2
import numpy as np

_TILE = (1024, 1280)


@lru_cache(maxsize=16)
def _noise_tile(sigma_x: float, sigma_y: float) -> np.ndarray:
    """Gaussian-filtered white noise of unit variance and zero mean, made once."""
    rng = np.random.default_rng([20, int(sigma_x * 10), int(sigma_y * 10)])
    white = rng.standard_normal(_TILE, dtype=np.float32)
    tile = np.asarray(cv2.GaussianBlur(white, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y), np.float32)
    return (tile - tile.mean()) / tile.std()


def noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: float, sigma_y: float | None = None
) -> np.ndarray:
    """Smooth noise: a random window of a fixed tile, randomly mirrored.

    Args:
        rng: Source of the choice.
        shape: Height and width, at most 1024 x 1280.
        sigma: Width of the Gaussian filter in pixels; a feature is some 4 sigma wide.
        sigma_y: Its height, where it differs.

    Returns:
        (height, width) float32, zero mean, unit variance (over the whole tile); a read-only view.
    """
    tile = _noise_tile(float(sigma), float(sigma if sigma_y is None else sigma_y))
    height, width = shape
    top = int(rng.integers(tile.shape[0] - height + 1))
    left = int(rng.integers(tile.shape[1] - width + 1))
    window = tile[top : top + height, left : left + width]
    return window[:: (1, -1)[rng.integers(2)], :: (1, -1)[rng.integers(2)]]


def polygon(shape: tuple[int, int], points: np.ndarray, soft: float) -> np.ndarray:
    """Filled polygon with a soft edge: (height, width) float32 in 0..1."""
    canvas = np.zeros(shape, np.uint8)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return blur(canvas, soft)


def lines(shape: tuple[int, int], curves: list[np.ndarray], values: list[float], width: int) -> np.ndarray:
    """Polylines (n, 2) with values 0..1 each: (height, width) uint8."""
    canvas = np.zeros(shape, np.uint8)
    if not curves:
        return canvas
    ends = np.cumsum([len(curve) for curve in curves])[:-1]
    fixed = np.split(np.round(np.concatenate(curves) * 16).astype(np.int32), ends)
    # Curves of like values are drawn in one call, faint ones first.
    levels = np.round(np.clip(values, 0, 1) * 15).astype(int)
    for level in np.unique(levels):
        chosen = [fixed[k] for k in np.nonzero(levels == level)[0]]
        cv2.polylines(canvas, chosen, False, float(level * 17), width, cv2.LINE_AA, 4)
    return canvas


def blur(canvas: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of an 8-bit canvas: float32 in 0..1."""
    image = canvas.astype(np.float32) * (1 / 255) if canvas.dtype == np.uint8 else canvas
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0 else image


def smooth_curve(points: np.ndarray, count: int = 24) -> np.ndarray:
    """Catmull-Rom curve (count, 2) through control points (n, 2)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    where = np.linspace(0, len(points) - 1 - 1e-6, count)
    index, t = where.astype(int), (where % 1)[:, None]
    a, b, c, d = (padded[index + k] for k in range(4))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below low, 1 above high, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
