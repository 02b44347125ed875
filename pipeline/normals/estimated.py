"""What a network answers for crops, whichever runtime it computes in."""

from typing import NamedTuple

import numpy as np

LARGEST_LOG_CONFIDENCE = 20.0
"""Bound of the learned confidence, so that its exponential is finite."""


class Estimated(NamedTuple):
    """Answers for N crops of H x W pixels.

    Attributes:
        normals: (N, H, W, 3) float32, unit length everywhere, camera space: x right, y up, z to the viewer.
        mask: (N, H, W) uint8, 255 where the answer is meant, else 0: the network's where it has learned
            one, else the hulls that were passed in; None where there is neither.
        confidence: (N, H, W) float32 > 0, the concentration of a von Mises-Fisher distribution around the
            normal: 1 is no idea, 1000 about 2 degrees; None for networks that do not learn one.
    """

    normals: np.ndarray
    mask: np.ndarray | None
    confidence: np.ndarray | None
