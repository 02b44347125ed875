"""Pixel coordinates: x right, y down, centres of pixels at integers."""

from __future__ import annotations

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
