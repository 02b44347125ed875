"""Looks of heads: from a geometry buffer to a picture, its true normals and its regions.

`draw` draws the numbers of a sample, `Props` paints and keeps what is costly and shared by a few samples
(skin maps, backgrounds, hair), `render` puts skin, light, hair, accessories and background together, and
`develop` adds the camera's faults. Everything on images is batched torch, the same on CPU and CUDA.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.regions import Region
from pipeline.synth import (
    background,
    chart,
    clothes,
    labels,
    light,
    overlay,
    photo,
    shading,
    shadows,
    skin,
    skin_map,
    strands,
    wrinkles,
)
from pipeline.synth.gbuffer import GBuffer, Surface
from pipeline.synth.props import Props

OCCLUDED = 0.3
"""Share of samples with glasses or another thing before the face."""

HAIRY = 0.8
"""Share of samples with strands of hair; the rest are shaved or bald."""


@dataclass(frozen=True)
class Look:
    """The numbers of one sample's looks."""

    complexion: skin.Complexion
    light: light.Light
    backdrop: background.Backdrop
    faults: photo.Faults
    outfit: clothes.Outfit
    hairy: bool
    occluded: bool

    def tags(self) -> dict[str, Any]:
        """What evaluation groups by, ready for JSON."""
        return {
            "skin_tone": self.complexion.tone,
            "light": self.light.kind,
            "lamps": int((self.light.power.sum(1) > 0).sum()),
            "grey": self.faults.grey,
            "hair": self.hairy,
            "accessory": self.occluded,
        }


def draw(rng: np.random.Generator, portrait: bool = False, mouth_open: float = 0.0) -> Look:
    """Draws the looks of one sample."""
    seeds = rng.integers(0, 2**63, 8)
    skin_rng, light_rng, back_rng, photo_rng, cloth_rng = (np.random.default_rng(s) for s in seeds[:5])
    outfit = clothes.draw_outfit(cloth_rng, mouth_open)
    hooded = outfit.hood < clothes.NONE
    return Look(
        complexion=skin.draw_complexion(skin_rng),
        light=light.draw_light(light_rng, portrait),
        backdrop=background.draw_backdrop(back_rng),
        faults=photo.draw_faults(photo_rng, portrait),
        outfit=outfit,
        hairy=bool(rng.random() < HAIRY) and not hooded,
        occluded=bool(rng.random() < OCCLUDED),
    )


@dataclass(frozen=True)
class Rendered:
    """Pictures at the size of the geometry buffer.

    Attributes:
        rgb: (B, H, W, 3) float32 sRGB 0..1.
        normal: (B, H, W, 3) float32 unit normals with relief; 0 where no surface is.
        region: (B, H, W) uint8 `Region`.
    """

    rgb: Tensor
    normal: Tensor
    region: Tensor


def stack(items: Sequence[Any], device: torch.device) -> dict[str, Tensor]:
    """Stacks the numeric fields of like dataclasses: name to (B, ...) float32, in one transfer."""
    names = [
        f.name for f in fields(items[0]) if isinstance(getattr(items[0], f.name), (int, float, np.ndarray))
    ]
    columns = [np.asarray([getattr(item, name) for item in items], np.float32) for name in names]
    flat = torch.from_numpy(np.concatenate([c.reshape(len(items), -1) for c in columns], 1)).to(device)
    parts = flat.split([c[0].size for c in columns], 1)
    return {n: p.reshape(c.shape) for n, p, c in zip(names, parts, columns, strict=True)}


def render_looks(props: Props, gbuffer: GBuffer, looks: Sequence[Look], keys: Sequence[int]) -> Rendered:
    """Gives heads their looks.

    Samples with the same key share skin map, hair and background.
    """
    device = gbuffer.surface.depth.device
    complexion = stack([look.complexion for look in looks], device)
    lights = stack([look.light for look in looks], device)
    backdrop = stack([look.backdrop for look in looks], device)
    outfit = stack([look.outfit for look in looks], device)
    region = labels.geometry_regions(gbuffer)
    size = gbuffer.shape[-1]
    surface = gbuffer.surface
    pixel, of = surface.pixel, surface.image
    paint, normal = _paint_surface(props, surface, complexion, keys, gbuffer.cameras.rotation)
    paint, clothed = _dress(props, paint, surface, outfit)
    shaded = surface.occlusion * _lid_shade(region).flatten()[pixel]
    points = shading.LitPoints(surface.position, normal, surface.normal, shaded, of)
    radiance = shading.shade(points, paint, lights, _shadows(props, gbuffer, surface, looks, lights))
    face = (region.flatten()[pixel] == int(Region.SKIN)) & ~clothed
    tone = complexion["skin"] @ radiance.new_tensor([0.2126, 0.7152, 0.0722])
    exposure = shading.develop_exposure(radiance, face, of, lights["exposure"], tone)
    region.view(-1)[pixel[clothed]] = int(Region.OCCLUDER)

    scene = overlay.Scene(props, keys, gbuffer.vertices, gbuffer.cameras, lights)
    layers, region = _overlays(scene, looks, gbuffer.depth, complexion, region)
    for layer in layers:
        radiance = radiance * overlay.passed_light(layer.alpha).flatten()[pixel, None]
    rgb = background.place_backgrounds(*props.backgrounds(keys), backdrop, size).reshape(-1, 3)
    rgb[pixel] = shading.tone_curve(radiance * exposure[of, None])
    for layer in layers:
        hit = (layer.alpha.flatten() > 0).nonzero().squeeze(1)
        alpha = layer.alpha.flatten()[hit, None]
        colour = layer.rgb.reshape(-1, 3)[hit] / alpha * exposure[hit // (size * size), None]
        rgb[hit] = torch.lerp(rgb[hit], shading.tone_curve(colour), alpha)
    return Rendered(rgb.reshape(*gbuffer.shape, 3), gbuffer.dense(normal), region)


def _paint_surface(
    props: Props, surface: Surface, complexion: dict[str, Tensor], keys: Sequence[int], rotation: Tensor
) -> tuple[skin.Paint, Tensor]:
    """Colours and normals of all surface points."""
    of, rest = surface.image, surface.rest
    maps, which = props.skins(keys)
    values, gradients = props.grain(rest)
    texels = chart.sample_map(maps, which[of], rest)
    grain = values[:, 3] + 0.6 * values[:, 2]
    paint = skin.colour_skin(texels, grain, complexion, of)
    relief = complexion["relief"][of, None]
    slopes = complexion["grain"][of] * (1 - 0.6 * texels[:, skin_map.LIPS : skin_map.LIPS + 1].clamp(0, 1))
    gradient = relief * chart.surface_gradient(texels[:, [skin_map.BY_THETA, skin_map.BY_Y]], rest)
    gradient = gradient + wrinkles.grain_gradient(gradients, slopes)
    normal = wrinkles.perturb_normals(surface.normal, gradient, rotation[of])

    def put(where: Tensor, other: skin.Paint) -> None:
        paint.albedo[where], paint.gloss[where] = other.albedo, other.gloss
        paint.roughness[where], paint.softness[where] = other.roughness, other.softness
        normal[where] = surface.normal[where]

    for side, material in enumerate(props.sclera):
        eye = (surface.material == material).nonzero().squeeze(1)
        put(eye, skin.colour_eyes(rest[eye], props.eye_centres[side], grain[eye], complexion, of[eye]))
    inside = (surface.material == props.teeth) | (surface.material == props.gums)
    mouth = inside.nonzero().squeeze(1)
    put(
        mouth,
        skin.colour_mouth(surface.material[mouth] == props.teeth, grain[mouth], complexion, of[mouth]),
    )
    return paint, normal


def _lid_shade(region: Tensor) -> Tensor:
    """Light (B, H, W) that lids and lashes leave to the eyeball: dark below the upper lid."""
    size = region.shape[-1]
    reach = max(1, size // 90)
    eye = (region == int(Region.EYE)).float()
    above = torch.nn.functional.pad(eye, (0, 0, reach, 0))[:, None, :size]
    open_sky = strands.smooth(above)[:, 0]
    return torch.where(eye > 0, 0.25 + 0.75 * open_sky, torch.ones_like(eye))


def _dress(
    props: Props, paint: skin.Paint, surface: Surface, outfit: dict[str, Tensor]
) -> tuple[skin.Paint, Tensor]:
    """Clothes on the head's own surface, and which points (N,) bool they cover."""
    where, cloth = clothes.dress(surface.rest, outfit, surface.image)
    outside = ~torch.isin(surface.material[where], props.inner)
    where, cloth = where[outside], cloth[outside]
    for values, value in (
        (paint.albedo, cloth),
        (paint.gloss, 0.1),
        (paint.roughness, 0.8),
        (paint.softness, 0.0),
    ):
        values[where] = value
    clothed = torch.zeros_like(surface.image, dtype=torch.bool)
    clothed[where] = True
    return paint, clothed


def _overlays(
    scene: overlay.Scene, looks: Sequence[Look], depth: Tensor, complexion: dict[str, Tensor], region: Tensor
) -> tuple[list[strands.Layer], Tensor]:
    """Layers to be laid over the heads, from below, and the regions with them."""
    layers = []
    occluded = [b for b, look in enumerate(looks) if look.occluded]
    if occluded:
        layer, depth = overlay.draw_accessories(scene, occluded, depth, complexion["skin"])
        region = torch.where(layer.alpha > 0.25, int(Region.OCCLUDER), region)
        layers.append(layer)
    hairy = [b for b, look in enumerate(looks) if look.hairy]
    if hairy:
        layer = overlay.draw_hair(scene, hairy, depth, complexion["hair"])
        region = torch.where(overlay.dense(layer.alpha), int(Region.HAIR), region)
        layers.append(layer)
    return layers, region


def _shadows(
    props: Props, gbuffer: GBuffer, surface: Surface, looks: Sequence[Look], lights: dict[str, Tensor]
) -> list[Tensor]:
    """Lit share of every surface point for each lamp slot that a sample of the batch uses."""
    shares = []
    for slot in range(light.LAMPS):
        users = [b for b, look in enumerate(looks) if look.light.power[slot].any()]
        if not users:
            break
        index = torch.tensor(users, device=surface.image.device)
        maps = shadows.shadow_maps(
            gbuffer.vertices[index],
            props.casters,
            lights["lamps"][index, slot],
            lights["penumbra"][index, slot],
        )
        place = torch.full((len(looks),), -1, device=surface.image.device)
        place[index] = torch.arange(len(users), device=surface.image.device)
        row = place[surface.image]
        lit = torch.ones_like(surface.occlusion)
        used = (row >= 0).nonzero().squeeze(1)
        lit[used] = shadows.lit_share(surface.position[used], row[used], maps)
        shares.append(lit)
    return shares


def develop(rgb: Tensor, looks: Sequence[Look], generators: Sequence[np.random.Generator]) -> Tensor:
    """Puts each sample's camera faults on its picture.

    Args:
        rgb: (B, H, W, 3) float32 sRGB 0..1.
        looks: B looks.
        generators: B sources of noise.

    Returns:
        (B, H, W, 3) uint8.
    """
    images = rgb.cpu().numpy()
    done = [
        photo.apply_faults(image, look.faults, rng)
        for image, look, rng in zip(images, looks, generators, strict=True)
    ]
    return torch.from_numpy(np.stack(done)).to(rgb.device)
