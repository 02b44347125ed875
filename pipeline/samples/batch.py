"""Batches of labelled crops as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.samples.sample import Sample, unit_or_zero


@dataclass(frozen=True)
class Batch:
    """Tensors of one batch; what a pass does not need is None.

    Attributes:
        image: (B, 3, S, S) uint8 RGB.
        normals: (B, 3, S, S) float32 unit normals, zero where there is no true normal.
        regions: (B, S, S) uint8 `Region`.
        has_regions: (B,) bool, whether the background of the row is known to be background.
    """

    image: Tensor | None
    normals: Tensor | None
    regions: Tensor | None
    has_regions: Tensor

    def __len__(self) -> int:
        return len(self.has_regions)

    def to(self, device: torch.device) -> Batch:
        if device.type == "cpu":
            return self
        parts = (self.image, self.normals, self.regions, self.has_regions)
        moved = [
            part.pin_memory().to(device, non_blocking=True) if part is not None else None for part in parts
        ]
        assert moved[3] is not None
        return Batch(moved[0], moved[1], moved[2], moved[3])


def collate(samples: Sequence[Sample], image: bool = True, normals: bool = True) -> Batch:
    """Stacks samples of one size; `image` and `normals` say what the batch shall hold."""

    def stack(arrays: Sequence[np.ndarray | None]) -> Tensor:
        return torch.from_numpy(np.stack([array for array in arrays if array is not None]))

    # Channels last in memory, as the network computes.
    return Batch(
        image=stack([s.image for s in samples]).permute(0, 3, 1, 2) if image else None,
        normals=stack([float_normals(s) for s in samples]).permute(0, 3, 1, 2) if normals else None,
        regions=stack([s.regions for s in samples]) if normals else None,
        has_regions=torch.tensor([s.has_regions for s in samples]),
    )


def float_normals(sample: Sample) -> np.ndarray | None:
    """Returns the unit normals (S, S, 3) float32 of a sample, zero where there is no true normal."""
    if sample.normals is None or sample.normals.dtype == np.float32:
        return sample.normals
    return unit_or_zero(sample.normals.astype(np.float32) * np.float32(1 / 127))


def as_float(image: Tensor) -> Tensor:
    """Turns uint8 images into float32 in 0..1, the network's input."""
    return image.float() / 255
