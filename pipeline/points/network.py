"""The network that finds points: the image encoder of `pipeline.normals.compact` and two heads.

    image  (B, 3, 128, 128) in 0..1  ->  maps of 8 x 8 and 4 x 4 places
                                     ->  some channels of each, flattened, one hidden layer of 320
                                     ->  coefficients of a shape basis, uncertainty, visibility, rotation
    maps of 32 x 32 and 16 x 16      ->  looked up where these points lie, some numbers for each point,
                                         one hidden layer of 256
                                     ->  what to add to all of these, and to each point

The second head looks twice, and sees the picture about each point: it learns corrections in a fraction of the
steps that places take. Supervised descent (X. Xiong, F. De la Torre, CVPR 2013) is of this kind. Coordinates
are in units of the crop's side about its middle. The basis starts as the principal components of training
crops: position, size, lean, turn and opening of the mouth are its first directions.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.faces.points import COUNT
from pipeline.normals.compact import WIDTHS, Encoder

MODES = 120
"""Directions of the shape basis."""

LOOKS = 2
"""So many times the picture about the points is looked at."""

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


def sample_maps(maps: Tensor, points: Tensor) -> Tensor:
    """Values (B, N, C) of maps (B, C, S, S) at points (B, N, 2) in sides about the middle, bilinear.

    As `grid_sample` with its borders repeated, but as gathers of rows, which ONNX Runtime does in a tenth
    of the time.
    """
    batch, channels, size, _ = maps.shape
    rows = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    place = ((points + 0.5) * size - 0.5).clamp(0, size - 1)
    low = place.floor().clamp(max=size - 2)
    x, y = (place - low).unsqueeze(2).unbind(-1)
    column, row = low.long().unbind(-1)
    first = (torch.arange(batch, device=maps.device)[:, None] * size + row) * size + column

    def gather(step: int) -> Tensor:
        return F.embedding(first + step, rows)

    # Not `lerp`, of which ONNX makes six operators.
    upper = gather(0) * (1 - x) + gather(1) * x
    return upper * (1 - y) + (gather(size) * (1 - x) + gather(size + 1) * x) * y


class Lookup(nn.Module):
    """What to add to a first answer, from the encoder's finer maps where its points lie."""

    def __init__(self, channels: int = 32, numbers: int = 6):
        super().__init__()
        self.narrow = nn.ModuleList([nn.Conv2d(width, channels, 1) for width in WIDTHS[1:3]])
        self.by_point = nn.Parameter(torch.randn(COUNT, 2 * channels, numbers) / (2 * channels) ** 0.5)
        self.offset = nn.Parameter(torch.zeros(COUNT, 2 * channels, 2))
        self.hidden = nn.Linear(COUNT * numbers + 320, 256)
        self.answers = nn.Linear(256, MODES + 2 * COUNT + 6)
        nn.init.zeros_(self.answers.weight)
        nn.init.zeros_(self.answers.bias)

    def maps(self, levels: list[Tensor]) -> list[Tensor]:
        """The channels that are looked up, of maps (B, 64, 32, 32) and (B, 128, 16, 16)."""
        return [torch.relu(conv(x)) for conv, x in zip(self.narrow, levels, strict=True)]

    def forward(self, maps: list[Tensor], points: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        """Looks up.

        Args:
            maps: See `maps`.
            points: (B, COUNT, 2) in crop sides about the middle.
            hidden: (B, 320) of the first head.

        Returns:
            What to add: to the coefficients (B, MODES), each point (B, COUNT, 2), log sigma (B, COUNT),
            visibility (B, COUNT), axes (B, 2, 3).
        """
        seen = torch.cat([sample_maps(x, points.detach()) for x in maps], 2).transpose(0, 1)
        # One product for both: many small ones cost more than what they compute.
        numbers, offset = (
            torch.matmul(seen, torch.cat([self.by_point, self.offset], 2))
            .transpose(0, 1)
            .tensor_split([-2], 2)
        )
        answers = self.answers(torch.relu(self.hidden(torch.cat([numbers.flatten(1), hidden], 1))))
        shape, log_sigma, visible, axes = answers.split([MODES, COUNT, COUNT, 6], 1)
        return shape, offset, log_sigma, visible, axes.unflatten(1, (2, 3))


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
        self.lookup = Lookup()
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
        """The encoder's maps at 1/4, 1/8, 1/16 and 1/32 of the size of images (B, 3, 128, 128) in 0..1.

        Args:
            image: The images.
            learning: So many of the encoder's five levels, the coarsest, receive gradients.
        """
        levels = [image - 0.5]
        for level, stage in enumerate((self.encoder.stem, *self.encoder.stages)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and level >= 5 - learning):
                levels.append(stage(levels[-1]))
        return levels[2:]

    def answers(self, features: list[Tensor]) -> list[PointsOutput]:
        """The first head's answer from the encoder's maps, and those after each look at its points."""
        narrow = [torch.relu(conv(x)).flatten(1) for conv, x in zip(self.narrow, features[2:], strict=True)]
        hidden = torch.relu(self.hidden(torch.cat(narrow, 1)))
        shape, log_sigma, visible = self.shape(hidden), self.log_sigma(hidden), self.visible(hidden)
        axes = self.axes(hidden).unflatten(1, (2, 3))
        offset = torch.zeros((), device=hidden.device)
        answers = []
        maps = self.lookup.maps(features[:2])
        for look in range(LOOKS + 1):
            points = self.basis(shape).unflatten(1, (COUNT, 2)) + offset
            answers.append(PointsOutput(points, log_sigma.clamp(*LOG_SIGMA), visible, axes))
            if look < LOOKS:
                more = self.lookup(maps, points, hidden)
                shape, offset, log_sigma = shape + more[0], offset + more[1], log_sigma + more[2]
                visible, axes = visible + more[3], axes + more[4]
        return answers

    def forward(self, image: Tensor) -> PointsOutput:
        """Answers for images (B, 3, 128, 128) in 0..1."""
        return self.answers(self.features(image))[-1]
