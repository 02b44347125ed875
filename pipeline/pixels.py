"""Pixel coordinates: x right, y down, centres of pixels at integers."""

from __future__ import annotations

from typing import Any


def scale_points(points: Any, scale: Any) -> Any:
    """Moves points of a picture to a resized copy of it, as `cv2.resize` maps pixels.

    The picture's edges keep their place, not its pixels' centres: the first pixel begins at -0.5.

    Args:
        points: Coordinates in pixels of the picture: a number, an array or a tensor.
        scale: Pixels of the copy per pixel of the picture, of the points' kind.
    """
    return (points + 0.5) * scale - 0.5
