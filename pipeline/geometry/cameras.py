"""Pinhole cameras, one per image of a batch.

Camera space: centimetres, x right, y up, z towards the viewer; the camera is at the origin and looks along
-z, so depth = -z. Pixels: x right, y down, centres at integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.pixels import scale_points

NEAR = 1.0
"""Surfaces nearer to the camera than this many centimetres are not drawn."""


@dataclass(frozen=True)
class Cameras:
    """A batch of cameras.

    Attributes:
        rotation: (B, 3, 3), head space to camera space.
        translation: (B, 3), position of the head's origin in camera space.
        focal: (B,) focal length in pixels.
        centre: (B, 2) principal point in pixels.
    """

    rotation: Tensor
    translation: Tensor
    focal: Tensor
    centre: Tensor

    def to_camera(self, points: Tensor) -> Tensor:
        """Moves points (B, N, 3) from head space to camera space."""
        return points @ self.rotation.transpose(1, 2) + self.translation[:, None]

    def project(self, points: Tensor) -> Tensor:
        """Projects points (B, N, 3) in camera space to pixels and nearness: (B, N, 3) x, y, 1 / depth.

        The nearness of points nearer than `NEAR` is 0, which the rasteriser rejects.
        """
        depth = -points[..., 2]
        inverse = torch.where(depth > NEAR, 1.0 / depth, torch.zeros_like(depth))
        scale = self.focal[:, None] * inverse
        x = self.centre[:, 0:1] + points[..., 0] * scale
        y = self.centre[:, 1:2] - points[..., 1] * scale
        return torch.stack([x, y, inverse], -1)

    def cropped(self, left: Tensor, top: Tensor, size: Tensor, pixels: int) -> Cameras:
        """Cameras of square windows, resampled.

        Args:
            left: (B,) first column of each window.
            top: (B,) first row.
            size: (B,) side of each window in pixels of this camera.
            pixels: Side of the resampled windows, as `cv2.resize` maps pixels.
        """
        scale = pixels / size
        corner = torch.stack([left, top], -1)
        centre = scale_points(self.centre - corner, scale[:, None])
        return Cameras(self.rotation, self.translation, self.focal * scale, centre)
