"""The 68 landmarks of a face: what they are, and dlib's predictor for them.

Points are (x, y) in pixels of the upright photo, x right, y down, pixel centres at integers, in the
order of iBUG 300-W: jaw 0-16, right brow 17-21, left brow 22-26, nose 27-35, right eye 36-41, left eye
42-47, outer lip 48-59, inner lip 60-67 ("right" is the person's right).
"""

from __future__ import annotations

import functools
import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import dlib
import numpy as np

from pipeline.errors import AssetsError
from pipeline.faces.window import Box
from pipeline.pixels import resize, scale_points

if TYPE_CHECKING:
    from pipeline.faces.points import FacePoints

COUNT = 68
"""Number of landmarks of a face."""

PATCH_FACE = 300
"""Width in pixels of the face in the patch on which landmarks are fitted."""

PATCH_MARGIN = 0.6
"""How far the patch reaches beyond the detector's box, over the side of the box."""


@dataclass(frozen=True)
class Face:
    """One face of one photo.

    Attributes:
        index: Rank among the faces of the photo: 0 is the largest box, or the detector's first.
        box: The detector's box in upright source pixels; may reach over the border.
        score: The detector's confidence, higher is better, comparable within one detector only; 1 where
            landmarks came from a file.
        landmarks: (68, 2) float32, x and y in upright source pixels; may lie over the border.
        points: What the points network says; None where another detector was asked for.
        by_paper: Whether the paper's rule cuts its crop; see `pipeline.faces.crop`.
    """

    index: int
    box: Box
    score: float
    landmarks: np.ndarray
    points: FacePoints | None = field(default=None, compare=False)
    by_paper: bool = False


def model_file(name: str) -> Path:
    """Returns the path of one of the model files that the package `face_recognition_models` holds.

    The package itself is not imported: its `__init__` needs `pkg_resources`, which setuptools dropped.

    Raises:
        AssetsError: The package or the file is missing.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        raise AssetsError("dlib's models are missing: pip install face_recognition_models.")
    path = Path(spec.submodule_search_locations[0]) / "models" / name
    if not path.is_file():
        raise AssetsError(f"dlib's model {path} is missing: reinstall face_recognition_models.")
    return path


class LandmarkPredictor:
    """dlib's 68-point predictor (Kazemi and Sullivan, CVPR 2014), trained on iBUG 300-W."""

    def __init__(self) -> None:
        self._predictor = _load_predictor()

    def fit_directly(self, grey: np.ndarray, box: Box) -> np.ndarray:
        """Fits the landmarks of the face in a box on the image as it is: the paper's way.

        Args:
            grey: (H, W) uint8.
            box: The detector's box in pixels of `grey`; rounded to whole pixels, as dlib's boxes are.

        Returns:
            (68, 2) float32; whole numbers, since dlib rounds.
        """
        shape = self._predictor(grey, dlib.rectangle(*(math.floor(side + 0.5) for side in box)))
        return np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float32)

    def fit(self, grey: np.ndarray, box: Box) -> np.ndarray:
        """Fits the landmarks on a patch in which the face is 300 pixels wide.

        The predictor compares single pixels and rounds its answer to whole ones: on a large face it
        reads noise, on a small face the rounding alone moves points by half a percent of the face.
        Against the median of fits to sixty jittered boxes, over 16 faces 48 to 450 pixels wide, the mean
        error is 0.5 % of the face's width instead of 0.6 % (astronaut, 92 pixels: 0.3 % instead of 0.6 %).

        Args:
            grey: (H, W) uint8.
            box: The detector's box in pixels of `grey`.

        Returns:
            (68, 2) float32 in pixels of `grey`.
        """
        left, top, right, bottom = box
        width, height = right - left + 1, bottom - top + 1
        x0 = max(0, math.floor(left - PATCH_MARGIN * width))
        y0 = max(0, math.floor(top - PATCH_MARGIN * height))
        patch = grey[
            y0 : math.ceil(bottom + PATCH_MARGIN * height), x0 : math.ceil(right + PATCH_MARGIN * width)
        ]
        scale = PATCH_FACE / width
        size = (max(1, round(patch.shape[1] * scale)), max(1, round(patch.shape[0] * scale)))
        resized = np.ascontiguousarray(resize(patch, *size))
        # The two axes differ a little, since sizes are whole.
        corner, ratio = np.array([x0, y0]), np.array(size) / patch.shape[1::-1]
        corners = scale_points(np.reshape(box, (2, 2)) - corner, ratio)
        x_left, y_top, x_right, y_bottom = (float(side) for side in corners.ravel())
        points = self.fit_directly(resized, (x_left, y_top, x_right, y_bottom))
        return (scale_points(points, 1 / ratio) + corner).astype(np.float32)


@functools.cache
def _load_predictor() -> dlib.shape_predictor:
    # 100 MB in memory and a third of a second to read: once per process.
    return dlib.shape_predictor(str(model_file("shape_predictor_68_face_landmarks.dat")))
