"""The network that finds points: the image encoder of `pipeline.normals.compact` and one head.

    image  (B, 3, 128, 128) in 0..1  ->  maps of 8 x 8 and 4 x 4 places
                                     ->  some channels of each, flattened, one hidden layer of 320
                                     ->  coefficients of a shape basis, uncertainty, visibility, rotation

Coordinates are in units of the crop's side about its middle. The basis starts as the principal components
of training crops: position, size, lean, turn and opening of the mouth are its first directions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.faces.points import COUNT
from pipeline.normals.compact import WIDTHS, Encoder

MODES = 120
"""Directions of the shape basis."""

LOG_SIGMA = (-7.0, 1.0)
"""Bounds of the logarithm of sigma, in crop sides: 0.12 pixels of 128 to 2.7 crops."""


class PointsOutput(NamedTuple):
    """What the network answers.

    Attributes:
        points: (B, COUNT, 2) x and y (down) about the crop's middle, in crop sides.
        log_sigma: (B, COUNT) logarithm of the standard deviation per axis, in crop sides.
        visible: (B, COUNT) logits: > 0 where a point is seen.
        axes: (B, 2, 3) the head's right and up axis in crop camera space, not yet orthonormal.
    """

    points: Tensor
    log_sigma: Tensor
    visible: Tensor
    axes: Tensor


class PointsNet(nn.Module):
    """Finds the points of the face in an upright crop."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(blocks=(1, 1, 2, 2))
        self.narrow = nn.ModuleList([nn.Conv2d(WIDTHS[3], 32, 1), nn.Conv2d(WIDTHS[4], 64, 1)])
        self.hidden = nn.Linear(32 * 64 + 64 * 16, 320)
        self.shape = nn.Linear(320, MODES)
        self.basis = nn.Linear(MODES, 2 * COUNT)
        self.log_sigma = nn.Linear(320, COUNT)
        self.visible = nn.Linear(320, COUNT)
        self.axes = nn.Linear(320, 6)
        with torch.no_grad():
            self.log_sigma.bias.fill_(-3.0)
            self.axes.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def start_basis(self, points: Tensor) -> None:
        """Makes the basis of training targets (N, COUNT, 2), as coefficients of unit variance."""
        flat = points.flatten(1)
        mean = flat.mean(0)
        _, values, directions = torch.pca_lowrank(flat - mean, q=MODES, center=False, niter=4)
        with torch.no_grad():
            self.basis.weight.copy_(directions * values / len(flat) ** 0.5)
            self.basis.bias.copy_(mean)

    def features(self, image: Tensor, learning: int = 5) -> list[Tensor]:
        """The encoder's maps (B, 192, 8, 8) and (B, 256, 4, 4) of images (B, 3, 128, 128) in 0..1.

        Args:
            image: The images.
            learning: So many of the encoder's five levels, the coarsest, receive gradients.
        """
        levels = [image - 0.5]
        for level, stage in enumerate((self.encoder.stem, *self.encoder.stages)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and level >= 5 - learning):
                levels.append(stage(levels[-1]))
        return levels[4:]

    def head(self, features: list[Tensor]) -> PointsOutput:
        """Answers from the encoder's maps."""
        narrow = [torch.relu(conv(x)).flatten(1) for conv, x in zip(self.narrow, features, strict=True)]
        hidden = torch.relu(self.hidden(torch.cat(narrow, 1)))
        return PointsOutput(
            points=self.basis(self.shape(hidden)).unflatten(1, (COUNT, 2)),
            log_sigma=self.log_sigma(hidden).clamp(*LOG_SIGMA),
            visible=self.visible(hidden),
            axes=self.axes(hidden).unflatten(1, (2, 3)),
        )

    def forward(self, image: Tensor) -> PointsOutput:
        """Answers for images (B, 3, 128, 128) in 0..1."""
        return self.head(self.features(image))
