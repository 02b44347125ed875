"""Pixel coordinates: x right, y down, centres of pixels at integers."""

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


def tile(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Arranges pictures (h, w, 3) of one shape in reading order, padded with black: (H, W, 3) uint8."""
    columns = min(columns, len(pictures))
    padded = [*pictures, *(np.zeros_like(pictures[0]) for _ in range(-len(pictures) % columns))]
    lines = [np.concatenate(padded[i : i + columns], axis=1) for i in range(0, len(padded), columns)]
    return np.concatenate(lines, axis=0)
