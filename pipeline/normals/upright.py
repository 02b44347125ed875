"""Heads that lean: the network sees them upright, and its answer is turned back with the photo.

The network has learned from heads that lean by some 11 degrees (standard deviation; `pipeline.synth.view`).
"""

import cv2
import numpy as np

from pipeline.faces.crop import CROP_SCALE, CROP_SIZE, CropWindow
from pipeline.faces.landmarks import Face
from pipeline.faces.window import RolledWindow, lean, window_of_points

Answer = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""Normals (..., S, S, 3) float32, mask (..., S, S) uint8 and confidence (..., S, S) float32 or None."""

LEANING = 5.0
"""Heads that lean by more degrees are shown upright."""


def upright_window(face: Face) -> RolledWindow | None:
    """Returns the upright window of a head that leans; None where it does not, or is not known to."""
    if face.points is None or abs(face.points.roll) < LEANING:
        return None
    return window_of_points(face.landmarks, face.points.roll, CROP_SCALE)


def upright_crop(image: np.ndarray, window: RolledWindow) -> np.ndarray:
    """Cuts such a window, (CROP_SIZE, CROP_SIZE, 3), out of a photo (H, W, 3) uint8."""
    return window.crop(image, CROP_SIZE, border=cv2.BORDER_REFLECT_101)


def in_photo(
    answer: Answer, index: int, seen: RolledWindow | None, window: CropWindow, photo_size: tuple[int, int]
) -> Answer:
    """Returns what the network says of a face in the axes of the photo, and nothing beyond its border.

    Args:
        answer: Of several faces.
        index: Which of them.
        seen: The window that the network saw, where it was not the face's own.
        window: The face's own window, which the result covers.
        photo_size: Width and height of the photo.

    Returns:
        The answer for the face. Where `seen` does not reach, normals face the viewer and the others are 0.
    """
    normals, mask, confidence = (None if part is None else part[index] for part in answer)
    assert normals is not None
    if seen is not None:
        normals = turn_back(normals, seen, window) @ lean(seen.roll).T.astype(np.float32)
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        normals = np.where(length > 0.5, normals / np.maximum(length, 0.5), np.array([0, 0, 1], np.float32))
        if mask is not None:
            mask = np.where(turn_back(mask, seen, window) > 127, 255, 0).astype(np.uint8)
        if confidence is not None:
            confidence = turn_back(confidence, seen, window)
    if mask is not None:
        mask = np.where(window.beyond(*photo_size, len(mask)), np.uint8(0), mask)
    return normals, mask, confidence


def turn_back(answer: np.ndarray, seen: RolledWindow, window: CropWindow) -> np.ndarray:
    """Resamples a map (S, S, ...) of an upright window to the face's own; 0 where it does not reach."""
    size = len(answer)
    corner, right, below = seen.to_crop(window.to_photo([(0, 0), (1, 0), (0, 1)], size), size)
    matrix = np.column_stack([right - corner, below - corner, corner])
    return cv2.warpAffine(answer, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
