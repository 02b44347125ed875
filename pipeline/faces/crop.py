"""The square crop around a face and the mask of its landmarks' convex hull.

The square is that of "Cross-modal Deep Face Normals with Deactivable Skip Connections" (Abrevaya et al.,
CVPR 2020), 1.2 times the tight box of the landmarks. In the paper it is moved to lie within the photo and
resized without antialiasing; here it stays where the face is, the photo goes on mirrored beyond its border as
in the training of the normals, and large faces are averaged. Rounding is half up, floor(x + 0.5): the
original ran on Python 2, whose `round` does the same for non-negative numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike

from pipeline.images.png import encode_quickly
from pipeline.pixels import resize, scale_points

if TYPE_CHECKING:
    from pipeline.faces.landmarks import Face

CROP_SIZE = 256
"""Side in pixels of the crops that the networks take."""

CROP_SCALE = 1.2
"""Side of the crop window over the longer side of the landmarks' tight box."""


@dataclass(frozen=True)
class CropWindow:
    """A square of a photo, in upright source pixels: columns left..left+size-1, rows top..top+size-1.

    It may reach beyond the photo.
    """

    left: int
    top: int
    size: int

    def cut(self, photo: np.ndarray) -> np.ndarray:
        """Returns the window (size, size, ...) of a photo (H, W, ...): a view where it lies within.

        Beyond its border the photo goes on mirrored.
        """
        height, width = photo.shape[:2]
        if 0 <= self.left <= width - self.size and 0 <= self.top <= height - self.size:
            return photo[self.top : self.top + self.size, self.left : self.left + self.size]
        return photo[np.ix_(_mirrored(self.top, self.size, height), _mirrored(self.left, self.size, width))]

    def beyond(self, width: int, height: int, size: int = CROP_SIZE) -> np.ndarray:
        """Returns which pixels of the crop, (size, size) bool, lie beyond the border of the photo."""
        x, y = self.to_photo(np.stack([np.arange(size)] * 2, -1), size).T
        return ((y < -0.5) | (y > height - 0.5))[:, None] | (x < -0.5) | (x > width - 0.5)

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
        meant = np.ones(resized.shape[:2], bool)
        if mask is not None:
            grey = mask.astype(np.uint8) * 255 if mask.dtype == bool else mask
            meant = resize(grey, self.size, self.size) > 127
        top, left = max(0, self.top), max(0, self.left)
        there = photo[top : max(0, self.top + self.size), left : max(0, self.left + self.size)]
        height, width = there.shape[:2]
        here = np.s_[top - self.top :, left - self.left :]
        meant = meant[here][:height, :width]
        there[meant] = resized[here][:height, :width][meant]


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


def crop_window(landmarks: np.ndarray, scale: float = CROP_SCALE) -> CropWindow:
    """Returns the crop window of a face, of at least one pixel.

    Args:
        landmarks: (68, 2), x and y in pixels; may lie over the border.
        scale: Side of the window over the longer side of the landmarks' tight box.

    Raises:
        ValueError: A landmark is not finite.
    """
    x, y, side = _square(landmarks, scale)
    return CropWindow(left=round_half_up(x - side / 2), top=round_half_up(y - side / 2), size=side)


def inner_window(landmarks: np.ndarray, width: int, height: int, scale: float = CROP_SCALE) -> CropWindow:
    """Returns a window made smaller and moved to lie within the photo: by the paper's rule.

    Args:
        landmarks: (68, 2), x and y in pixels; may lie over the border.
        width: Width of the photo in pixels, at least 1.
        height: Height of the photo in pixels, at least 1.
        scale: Side of the window over the longer side of the landmarks' tight box.

    Raises:
        ValueError: A landmark is not finite.
    """
    x, y, side = _square(landmarks, scale)
    size = min(side, width, height)
    return CropWindow(left=_start(x, size, width), top=_start(y, size, height), size=size)


def _square(landmarks: np.ndarray, scale: float) -> tuple[float, float, int]:
    points = np.asarray(landmarks, dtype=np.float64)
    if not np.isfinite(points).all():
        raise ValueError("landmarks must be finite")
    (x_min, y_min), (x_max, y_max) = points.min(axis=0), points.max(axis=0)
    side = round_half_up(scale * max(x_max - x_min, y_max - y_min))
    return (x_min + x_max) / 2, (y_min + y_max) / 2, max(side, 1)


def _mirrored(start: int, size: int, length: int) -> np.ndarray:
    index = np.arange(start, start + size) % max(2 * length - 2, 1)
    return np.minimum(index, 2 * length - 2 - index) if length > 1 else index


def _start(centre: float, size: int, limit: int) -> int:
    # The lower border is clamped before rounding, the upper one after it: the paper's order.
    start = round_half_up(max(0.0, centre - size / 2))
    return min(start, limit - size)


def crop_image(image: np.ndarray, window: CropWindow, size: int = CROP_SIZE) -> np.ndarray:
    """Cuts a window out of a photo (H, W, 3) uint8 and resizes it to (size, size, 3)."""
    return resize(window.cut(image), size, size)


def cut_face(image: np.ndarray, face: Face) -> tuple[CropWindow, np.ndarray]:
    """Returns the window of a face of a photo (H, W, 3) uint8, and its crop (CROP_SIZE, CROP_SIZE, 3)."""
    if not face.by_paper:
        window = crop_window(face.landmarks)
        return window, crop_image(image, window)
    height, width = image.shape[:2]
    window = inner_window(face.landmarks, width, height)
    return window, cv2.resize(window.cut(image), (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)


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
    window = inner_window(landmarks, width, height, shape.scale)
    size = shape.size or min(window.size, shape.limit)
    crop = crop_image(image, window, size)
    if shape.form == "png":
        return window, encode_quickly(crop)
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
    mask = cv2.resize(window.cut(canvas), (size, size), interpolation=cv2.INTER_NEAREST)
    mask[window.beyond(width, height, size)] = 0
    return mask
