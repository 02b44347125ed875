"""Shadows of lamps: variance shadow maps (Donnelly and Lauritzen 2006) from the batch rasteriser."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.geometry.raster import nearness_map

SHADOW_SIZE = 192
"""Side of the maps in pixels."""


@dataclass(frozen=True)
class ShadowMaps:
    """What one lamp per image sees.

    Attributes:
        moments: (B, 2, S, S) blurred nearness and squared nearness.
        turn: (B, 3, 3) camera to lamp space: `points @ turn`.
        frame: (B, 4) origin of the map in lamp space, and its pixels per cm.
    """

    moments: Tensor
    turn: Tensor
    frame: Tensor


def shadow_maps(vertices: Tensor, triangles: Tensor, lamps: Tensor, penumbra: Tensor) -> ShadowMaps:
    """Renders what lamps see.

    Args:
        vertices: (B, V, 3) camera space, cm.
        triangles: (T, 3) that cast shadows.
        lamps: (B, 3) unit vectors towards the lamps.
        penumbra: (B,) cm, blur of shadow edges.
    """
    size = SHADOW_SIZE
    helper = torch.zeros_like(lamps)
    steep = lamps[:, 1].abs() > 0.9
    helper[:, 1], helper[:, 0] = (~steep).float(), steep.float()
    right = torch.nn.functional.normalize(torch.linalg.cross(helper, lamps), dim=1)
    turn = torch.stack([right, torch.linalg.cross(right, lamps), lamps], 2)
    turned = vertices @ turn
    low, high = turned.amin(1), turned.amax(1)
    scale = (size - 9) / (high - low)[:, :2].amax(1)
    origin = torch.cat([low[:, :2] - 4 / scale[:, None], low[:, 2:] - 1], 1)
    points = turned - origin[:, None]
    points = torch.cat([points[..., :2] * scale[:, None, None], points[..., 2:]], 2)
    nearness = nearness_map(points, triangles, size, size)
    moments = torch.stack([nearness, nearness * nearness], 1)
    moments = _blur_each(moments, (penumbra * scale).clamp(0.7, 6))
    return ShadowMaps(moments, turn, torch.cat([origin, scale[:, None]], 1))


def _blur_each(images: Tensor, sigma: Tensor, radius: int = 9) -> Tensor:
    """Gaussian blur of images (B, C, H, W), each with its own sigma (B,)."""
    batch, channels, height, width = images.shape
    offset = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = images.reshape(1, batch * channels, height, width)
    flat = torch.nn.functional.conv2d(
        flat, kernel[:, None, :, None], padding=(radius, 0), groups=batch * channels
    )
    flat = torch.nn.functional.conv2d(
        flat, kernel[:, None, None, :], padding=(0, radius), groups=batch * channels
    )
    return flat.reshape(images.shape)


def lit_share(position: Tensor, of: Tensor, maps: ShadowMaps, bias: float = 0.25) -> Tensor:
    """Share of the lamp (N,) 0..1 that points (N, 3) of samples `of` see."""
    moments, frame = maps.moments, maps.frame
    turned = (position[:, None] @ maps.turn[of]).squeeze(1) - frame[of, :3]
    size = moments.shape[-1]
    column = (turned[:, 0] * frame[of, 3]).clamp(0, size - 1.001)
    row = (turned[:, 1] * frame[of, 3]).clamp(0, size - 1.001)
    left, upper = column.long(), row.long()
    fx, fy = (column - left)[:, None], (row - upper)[:, None]
    texels = moments.permute(0, 2, 3, 1).reshape(-1, 2)
    base = (of * size + upper) * size + left
    found = torch.lerp(
        torch.lerp(texels[base], texels[base + 1], fx),
        torch.lerp(texels[base + size], texels[base + size + 1], fx),
        fy,
    )
    mean, square = found.unbind(1)
    behind = mean - bias - turned[:, 2]
    variance = (square - mean * mean).clamp(min=0.02)
    # Chebyshev's bound; its tail leaks light and is cut off.
    bound = ((variance / (variance + behind * behind) - 0.25) / 0.75).clamp(0, 1)
    return torch.where(behind <= 0, torch.ones_like(bound), bound)
