"""Which points of a mesh a camera sees: a depth buffer of the mesh about them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from pipeline.geometry.raster import nearness_map


@dataclass(frozen=True, eq=False)
class DepthBuffer:
    """What of a mesh lies in front, as a picture laid about it.

    Attributes:
        low: (2,) where the picture begins, in pixels of the photo.
        scale: Its pixels per pixel of the photo.
        farthest: (S, S) float32 nearness, 1 / depth, of the farthest surface about each pixel.
    """

    low: np.ndarray
    scale: float
    farthest: np.ndarray

    @classmethod
    def of(cls, pixels: np.ndarray, depth: np.ndarray, triangles: np.ndarray, size: int = 128) -> DepthBuffer:
        """Draws a mesh.

        Args:
            pixels: (N, 2) projected vertices.
            depth: (N,) their depths in cm; vertices at or behind the camera hide nothing.
            triangles: (T, 3) vertex ids, counter-clockwise seen from outside.
            size: Side of the picture.
        """
        low, high = pixels.min(0), pixels.max(0)
        scale = (size - 3) / max(float((high - low).max()), 1e-6)
        with torch.inference_mode():
            nearness = np.where(depth > 1.0, 1.0 / np.maximum(depth, 1.0), 0.0)
            points = np.concatenate([(pixels - low) * scale + 1, nearness[:, None]], 1).astype(np.float32)
            faces = torch.from_numpy(np.asarray(triangles, np.int64))
            buffer = nearness_map(torch.from_numpy(points)[None], faces, size, size)
        return cls(low, scale, cv2.erode(buffer[0].numpy(), np.ones((3, 3), np.uint8), borderValue=np.inf))

    def shows(self, pixels: np.ndarray, depth: np.ndarray, tolerance: float = 0.3) -> np.ndarray:
        """Tells which points are not hidden by the mesh.

        Args:
            pixels: (M, 2) projected points.
            depth: (M,) their depths in cm.
            tolerance: A point is seen when it lies at most this far, in cm, behind the farthest of what the
                buffer holds about its pixel.

        Returns:
            (M,) bool.
        """
        at = np.rint((pixels - self.low) * self.scale + 1).astype(np.int64).clip(0, len(self.farthest) - 1)
        nearest = self.farthest[at[:, 1], at[:, 0]]
        return (depth > 1.0) & (1.0 / np.maximum(depth - tolerance, 0.5) >= nearest)
