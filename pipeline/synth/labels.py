"""Labels of rendered heads that follow from the geometry alone: regions, projected landmarks and points."""

import torch
from torch import Tensor

from pipeline.geometry.head_regions import triangle_regions
from pipeline.regions import Region
from pipeline.synth.gbuffer import GBuffer


def geometry_regions(gbuffer: GBuffer) -> Tensor:
    """Regions (B, H, W) uint8 of a geometry buffer: what is seen before hair and accessories."""
    regions = triangle_regions(gbuffer.model).index_select(0, gbuffer.surface.triangle)
    return gbuffer.dense(regions, int(Region.BACKGROUND))


def project_vertices(gbuffer: GBuffer, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Projects vertices and tells which are seen.

    Args:
        gbuffer: The geometry buffer.
        ids: (N,) vertex ids.

    Returns:
        Points (B, N, 3): pixel x, pixel y of the buffer and depth in cm; visibility (B, N) bool: inside
        the image and not behind what is seen there, nor behind all of what is seen one pixel beside it.
    """
    points = gbuffer.cameras.project(gbuffer.vertices[:, ids])
    depth = 1.0 / points[..., 2].clamp(min=1e-6)
    height, width = gbuffer.shape[1:]
    column, row = points[..., 0].round().long(), points[..., 1].round().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (points[..., 2] > 0)
    index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    # The farthest depth about the pixel: a vertex on a steep slope or a silhouette is seen, too.
    farthest = torch.nn.functional.max_pool2d(gbuffer.depth[:, None], 3, 1, 1).flatten(1)
    visible = inside & (depth < farthest.gather(1, index) + 0.4)
    return torch.cat([points[..., :2], depth[..., None]], -1), visible
