"""Whether lips are closed: the photo tells it better than points do, which part them by some millimetres.

Along lines across the lips what is neither lip nor skin is counted: teeth, far less red than lips, and the
dark of an open mouth, which is wider than the line between lips that touch.
"""

from dataclasses import replace

import cv2
import numpy as np

from pipeline.faces.crop import CropWindow
from pipeline.faces.landmarks import COUNT
from pipeline.fitting.views import View
from pipeline.geometry.uv import read_pixels

_LINES = ((50, 58), (51, 57), (52, 56))
"""Landmarks on the outer edges of upper and lower lip, between which the lines run."""

_INNER = ((61, 67), (62, 66), (63, 65))
"""Landmarks on the inner edges that meet when lips are closed."""

_SAMPLES = 41
_TEETH = 0.35  # a*, as a share of that of lips
_DARK = 0.4  # L*, as a share of that of lips and skin
_RED = 12.0  # a* of lips below which a photo has no colour to tell by
_CLOSED = 0.08  # share of a line that the rest may take
_LEAST = 16.0  # pixels of a line


def lips_closed(picture: np.ndarray, landmarks: np.ndarray) -> bool:
    """Tells lips that are surely closed from others.

    Args:
        picture: (H, W, 3) uint8 RGB.
        landmarks: (68, 2) its landmarks, in pixels.
    """
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    along = np.linspace(0, 1, _SAMPLES)[:, None]
    shares = []
    for upper, lower in _LINES:
        line = landmarks[upper] * (1 - along) + landmarks[lower] * along
        lightness, red, _ = read_pixels(lab, line[:, 0], line[:, 1]).T
        lips = np.quantile(red, 0.75)
        if lips < _RED or np.linalg.norm(line[-1] - line[0]) < _LEAST:
            return False
        shares.append(((red < _TEETH * lips) | (lightness < _DARK * np.median(lightness))).mean())
    return float(np.median(shares)) < _CLOSED


def with_lips_closed(view: View, picture: np.ndarray, window: CropWindow) -> View:
    """A view whose inner lips meet if the photo shows closed lips.

    Args:
        view: Of a face; its last points are the 68 landmarks.
        picture: (S, S, 3) uint8 RGB: a window of the photo.
        window: Which.
    """
    photo = view.points.photo.copy()
    landmarks = photo[-COUNT:]
    if not lips_closed(picture, window.to_crop(landmarks, len(picture))):
        return view
    for pair in np.array(_INNER):
        landmarks[pair] = landmarks[pair].mean(0)
    return replace(view, points=replace(view.points, photo=photo))
