"""Hair and things laid over rendered heads: layers of radiance with depth, and the shadows they throw."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.geometry.cameras import Cameras
from pipeline.synth import shading, strands
from pipeline.synth.props import Props
from pipeline.synth.skin import Paint


@dataclass(frozen=True)
class Scene:
    """What all layers of a batch need.

    Attributes:
        props: The painted things.
        keys: B keys of props.
        vertices: (B, V, 3), the heads in camera space.
        cameras: B cameras.
        lights: Stacked `light.Light` numbers.
    """

    props: Props
    keys: Sequence[int]
    vertices: Tensor
    cameras: Cameras
    lights: dict[str, Tensor]


def draw_hair(scene: Scene, users: list[int], surface: Tensor, colour: Tensor) -> strands.Layer:
    """Hair of the samples that have some.

    Args:
        scene: The batch.
        users: Samples with hair, at least one, ascending.
        surface: (B, H, W), depth of what is there already.
        colour: (B, 3) linear albedo.
    """
    props = scene.props
    samples = torch.tensor(users, device=surface.device)
    attachment = strands.attach(props.neutral_scalp, scene.vertices[samples][:, props.scalp])
    clouds = strands.Clouds(*props.hairdos([scene.keys[b] for b in users]), attachment, samples)
    splats = strands.splat(clouds, surface, scene.cameras, footprint=3)
    found, place, turn = clouds.seen(splats)
    centre = found.new_tensor([0.0, 4.0, 1.0])
    fibres = strands.Fibres(
        tangent=_unit((found[:, None, 3:6] @ turn).squeeze(1)),
        outward=_unit(((found[:, :3] - centre)[:, None] @ turn).squeeze(1)),
        view=_unit(-place),
        albedo=colour[samples[splats.sample]] * torch.exp(0.22 * found[:, 7:8]) * 0.9,
        shade=found[:, 6],
        shift=0.12 * found[:, 7],
        of=samples[splats.sample],
    )
    layer = strands.compose(splats, strands.shade_fibres(fibres, scene.lights))
    return _spread(strands.thicken(layer), samples, surface)


def draw_accessories(
    scene: Scene, users: list[int], surface: Tensor, skin: Tensor
) -> tuple[strands.Layer, Tensor]:
    """Things of the samples that have one, at least one.

    Args:
        scene: The batch.
        users: Samples with a thing, ascending.
        surface: (B, H, W), depth of what is there already.
        skin: (B, 3) linear albedo of the samples' skin.

    Returns:
        The layer, and the depth (B, H, W) with the opaque things in it.
    """
    props = scene.props
    samples = torch.tensor(users, device=surface.device)
    attachment = strands.attach(props.neutral_face, scene.vertices[samples][:, props.face])
    clouds = strands.Clouds(*props.accessories([scene.keys[b] for b in users]), attachment, samples)
    splats = strands.splat(clouds, surface, scene.cameras, footprint=4)
    found, place, turn = clouds.seen(splats)
    normal = _unit((found[:, None, 3:6] @ turn).squeeze(1))
    # Thin sheets are seen from both sides.
    normal = normal * torch.where((normal * place).sum(1, keepdim=True) > 0, -1.0, 1.0)
    whole = torch.ones_like(found[:, 0])
    points = shading.LitPoints(place, normal, normal, 0.85 * whole, samples[splats.sample])
    own = found[:, 11:12] > 1  # see accessories.OWN_SKIN
    albedo = torch.where(own, found[:, 6:9] * skin[points.of], found[:, 6:9])
    paint = Paint(albedo, found[:, 10], found[:, 11] % 1, 0.2 + 0.6 * own[:, 0])
    lamps = int((scene.lights["power"].sum((0, 2)) > 0).sum())
    radiance = shading.shade(points, paint, scene.lights, [whole] * lamps)
    opacity = found[:, 9]
    layer = _spread(strands.compose(splats, radiance, opacity), samples, surface)
    depth = surface.clone()
    nearest = strands.nearest_depth(splats, opacity)
    depth[samples] = torch.where(torch.isfinite(nearest), nearest, depth[samples])
    return layer, depth


def _spread(layer: strands.Layer, samples: Tensor, surface: Tensor) -> strands.Layer:
    """A layer of all B samples, empty where a sample is not among the given."""
    rgb = torch.zeros(*surface.shape, 3, device=surface.device)
    alpha = torch.zeros_like(surface)
    rgb[samples], alpha[samples] = layer.rgb, layer.alpha
    return strands.Layer(rgb, alpha)


def passed_light(alpha: Tensor) -> Tensor:
    """Light (B, H, W) that gets past things (B, H, W) to the skin below: a blurred copy, moved downwards."""
    size = alpha.shape[-1]
    # Soft, so a small image will do.
    small = torch.nn.functional.interpolate(alpha[:, None], (48, 48), mode="area")
    small = torch.nn.functional.pad(small, (0, 0, 1, 0))[:, :, :48]
    for _ in range(2):
        small = torch.nn.functional.avg_pool2d(small, 3, 1, 1, count_include_pad=False)
    soft = torch.nn.functional.interpolate(small, (size, size), mode="bilinear", align_corners=False)
    return 1 - 0.6 * soft[:, 0]


def dense(alpha: Tensor) -> Tensor:
    """Where hair of coverage (B, H, W) hides what is below; single strands do not."""
    around = strands.smooth(alpha[:, None])[:, 0]
    return (around > 0.5) & (alpha > 0.3)


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)
