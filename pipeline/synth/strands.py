"""Draws clouds of strand points into images: depth-tested splats, shaded as fibres.

Points are splatted at twice the resolution of the geometry buffer with a footprint of 2 x 2, and averaged:
soft strand edges for the price of one scatter. Shading follows Kajiya and Kay (1989): a cylinder is lit by
the sine of its angle to the light; two highlights, one white and one of the hair's colour.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.geometry.cameras import Cameras
from pipeline.synth import shading

FACTOR = 2
_EMPTY = 1 << 62
_POINT = (1 << 20) - 1
_DEPTH_STEPS = 1024
_SLACK = 0.3
"""So many cm strands may be under the surface and still be seen."""


@dataclass(frozen=True)
class Layer:
    """Something drawn over heads.

    Attributes:
        rgb: (B, H, W, 3) linear radiance times alpha.
        alpha: (B, H, W) coverage 0..1.
    """

    rgb: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class Splats:
    """The nearest point at every covered pixel of enlarged images.

    Attributes:
        pixel: (N,) int64, index into the flattened (S, 2H, 2W) images.
        slot: (N,) int64, which of the K seen points is there.
        depth: (N,) float32 cm.
        sample: (K,) int64, index among the S samples of each seen point, ascending.
        point: (K,) int64, its index in the sample's cloud.
        shape: (S, H, W).
    """

    pixel: Tensor
    slot: Tensor
    depth: Tensor
    sample: Tensor
    point: Tensor
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Clouds:
    """Clouds of points fixed to heads.

    Attributes:
        points: (M, P, C) x, y, z on the neutral head and more.
        which: (S,) cloud of each of the S samples that have one.
        attachment: (S, 4, 3) neutral head to camera space, from `attach`.
        samples: (S,) places of these samples in the batch.
    """

    points: Tensor
    which: Tensor
    attachment: Tensor
    samples: Tensor

    def seen(self, splats: Splats) -> tuple[Tensor, Tensor, Tensor]:
        """Values (K, C) of the seen points, their places (K, 3) in camera space, and the turn (K, 3, 3)."""
        found = self.points[self.which[splats.sample], splats.point].float()
        attachment = self.attachment[splats.sample]
        turn = attachment[:, :3]
        return found, (found[:, None, :3] @ turn).squeeze(1) + attachment[:, 3], turn


def attach(neutral: Tensor, posed: Tensor) -> Tensor:
    """Affine maps that carry neutral points to posed ones, least squares.

    Args:
        neutral: (V, 3), points of the neutral head.
        posed: (B, V, 3), the same points posed.

    Returns:
        (B, 4, 3): `[x, y, z, 1] @ map`.
    """
    lifted = torch.cat([neutral, torch.ones_like(neutral[:, :1])], 1)
    # Normal equations of four unknowns; pinv would be an SVD on the device.
    gram = torch.linalg.inv((lifted.T @ lifted).double()).float()
    return (gram @ lifted.T) @ posed


def splat(clouds: Clouds, surface: Tensor, cameras: Cameras, footprint: int = 2) -> Splats:
    """Finds the nearest point of clouds at every pixel of enlarged images.

    Args:
        clouds: The points.
        surface: (B, H, W) depth of what is there already, cm; 0 for nothing.
        cameras: B cameras, in pixels of `surface`.
        footprint: Side of a point in pixels of the enlarged image.
    """
    points, samples, attachment = clouds.points, clouds.samples, clouds.attachment
    height, width = surface.shape[1] * FACTOR, surface.shape[2] * FACTOR
    cloud = points[clouds.which, :, :3].float()
    placed = torch.baddbmm(attachment[:, 3:4], cloud, attachment[:, :3])
    depth = -placed[..., 2]
    scale = cameras.focal[samples, None] / depth.clamp(min=1.0)
    x = cameras.centre[samples, 0:1] + placed[..., 0] * scale
    y = cameras.centre[samples, 1:2] - placed[..., 1] * scale
    x, y = (x + 0.5) * FACTOR, (y + 0.5) * FACTOR
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (depth > 1.0)
    hit = inside.flatten().nonzero().squeeze(1)
    sample = hit // depth.shape[1]
    column, row, depth = x.flatten()[hit].long(), y.flatten()[hit].long(), depth.flatten()[hit]
    below = surface[samples[sample], row // FACTOR, column // FACTOR]
    seen = ((below <= 0) | (depth < below + _SLACK)).nonzero().squeeze(1)
    hit, sample, column, row, depth = hit[seen], sample[seen], column[seen], row[seen], depth[seen]
    key = ((depth * _DEPTH_STEPS).long() << 20) | (hit % points.shape[1])
    image = torch.full((len(samples) * height * width,), _EMPTY, dtype=torch.int64, device=points.device)
    image.scatter_reduce_(0, (sample * height + row) * width + column, key, "amin")
    image = image.reshape(-1, height, width)
    for _ in range(footprint - 1):
        image[:, :, 1:] = torch.minimum(image[:, :, 1:], image[:, :, :-1].clone())
        image[:, 1:] = torch.minimum(image[:, 1:], image[:, :-1].clone())
    flat = image.flatten()
    pixel = (flat < _EMPTY).nonzero().squeeze(1)
    found = flat[pixel]
    owner = (pixel // (height * width)) * points.shape[1] + (found & _POINT)
    # A point covers several pixels; it is shaded once.
    used = torch.zeros(len(samples) * points.shape[1], dtype=torch.bool, device=points.device)
    used[owner] = True
    seen = used.nonzero().squeeze(1)
    slot = (used.cumsum(0) - 1)[owner]
    return Splats(
        pixel=pixel,
        slot=slot,
        depth=(found >> 20).float() / _DEPTH_STEPS,
        sample=seen // points.shape[1],
        point=seen % points.shape[1],
        shape=(len(samples), surface.shape[1], surface.shape[2]),
    )


@dataclass(frozen=True)
class Fibres:
    """Points of strands to be lit.

    Attributes:
        tangent: (N, 3) unit, root to tip, camera space.
        outward: (N, 3) unit, away from the head: what the hair's mass is lit by.
        view: (N, 3) unit, to the camera.
        albedo: (N, 3).
        shade: (N,) share of light that gets through the other strands.
        shift: (N,) offset of the highlight, differs from strand to strand.
        of: (N,) sample of every point, ascending.
    """

    tangent: Tensor
    outward: Tensor
    view: Tensor
    albedo: Tensor
    shade: Tensor
    shift: Tensor
    of: Tensor


def shade_fibres(fibres: Fibres, numbers: dict[str, Tensor]) -> Tensor:
    """Radiance (N, 3) of strand points under stacked `light.Light` numbers."""
    tangent, outward, albedo, of = fibres.tangent, fibres.outward, fibres.albedo, fibres.of
    shade = fibres.shade
    coefficients = shading.reflected_light(
        numbers["constant"], numbers["directions"], numbers["sharpness"], numbers["flux"]
    )
    ambient = shading.apply_each(shading.basis(outward), coefficients, of).clamp(min=0)
    radiance = albedo * ambient * shade[:, None]
    bent = torch.nn.functional.normalize(tangent + fibres.shift[:, None] * outward, dim=1)
    lights = torch.cat([numbers["directions"], numbers["lamps"]], 1)
    powers = torch.cat([numbers["flux"] * 0.6, numbers["power"]], 1)
    used = [k for k in range(lights.shape[1]) if bool((powers[:, k] > 0).any())]
    for k in used:
        toward, power = lights[of, k], powers[of, k]
        facing = (0.35 + 0.65 * (outward * toward).sum(1)).clamp(min=0) * shade
        half = torch.nn.functional.normalize(toward + fibres.view, dim=1)
        sine = (1 - (bent * half).sum(1).square()).clamp(min=0)
        white = 0.05 * sine**40
        tinted = 0.35 * sine**9
        if k >= numbers["directions"].shape[1]:  # lobes are in the ambient light already
            diffuse = 0.3 * (1 - (tangent * toward).sum(1).square()).clamp(min=0).sqrt()
            tinted = tinted + diffuse
        radiance = radiance + power * facing[:, None] * (white[:, None] + albedo * tinted[:, None])
    return radiance


def compose(splats: Splats, radiance: Tensor, opacity: Tensor | None = None) -> Layer:
    """Averages shaded points (K, 3) of given opacity (K,) to a layer of S images."""
    count, height, width = splats.shape
    if opacity is None:
        opacity = torch.ones_like(radiance[:, 0])
    colours = torch.cat([radiance * opacity[:, None], opacity[:, None]], 1)
    image = torch.zeros(count * height * FACTOR * width * FACTOR, 4, device=radiance.device)
    image[splats.pixel] = colours[splats.slot]
    image = image.reshape(count, height, FACTOR, width, FACTOR, 4)
    parts = [image[:, :, i, :, j] for i in range(FACTOR) for j in range(FACTOR)]
    mean = torch.stack(parts).mean(0)
    return Layer(mean[..., :3], mean[..., 3])


def thicken(layer: Layer) -> Layer:
    """Fills the gaps of dense hair with its own mean, darkened: what lies deeper in the mass."""
    around = smooth(torch.cat([layer.rgb, layer.alpha[..., None]], -1).permute(0, 3, 1, 2))
    around = around.permute(0, 2, 3, 1)
    colour = around[..., :3] / around[..., 3:].clamp(min=1e-3)
    t = ((around[..., 3] - 0.28) / 0.3).clamp(0, 1)
    added = (t * t * (3 - 2 * t) - layer.alpha).clamp(min=0)
    return Layer(layer.rgb + 0.65 * colour * added[..., None], layer.alpha + added)


def smooth(images: Tensor) -> Tensor:
    """Local mean of images (B, C, H, W) over about a fiftieth of their width, by way of a small image."""
    size = images.shape[-1]
    factor = max(1, size // 128)
    small = torch.nn.functional.avg_pool2d(images, factor)
    small = torch.nn.functional.avg_pool2d(small, 3, 1, 1, count_include_pad=False)
    return torch.nn.functional.interpolate(small, images.shape[-2:], mode="bilinear", align_corners=False)


def nearest_depth(splats: Splats, opacity: Tensor) -> Tensor:
    """Depth (S, H, W) of the nearest opaque point of each pixel, infinite where none is."""
    count, height, width = splats.shape
    image = torch.full((count * height * FACTOR * width * FACTOR,), torch.inf, device=opacity.device)
    image[splats.pixel] = torch.where(opacity[splats.slot] > 0.5, splats.depth, torch.inf)
    image = image.reshape(count, 1, height * FACTOR, width * FACTOR)
    return -torch.nn.functional.max_pool2d(-image, FACTOR)[:, 0]
