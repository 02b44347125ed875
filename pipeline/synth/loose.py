"""Loose windows about heads in any pose: what the points network learns from.

| what | distribution |
|---|---|
| yaw | 40 % U(-75, 75), 20 % U(55, 98) to either side, else N(0, 22) degrees; portraits N(0, 11) |
| pitch | camera height N(0, 9) plus nod N(0, 10); one in eight U(-40, 40); portraits N(0, 4) + N(0, 5) |
| roll | 60 % N(0, 12), 25 % U(-60, 60), else U(-180, 180); portraits N(0, 5) |
| window | side 2.1 times the box of the 68 landmarks times exp N(0, 0.06), place N(0, 0.015) of the side |
| border | one in five: the photo ends in the window, on one side or on two neighbours, in front of up to
  half of the head; beyond it is grey, black, white, any colour or the repeated edge |

Training cuts crops out of such windows, at any size, place and lean that a detector may give
(`pipeline.points.draw`): one picture serves many times.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.faces.crop import CropWindow
from pipeline.synth.view import rotation_matrix

SCALE = 2.1
"""Side of a window over the longer side of the landmarks' box."""


@dataclass(frozen=True)
class Border:
    """Where the photo ends inside a window.

    Attributes:
        left, top, right, bottom: Its edges in sides of the window, 0..1: what lies before left and top or
            behind right and bottom is not in the photo.
        colour: (3,) of what is put there, 0..255, or None for the photo's own edge.
    """

    left: float
    top: float
    right: float
    bottom: float
    colour: tuple[int, int, int] | None

    def slices(self, size: int) -> tuple[slice, slice]:
        """Rows and columns of the photo in a window of `size` pixels."""
        top, bottom, left, right = (
            round(edge * size) for edge in (self.top, self.bottom, self.left, self.right)
        )
        return slice(top, bottom), slice(left, right)

    def beyond(self, size: int) -> np.ndarray:
        """Which pixels of such a window, (size, size) bool, are not in the photo."""
        outside = np.ones((size, size), bool)
        outside[self.slices(size)] = False
        return outside


def draw_loose_pose(rng: np.random.Generator, portrait: bool) -> np.ndarray:
    """Draws the head's rotation (3, 3) relative to the line of sight."""
    if portrait:
        yaw, height, nod, roll = rng.normal(0, [11, 4, 5, 5])
    else:
        kind, lean = rng.random(2)
        if kind < 0.4:
            yaw = rng.uniform(-75, 75)
        elif kind < 0.6:
            yaw = rng.uniform(55, 98) * rng.choice([-1, 1])
        else:
            yaw = rng.normal(0, 22)
        height, nod, roll = rng.normal(0, [9, 10, 12])
        if rng.random() < 0.12:
            height, nod = rng.uniform(-40, 40), 0.0
        if lean > 0.6:
            limit = 60 if lean < 0.85 else 180
            roll = rng.uniform(-limit, limit)
    yaw, height, nod, roll = np.radians([yaw, height, nod, roll])
    return rotation_matrix(yaw, height, roll) @ rotation_matrix(0, nod, 0)


def draw_loose_window(rng: np.random.Generator, landmarks: np.ndarray) -> CropWindow:
    """Draws the square about landmarks (68, 2) in pixels of the photo; it is not moved into the photo."""
    low, high = landmarks.min(0), landmarks.max(0)
    side = float((high - low).max()) * SCALE * np.exp(np.clip(rng.normal(0, 0.06), -0.15, 0.15))
    size = max(round(side), 8)
    left, top = np.rint((low + high) / 2 + side * rng.normal(0, 0.015, 2) - size / 2)
    return CropWindow(int(left), int(top), size)


def draw_border(rng: np.random.Generator, share: float = 0.2) -> Border | None:
    """Draws where the photo ends, in a share of the windows; None for nowhere in the window."""
    if rng.random() > share:
        return None
    edges = np.array([0.0, 0.0, 1.0, 1.0])
    first = rng.integers(4)
    sides = [first, (first + 1) % 4] if rng.random() < 0.3 else [first]
    for side in sides:
        depth = rng.uniform(0.15, 0.5)
        edges[side] = depth if side < 2 else 1 - depth
    kind = rng.random()
    colour: tuple[int, int, int] | None = None
    if kind < 0.7:
        grey = int(rng.choice([0, 127, 127, 255]))
        colour = (grey, grey, grey)
    elif kind < 0.8:
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        colour = (red, green, blue)
    left, top, right, bottom = (float(edge) for edge in edges)
    return Border(left, top, right, bottom, colour)


def end_photo(image: np.ndarray, border: Border) -> np.ndarray:
    """Puts what is not in the photo on a window (S, S, 3) uint8; returns a new picture."""
    size = len(image)
    rows, columns = border.slices(size)
    around = (rows.start, size - rows.stop, columns.start, size - columns.stop)
    part = np.ascontiguousarray(image[rows, columns])
    if border.colour is None:
        return cv2.copyMakeBorder(part, *around, cv2.BORDER_REPLICATE)
    return cv2.copyMakeBorder(part, *around, cv2.BORDER_CONSTANT, value=border.colour)
