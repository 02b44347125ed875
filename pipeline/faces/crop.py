"""The square crop around a face and the mask of its landmarks' convex hull, by the paper's rule.

The rule is that of "Cross-modal Deep Face Normals with Deactivable Skip Connections" (Abrevaya et al.,
CVPR 2020): a square of 1.2 times the tight box of the landmarks, moved, never padded, to lie within the
photo. Rounding is half up, floor(x + 0.5): the original ran on Python 2, whose `round` does the same for
the non-negative numbers that occur here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike

from pipeline.images.png import encode_png
from pipeline.pixels import resize, scale_points

CROP_SIZE = 256
"""Side in pixels of the crops that the networks take."""

CROP_SCALE = 1.2
"""Side of the crop window over the longer side of the landmarks' tight box."""


@dataclass(frozen=True)
class CropWindow:
    """A square of a photo, in upright source pixels: columns left..left+size-1, rows top..top+size-1."""

    left: int
    top: int
    size: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the photo."""
        return slice(self.top, self.top + self.size), slice(self.left, self.left + self.size)

    def to_crop(self, points_photo: ArrayLike, size: int = CROP_SIZE) -> np.ndarray:
        """Returns points (..., 2) of the photo in pixels of the crop of `size` x `size` pixels."""
        return scale_points(np.subtract(points_photo, (self.left, self.top)), size / self.size)

    def to_photo(self, points_crop: ArrayLike, size: int = CROP_SIZE) -> np.ndarray:
        """Returns points (..., 2) of the crop of `size` x `size` pixels in pixels of the photo."""
        return np.add((self.left, self.top), scale_points(np.asarray(points_crop), self.size / size))

    def paste(self, crop: np.ndarray, photo: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Resizes a map of the crop and pastes it into one of the photo, in place.

        Args:
            crop: (S, S) or (S, S, C), such as normals or an image.
            photo: (H, W) or (H, W, C) of the same type.
            mask: (S, S) uint8; where it is below 128 the photo's map stays. None: all is pasted.
        """
        resized = resize(crop, self.size, self.size)
        meant = np.s_[:] if mask is None else resize(mask, self.size, self.size) > 127
        photo[self.slices][meant] = resized[meant]


@dataclass(frozen=True)
class CropShape:
    """A crop that a recipe asks for beside the one of every record.

    Attributes:
        name: Name of the crop.
        scale: Side of the window over the longer side of the landmarks' tight box.
        size: Side of the crop in pixels; None: the photo's own pixels, up to `limit`.
        limit: Longest side of a crop of the photo's own pixels.
        form: How it is encoded: png, or jpeg of quality 95.
    """

    name: str
    scale: float
    size: int | None = CROP_SIZE
    limit: int = 1024
    form: Literal["png", "jpeg"] = "png"


def round_half_up(value: float) -> int:
    """Rounds to the nearest integer, halves up, unlike Python's `round`."""
    return math.floor(value + 0.5)


def crop_window(landmarks: np.ndarray, width: int, height: int, scale: float = CROP_SCALE) -> CropWindow:
    """Returns the crop window of a face.

    Args:
        landmarks: (68, 2), x and y in pixels; may lie over the border.
        width: Width of the photo in pixels, at least 1.
        height: Height of the photo in pixels, at least 1.
        scale: Side of the window over the longer side of the landmarks' tight box.

    Returns:
        A window of at least one pixel that lies wholly within the photo.

    Raises:
        ValueError: A landmark is not finite.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if not np.isfinite(points).all():
        raise ValueError("landmarks must be finite")
    (x_min, y_min), (x_max, y_max) = points.min(axis=0), points.max(axis=0)
    size = round_half_up(scale * max(x_max - x_min, y_max - y_min))
    size = min(max(size, 1), width, height)
    return CropWindow(
        left=_start((x_min + x_max) / 2, size, width),
        top=_start((y_min + y_max) / 2, size, height),
        size=size,
    )


def _start(centre: float, size: int, limit: int) -> int:
    # The lower border is clamped before rounding, the upper one after it: the paper's order.
    start = round_half_up(max(0.0, centre - size / 2))
    return min(start, limit - size)


def crop_image(image: np.ndarray, window: CropWindow, size: int = CROP_SIZE) -> np.ndarray:
    """Cuts a window out of a photo and resizes it bilinearly (no antialiasing, as in the paper).

    Args:
        image: (H, W, 3) uint8.
        window: A window that lies within the photo.
        size: Side of the result in pixels.

    Returns:
        (size, size, 3) uint8, its own memory.
    """
    return _resize(image[window.slices], size, cv2.INTER_LINEAR)


def cut_encoded(image: np.ndarray, landmarks: np.ndarray, shape: CropShape) -> tuple[CropWindow, bytes]:
    """Cuts a crop and encodes it.

    Args:
        image: (H, W, 3) uint8 RGB, upright.
        landmarks: (68, 2), x and y in pixels of the photo.
        shape: What to cut; reduced with antialiasing.

    Returns:
        The window, within the photo, and the encoded crop.
    """
    height, width = image.shape[:2]
    window = crop_window(landmarks, width, height, shape.scale)
    size = shape.size or min(window.size, shape.limit)
    crop = resize(image[window.slices], size, size)
    if shape.form == "png":
        return window, encode_png(crop)
    encoded = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return window, encoded.tobytes()


def hull_mask(
    landmarks: np.ndarray, window: CropWindow, width: int, height: int, size: int = CROP_SIZE
) -> np.ndarray:
    """Draws the convex hull of the landmarks as it lies in the crop.

    The hull is filled without antialiasing on a canvas of the photo's size, then cut and resized by
    nearest neighbour like the crop.

    Args:
        landmarks: (68, 2), x and y in pixels of the photo; rounded half up to whole pixels.
        window: The crop window.
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.
        size: Side of the result in pixels.

    Returns:
        (size, size) uint8, 255 inside the hull, 0 outside.
    """
    points = np.floor(np.asarray(landmarks, dtype=np.float64) + 0.5).astype(np.int32)
    # The canvas costs little even for a huge photo: memory that is not drawn on is never touched.
    canvas = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(canvas, [cv2.convexHull(points)], 255)
    return _resize(canvas[window.slices], size, cv2.INTER_NEAREST)


def _resize(image: np.ndarray, size: int, interpolation: int) -> np.ndarray:
    return cv2.resize(image, (size, size), interpolation=interpolation)
