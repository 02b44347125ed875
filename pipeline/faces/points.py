"""Points of faces in photos, on a CPU and without torch."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.device import has_fast_int8
from pipeline.faces.window import Box, RolledWindow, head_roll, lean, window_of_box, window_of_points
from pipeline.onnx_session import open_session
from pipeline.weights import read_onnx

SIZE = 128
"""Side in pixels of the crops that the network takes."""

DENSE = 500
"""Number of surface points, `pipeline.geometry.head_regions.dense_vertices`."""

COUNT = DENSE + 68
"""Number of points in all: the landmarks of iBUG 300-W follow the surface points."""

PASSES = 3
"""At most so many passes a face."""

MOVED = (0.12, 0.18, 15.0)
"""A further pass follows where the first answer moves the window by more: place and size in window sides,
lean in degrees. Heads are learned from up to there; half of this costs a third more and is no better."""


@dataclass(frozen=True)
class FacePoints:
    """What was found of one face; points in pixels of the photo, centres at integers, y down.

    Attributes:
        points: (500, 2) float32, surface points of `pipeline.geometry.head_regions.dense_vertices`.
        landmarks: (68, 2) float32, in the order of iBUG 300-W.
        sigma: (568,) float32, standard deviation of points and landmarks per axis, pixels of the photo.
        visible: (568,) float32, probability that each is seen.
        rotation: (3, 3) float32, head space to the space of a camera that stands where the photo's stood and
            looks at the window's middle, its axes along the photo's: x right, y up, z to the viewer.
        window: The window that was looked at last.
        change: How far the last pass moved the visible points, in window sides; 0 after one pass.
    """

    points: np.ndarray
    landmarks: np.ndarray
    sigma: np.ndarray
    visible: np.ndarray
    rotation: np.ndarray
    window: RolledWindow
    change: float

    @property
    def roll(self) -> float:
        """Degrees by which the head leans counter-clockwise."""
        return head_roll(self.rotation)

    @property
    def relative_sigma(self) -> float:
        """Mean sigma of what is seen, in window sides: .01 is sure, .05 hardly a face."""
        weight = self.visible + 0.05
        return float((self.sigma * weight).sum() / weight.sum() / self.window.side)


class PointsFinder:
    """Finds the points of faces. Deterministic; one thread.

    Args:
        weights: Name or path of the network's ONNX file. A name's int8 convolutions are taken where they are
            fast.

    Raises:
        WeightsError: The file is not there, altered, or no such network.
    """

    def __init__(self, weights: str | Path = "points"):
        self._session = open_session(read_onnx(weights, int8=has_fast_int8()), str(weights))
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, image: np.ndarray, box: Box, roll: float = 0.0, passes: int = PASSES) -> FacePoints:
        """Finds the points of one face.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: Where libfacedetection sees it.
            roll: Degrees by which it leans counter-clockwise, as far as is known.
            passes: At most so many passes.
        """
        return self.refine(image, window_of_box(box, roll), passes)

    def refine(self, image: np.ndarray, window: RolledWindow, passes: int = PASSES) -> FacePoints:
        """Finds the points of the face in a window, and looks again where they say that it lies elsewhere.

        The surest pass counts: what the network has never seen (a white beard) may lead it astray.
        """
        found = best = self.look(image, window)
        for _ in range(passes - 1):
            next_window = window_of_points(np.concatenate([found.points, found.landmarks]), found.roll)
            if not _is_moved(window, next_window):
                break
            before, window = found, next_window
            found = self.look(image, window, before)
            best = min(best, found, key=lambda answer: answer.relative_sigma)
        return best

    def look(self, image: np.ndarray, window: RolledWindow, before: FacePoints | None = None) -> FacePoints:
        """One pass over a window; `before` is the answer of the pass before."""
        crop = window.crop(image, SIZE)
        points_crop, sigma, visible, rotation = (
            answer[0] for answer in self._session.run(None, {"image": crop[None]})
        )
        points = window.to_photo(points_crop, SIZE).astype(np.float32)
        change = 0.0
        if before is not None:
            moved = np.linalg.norm(points[:DENSE] - before.points, axis=1)
            change = float((moved * visible[:DENSE]).sum() / max(visible[:DENSE].sum(), 1.0) / window.side)
        return FacePoints(
            points=points[:DENSE],
            landmarks=points[DENSE:],
            sigma=sigma * np.float32(window.side / SIZE),
            visible=visible,
            rotation=(lean(window.roll) @ rotation).astype(np.float32),
            window=window,
            change=change,
        )


def _is_moved(window: RolledWindow, following: RolledWindow) -> bool:
    place = math.hypot(following.x - window.x, following.y - window.y) / window.side
    size = abs(math.log(following.side / window.side))
    lean = abs((following.roll - window.roll + 180) % 360 - 180)
    return place > MOVED[0] or size > MOVED[1] or lean > MOVED[2]
