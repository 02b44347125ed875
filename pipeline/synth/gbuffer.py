"""What the camera sees of a batch of heads, before it gets any looks: one geometry buffer.

Everything that paints or lights a head reads a `GBuffer`; nothing else of the geometry is needed.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pipeline.geometry import raster
from pipeline.geometry.cameras import Cameras
from pipeline.geometry.head_model import FaceModel


@dataclass(frozen=True)
class Surface:
    """What is seen at the P covered pixels of B images, packed; images and pixels in ascending order.

    Attributes:
        pixel: (P,) int64, index into the flattened (B, H, W) images.
        image: (P,) int64, image of each pixel.
        triangle: (P,) int64, visible triangle.
        depth: (P,) float32, centimetres along the viewing axis.
        position: (P, 3) float32, camera space, centimetres.
        normal: (P, 3) float32, unit smooth surface normal, camera space.
        rest: (P, 3) float32, the same surface point on the neutral mean head, centimetres: the
            coordinates in which skin and eyes are painted. Eyes look straight ahead there.
        material: (P,) int64, index into `model.material_names`.
        occlusion: (P,) float32, baked ambient occlusion: share of the sky that is seen, 0..1.
    """

    pixel: Tensor
    image: Tensor
    triangle: Tensor
    depth: Tensor
    position: Tensor
    normal: Tensor
    rest: Tensor
    material: Tensor
    occlusion: Tensor


@dataclass(frozen=True)
class GBuffer:
    """Geometry of B heads at render resolution.

    `dense` makes images of what is packed; depth is there as images, 0 where no surface is.

    Attributes:
        surface: What is seen, packed.
        shape: (B, H, W).
        vertices: (B, V, 3) float32, the heads themselves in camera space, for shadow maps.
        cameras: The cameras, in pixels of this buffer.
        model: The head model.
    """

    surface: Surface
    shape: tuple[int, int, int]
    vertices: Tensor
    cameras: Cameras
    model: FaceModel

    def dense(self, values: Tensor, empty: float = 0.0) -> Tensor:
        """Spreads values (P, ...) of covered pixels over images (B, H, W, ...)."""
        return raster.spread(self.surface.pixel, values, self.shape, empty)

    @cached_property
    def depth(self) -> Tensor:
        """(B, H, W) float32, centimetres along the viewing axis."""
        return self.dense(self.surface.depth)


def render_gbuffer(
    model: FaceModel, vertices: Tensor, normals: Tensor, *, mouth_open: Tensor, cameras: Cameras, size: int
) -> GBuffer:
    """Rasterises heads.

    Args:
        model: The head model.
        vertices: (B, V, 3) in head space.
        normals: (B, V, 3) unit, in head space.
        mouth_open: (B,) 0..1, which of the two baked ambient occlusions holds.
        cameras: The cameras, in pixels of the buffer.
        size: Height and width of the buffer.
    """
    closed, opened = model.occlusion
    occlusion = torch.lerp(closed[None], opened[None], mouth_open[:, None])
    for ids in model.eyes:
        occlusion[:, ids] = _eye_occlusion(normals[:, ids])
    vertices = cameras.to_camera(vertices)
    normals = normals @ cameras.rotation.transpose(1, 2)
    points = cameras.project(vertices)
    fragments = raster.rasterize(points, model.triangles, size, size)
    corners, weights = raster.barycentrics(fragments, points, model.triangles)
    rest = model.neutral.expand(len(vertices), -1, -1)
    table = torch.cat([vertices, normals, rest, occlusion[..., None]], -1)
    seen = raster.interpolate(corners, weights, table)
    position = seen[:, 0:3].contiguous()
    normal = seen[:, 3:6]
    return GBuffer(
        surface=Surface(
            pixel=fragments.pixel,
            image=fragments.image,
            triangle=fragments.triangle,
            depth=-position[:, 2],
            position=position,
            normal=normal / normal.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12),
            rest=seen[:, 6:9].contiguous(),
            material=model.material.index_select(0, fragments.triangle),
            occlusion=seen[:, 9].contiguous(),
        ),
        shape=fragments.shape,
        vertices=vertices,
        cameras=cameras,
        model=model,
    )


def _eye_occlusion(normals: Tensor) -> Tensor:
    """Occlusion of eyeballs by lids and sockets, which stay in place while the eyes turn.

    Args:
        normals: (B, E, 3) in head space.
    """
    _, y, z = normals.unbind(-1)
    return ((z - 0.4) / 0.5).clamp(0, 1) * (1 - 0.8 * y.clamp(min=0))
