"""What is known of one photo before the fit, and what the fit finds out about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from pipeline.fitting.head import PIVOT
from pipeline.geometry.crop_camera import crop_camera
from pipeline.geometry.mesh import squares
from pipeline.geometry.uv import read_pixels
from pipeline.pixels import scale_points

LARGEST_CONFIDENCE = 1000.0
"""Bound of the concentration of a normal: about 2 degrees."""


@dataclass(frozen=True, eq=False)
class Points:
    """Points of the head that were found in a photo.

    Attributes:
        vertices: (N,) int64 vertex ids of the head model.
        photo: (N, 2) float, pixels of the photo.
        sigma: (N,) float, their standard deviation in pixels; infinite for a point that is not known.
        contour: (N,) bool: the point lies on the contour of the jaw rather than on its vertex, as the jaw
            points of networks do that learned from annotated photos. None: no point does.
    """

    vertices: np.ndarray
    photo: np.ndarray
    sigma: np.ndarray
    contour: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class NormalMap:
    """Normals of a square window of a photo.

    Attributes:
        normals: (S, S, 3) float32 unit normals in the space of the crop camera.
        confidence: (S, S) float32: concentration of each normal (1 / variance of a component), 0 where
            there is no answer.
        left: First column of the window in pixels of the photo.
        top: First row.
        size: Side of the window in pixels of the photo.
    """

    normals: np.ndarray
    confidence: np.ndarray
    left: float
    top: float
    size: float

    @property
    def scale(self) -> float:
        """Pixels of the map per pixel of the photo."""
        return len(self.normals) / self.size

    def to_camera(self, focal: float, centre: np.ndarray) -> np.ndarray:
        """Rotation (3, 3) from the crop camera's space to the photo's camera space.

        Args:
            focal: Focal length in pixels of the photo.
            centre: (2,) principal point in pixels of the photo.
        """
        middle = self._to_map(centre)
        return crop_camera(focal * self.scale, middle.tolist(), len(self.normals)).T

    def smoothed(self, sigma: float) -> NormalMap:
        """The map after a Gaussian of `sigma` map pixels, weighted by the confidence.

        The confidence falls off where the answer ends.
        """
        if sigma < 0.3:
            return self
        weight = np.minimum(self.confidence, LARGEST_CONFIDENCE).astype(np.float32)
        stack = np.concatenate([self.normals * weight[..., None], weight[..., None]], -1)
        stack = cv2.GaussianBlur(stack, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
        length = np.linalg.norm(stack[..., :3], axis=-1)
        normals = stack[..., :3] / np.maximum(length, 1e-12)[..., None]
        return replace(self, normals=normals, confidence=stack[..., 3])

    def sample(self, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples bilinearly.

        Args:
            photo: (N, 2) positions in pixels of the photo.

        Returns:
            Unit normals (N, 3) in the crop camera's space and confidences (N,), 0 outside the map.
        """
        side = len(self.normals)
        x, y = self._to_map(photo).T
        value = read_pixels(self._stack, x, y)
        inside = (x >= 0) & (x <= side - 1) & (y >= 0) & (y <= side - 1)
        length = np.sqrt(squares(value[:, :3]))
        return value[:, :3] / np.maximum(length, 1e-6)[:, None], value[:, 3] * inside

    def _to_map(self, photo: np.ndarray) -> np.ndarray:
        return scale_points(photo - [self.left, self.top], self.scale)

    @cached_property
    def _stack(self) -> np.ndarray:
        confidence = np.minimum(self.confidence, LARGEST_CONFIDENCE)[..., None]
        return np.concatenate([self.normals, confidence], -1, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Picture:
    """A square window of a photo.

    Attributes:
        pixels: (S, S, 3) uint8 RGB.
        left: First column of the window in pixels of the photo.
        top: First row.
        size: Side of the window in pixels of the photo.
    """

    pixels: np.ndarray
    left: float
    top: float
    size: float


@dataclass(frozen=True, eq=False)
class View:
    """One photo of the person.

    Attributes:
        width: Width of the photo in pixels.
        height: Height of the photo in pixels.
        points: The points that were found in it.
        normals: The normals of the face, or None.
        focal: Focal length in pixels where it is known (EXIF), or None.
        actions: What the user says about the expression: action unit -> intensity 0..5.
        picture: The photo about the face, which is compared with other photos of the person, or None.
    """

    width: int
    height: int
    points: Points
    normals: NormalMap | None = None
    focal: float | None = None
    actions: dict[str, float] = field(default_factory=dict)
    picture: Picture | None = None

    @property
    def centre(self) -> np.ndarray:
        """(2,) principal point: the middle of the photo."""
        return np.array([self.width - 1, self.height - 1]) / 2


@dataclass(frozen=True, eq=False)
class ViewState:
    """What the fit knows about one photo.

    Attributes:
        expression: (53,) weights in 0..1.
        rotation: (3, 3), head space to camera space.
        position: (3,) of the head's `PIVOT` in camera space, cm.
        focal: Focal length in pixels.
        centre: (2,) principal point in pixels.
        tilt: (3, 3) rotation that corrects the network's normals, all of them alike, in camera space.
    """

    expression: np.ndarray
    rotation: np.ndarray
    position: np.ndarray
    focal: float
    centre: np.ndarray
    tilt: np.ndarray

    @property
    def translation(self) -> np.ndarray:
        """(3,) position of the head's origin in camera space, cm."""
        return self.position - self.rotation @ PIVOT

    def to_camera(self, points_head: np.ndarray) -> np.ndarray:
        """Moves points (N, 3) from head space to camera space."""
        return points_head @ self.rotation.T.astype(np.float32) + self.translation.astype(np.float32)

    def project(self, points_camera: np.ndarray) -> np.ndarray:
        """Projects points (N, 3) in camera space to pixels (N, 2) of the photo."""
        return self.centre + self.focal * points_camera[:, :2] * [1, -1] / -points_camera[:, 2:]

    def normal_to_camera(self, normals: NormalMap) -> np.ndarray:
        """Rotation (3, 3) from the space of a normal map to camera space, the tilt corrected."""
        return self.tilt @ normals.to_camera(self.focal, self.centre)
