"""The unwrapped cylinder on which heads are painted, and how a surface point finds its texel.

A point of the neutral head (x, y, z; centimetres) gets the angle theta = atan2(x, z - AXIS_Z) about a
vertical axis through the head and the height y. The chart's columns are spaced as theta + WARP sin(theta), so
that the face has four times the resolution of the back of the head: about 0.05 cm per texel around the mouth.
Row 0 is the top. Painted maps are (MAP_HEIGHT, MAP_WIDTH, channels).
"""

import math

import numpy as np
import torch
from torch import Tensor

MAP_WIDTH, MAP_HEIGHT = 640, 512
AXIS_Z = 1.5
"""z of the cylinder's axis on the neutral head, cm."""
WARP = 0.6
TOP, BOTTOM = 15.0, -12.0
"""Heights of the first and the last row, cm; points beyond take the edge's texel."""
ROWS_PER_CM = (MAP_HEIGHT - 1) / (TOP - BOTTOM)


def to_texels(points: np.ndarray) -> np.ndarray:
    """Texel coordinates (..., 2) as column, row of points (..., 3) on the neutral head."""
    theta = np.arctan2(points[..., 0], points[..., 2] - AXIS_Z)
    return np.stack([column_of(theta), (TOP - points[..., 1]) * ROWS_PER_CM], -1)


def column_of(theta: np.ndarray | float) -> np.ndarray:
    """Column of an angle in radians."""
    return (0.5 + (theta + WARP * np.sin(theta)) / (2 * math.pi)) * (MAP_WIDTH - 1)


def column_angles() -> np.ndarray:
    """Angle of every column, (MAP_WIDTH,) radians."""
    theta = np.linspace(-math.pi, math.pi, 8192)
    return np.interp(np.arange(MAP_WIDTH), column_of(theta), theta)


def columns_per_radian(theta: np.ndarray) -> np.ndarray:
    """Derivative of the column with respect to the angle."""
    return (1 + WARP * np.cos(theta)) / (2 * math.pi) * (MAP_WIDTH - 1)


def sample_map(maps: Tensor, which: Tensor, rest: Tensor) -> Tensor:
    """Looks painted maps up at surface points, bilinearly.

    Args:
        maps: (M, MAP_HEIGHT, MAP_WIDTH, C), any float type.
        which: (N,) int64, map of every point.
        rest: (N, 3), position on the neutral head.

    Returns:
        (N, C) float32.
    """
    theta = torch.atan2(rest[:, 0], rest[:, 2] - AXIS_Z)
    column = (0.5 + (theta + WARP * theta.sin()) / (2 * math.pi)).clamp(0, 1) * (MAP_WIDTH - 1)
    row = ((TOP - rest[:, 1]) * ROWS_PER_CM).clamp(0, MAP_HEIGHT - 1)
    left, upper = column.long().clamp(max=MAP_WIDTH - 2), row.long().clamp(max=MAP_HEIGHT - 2)
    fx, fy = column - left, row - upper
    base = (which * MAP_HEIGHT + upper) * MAP_WIDTH + left
    corners = base.int()[:, None] + torch.tensor(
        [0, 1, MAP_WIDTH, MAP_WIDTH + 1], device=base.device, dtype=torch.int32
    )
    weights = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], 1)
    return weighted_rows(maps.reshape(-1, maps.shape[-1]), corners, weights)


def weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sums of weighted table rows: (N, C) float32 from (T, C), indices (N, K) and weights (N, K)."""
    # An embedding bag is a fused gather and sum, several times faster than either by itself.
    found = torch.nn.functional.embedding_bag(
        rows.int(), table, mode="sum", per_sample_weights=weights.to(table.dtype)
    )
    return found.float()


def surface_gradient(slopes: Tensor, rest: Tensor) -> Tensor:
    """Gradient (N, 3), per cm in neutral space, of a height whose chart slopes are known.

    Args:
        slopes: (N, 2): derivative by theta (cm per radian) and by y (cm per cm).
        rest: (N, 3), position on the neutral head.
    """
    x, z = rest[:, 0], rest[:, 2] - AXIS_Z
    by_theta = slopes[:, 0] / (x * x + z * z).clamp(min=1.0)
    return torch.stack([z * by_theta, slopes[:, 1], -x * by_theta], 1)
