"""Square windows of a photo, turned upright with the head that they show.

Pixels: x right, y down, centres at integers. A window may reach over the photo's border; what lies outside
is grey.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.pixels import resize

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels, all inclusive as in dlib."""

LOOSE = 1.4
"""Side of a window over the longer side of the upright box of all points."""

OUTSIDE = (127, 127, 127)
"""Colour of what lies outside of the photo."""


@dataclass(frozen=True)
class RolledWindow:
    """A square of a photo.

    Attributes:
        x: Column of its middle.
        y: Row of its middle.
        side: Side in pixels of the photo.
        roll: Degrees by which it, and the head in it, leans counter-clockwise.
    """

    x: float
    y: float
    side: float
    roll: float = 0.0

    def to_crop(self, points_photo: np.ndarray, size: int) -> np.ndarray:
        """Points (..., 2) of the photo in pixels of the crop of `size` x `size` pixels."""
        turned = (points_photo - (self.x, self.y)) @ _turn(self.roll).T
        return turned * (size / self.side) + (size - 1) / 2

    def to_photo(self, points_crop: np.ndarray, size: int) -> np.ndarray:
        """Points (..., 2) of the crop in pixels of the photo."""
        turned = (points_crop - (size - 1) / 2) * (self.side / size)
        return turned @ _turn(self.roll) + (self.x, self.y)

    def crop(
        self,
        image: np.ndarray,
        size: int,
        outside: tuple[int, int, int] = OUTSIDE,
        border: int = cv2.BORDER_CONSTANT,
    ) -> np.ndarray:
        """Cuts the window out, upright; large windows are reduced by averaging.

        Args:
            image: (H, W, 3) uint8.
            size: Side of the result in pixels.
            outside: Colour beyond the border.
            border: How the photo goes on beyond it, if not in a colour.

        Returns:
            (size, size, 3) uint8.
        """
        height, width = image.shape[:2]
        corners = self.to_photo(np.array([[-1, -1], [-1, size], [size, -1], [size, size]], np.float64), size)
        left, top = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, (width - 1, height - 1))
        # Bilinear sampling of fewer pixels than there are would show noise and moire. Averaging whole blocks
        # is much quicker than by a ratio that is no whole number.
        block = max(1, round(self.side / size))
        right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1 + block, 1, (width, height))
        part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
        matrix = np.empty((2, 3))
        matrix[:, :2] = _turn(self.roll) * (size / self.side)
        matrix[:, 2] = (size - 1) / 2 - matrix[:, :2] @ (self.x - left, self.y - top)
        rows, columns = part.shape[0] // block, part.shape[1] // block
        if block > 1 and rows and columns:
            part = resize(part[: rows * block, : columns * block], columns, rows)
            matrix[:, 2] += matrix[:, :2].sum(1) * (block - 1) / 2
            matrix[:, :2] *= block
        return cv2.warpAffine(
            part, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=outside
        )


def window_of_points(points_photo: np.ndarray, roll: float = 0.0, scale: float = LOOSE) -> RolledWindow:
    """The window about the points (N, 2) of a head that leans by `roll`: `scale` times their upright box."""
    upright = points_photo @ _turn(roll).T
    low, high = upright.min(0), upright.max(0)
    x, y = (low + high) / 2 @ _turn(roll)
    return RolledWindow(float(x), float(y), scale * float((high - low).max()), roll)


def window_of_box(box: Box, roll: float = 0.0) -> RolledWindow:
    """The window about a box of libfacedetection, of a head that leans by about `roll` degrees.

    The numbers are medians over 376 rendered heads, like those of `window_of_points` with a scatter of 9 % in
    the side, 2 % across and 3 % along the head.
    """
    left, top, right, bottom = box
    side = 1.52 * (max(right - left, bottom - top) + 1)
    x, y = np.array([left + right, top + bottom]) / 2 + np.array([0.0, 0.052 * side]) @ _turn(roll)
    return RolledWindow(float(x), float(y), side, roll)


def head_roll(rotation: np.ndarray) -> float:
    """Degrees by which a head leans counter-clockwise in the image, by the direction of its up axis.

    Args:
        rotation: (3, 3), head space to camera space.
    """
    up = rotation[:, 1]
    return math.degrees(math.atan2(-up[0], up[1]))


def lean(roll: float) -> np.ndarray:
    """Rotation (3, 3) about the viewing axis by degrees, counter-clockwise."""
    cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def _turn(roll: float) -> np.ndarray:
    """Turns vectors (x, y down) of the photo so that a head that leans by `roll` degrees is upright."""
    cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    return np.array([[cosine, -sine], [sine, cosine]])
