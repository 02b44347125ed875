"""Pixels: where they are (x right, y down, centres at integers), copies of other sizes, linear light."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np


def scale_points(points: Any, scale: Any) -> Any:
    """Moves points of a picture to a resized copy of it, as `cv2.resize` maps pixels.

    The picture's edges keep their place, not its pixels' centres: the first pixel begins at -0.5.

    Args:
        points: Coordinates in pixels of the picture: a number, an array or a tensor.
        scale: Pixels of the copy per pixel of the picture, of the points' kind.
    """
    return (points + 0.5) * scale - 0.5


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resizes an image (H, W, ...): pixels are averaged where it shrinks, interpolated where it grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = width * height < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def srgb_to_linear(values: np.ndarray) -> np.ndarray:
    """Returns linear light in 0..1, float32, of sRGB values in 0..255 (IEC 61966-2-1)."""
    values = np.asarray(values, np.float32) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def tile(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Arranges pictures (h, w, 3) of one shape in reading order, padded with black: (H, W, 3) uint8."""
    columns = min(columns, len(pictures))
    padded = [*pictures, *(np.zeros_like(pictures[0]) for _ in range(-len(pictures) % columns))]
    lines = [np.concatenate(padded[i : i + columns], axis=1) for i in range(0, len(padded), columns)]
    return np.concatenate(lines, axis=0)
