"""How light makes surfaces look: harmonics, gloss, skin that bleeds, exposure, tone curve.

The diffuse part of the surroundings is projected on second-order spherical harmonics (Ramamoorthi and
Hanrahan 2001) and multiplied by ambient occlusion; the lobes' mirror images give gloss and the wet look of
eyes. Lamps light by wrapped diffuse, red-shifted at the terminator because light bleeds through skin, and GGX
gloss with Fresnel (Walter et al. 2007; visibility after Kelemen and Szirmay-Kalos 2001).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.synth.skin import Paint


def basis(normal: Tensor) -> Tensor:
    """Real spherical harmonics up to order 2 at unit vectors (..., 3): (..., 9)."""
    x, y, z = normal.unbind(-1)
    one = torch.full_like(x, 0.282095)
    return torch.stack(
        [
            one,
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )


_BAND = (0, 1, 1, 1, 2, 2, 2, 2, 2)
_COSINE = (1.0, 2 / 3, 1 / 4)
"""Clamped-cosine convolution of the three bands, divided by pi."""


def reflected_light(constant: Tensor, directions: Tensor, sharpness: Tensor, flux: Tensor) -> Tensor:
    """Reflected light of a white diffuse surface as a function of its normal: coefficients of `basis`.

    Args:
        constant: (B, 3) radiance from everywhere.
        directions: (B, L, 3).
        sharpness: (B, L).
        flux: (B, L, 3).

    Returns:
        (B, 9, 3); `basis(n) @ coefficients` is radiance (irradiance / pi).
    """
    first = 1 / torch.tanh(sharpness) - 1 / sharpness
    second = 1 - 3 * first / sharpness
    bands = torch.stack([torch.ones_like(first), first, second], -1)[..., list(_BAND)]
    weights = bands * basis(directions) * bands.new_tensor([_COSINE[b] for b in _BAND])
    coefficients = torch.einsum("blk,blc->bkc", weights, flux)
    coefficients[:, 0] += constant / 0.282095
    return coefficients


@dataclass(frozen=True)
class LitPoints:
    """Visible surface points to be lit, N of a batch of B.

    Attributes:
        position: (N, 3) camera space, cm.
        normal: (N, 3) shaded normals.
        smooth: (N, 3) normals without relief.
        occlusion: (N,) share of the sky that is seen.
        of: (N,) int64 sample, ascending.
    """

    position: Tensor
    normal: Tensor
    smooth: Tensor
    occlusion: Tensor
    of: Tensor


def apply_each(rows: Tensor, matrices: Tensor, of: Tensor) -> Tensor:
    """Multiplies rows (N, K) by the matrices (B, K, C) of their samples `of` (N,), ascending: (N, C)."""
    # One product per sample: gathering a matrix per row would move more memory than all other shading.
    counts = torch.bincount(of, minlength=len(matrices)).tolist()
    return torch.cat([part @ matrix for part, matrix in zip(rows.split(counts), matrices, strict=True)])


def shade(points: LitPoints, paint: Paint, numbers: dict[str, Tensor], shadows: list[Tensor]) -> Tensor:
    """Radiance (N, 3) of lit points.

    Args:
        points: Geometry.
        paint: Surface colours.
        numbers: Stacked `Light` numbers, (B, ...) each.
        shadows: For each lamp slot in use the lit share (N,) 0..1.
    """
    of = points.of
    view = torch.nn.functional.normalize(-points.position, dim=1)
    normal = points.normal
    soft = paint.softness[:, None] * paint.albedo.new_tensor([0.55, 0.25, 0.12])
    coefficients = reflected_light(
        numbers["constant"], numbers["directions"], numbers["sharpness"], numbers["flux"]
    )
    # Occluded places of skin are lit by red light that bounced off skin.
    bounced = torch.lerp(points.occlusion[:, None], points.occlusion.sqrt()[:, None], soft)
    blurred = torch.lerp(normal, points.smooth, 0.4 * paint.softness[:, None])
    diffuse = apply_each(basis(blurred), coefficients, of).clamp(min=0) * bounced
    gloss = _mirrored(points, paint, view, numbers)
    wrap = soft * numbers["wrap"][of][:, None] * 0.5
    for k, lit in enumerate(shadows):
        lamp, power = numbers["lamps"][of, k], numbers["power"][of, k]
        cosine = (normal * lamp).sum(1)
        smooth = (points.smooth * lamp).sum(1)
        bent = torch.lerp(cosine[:, None], smooth[:, None], soft)
        wrapped = ((bent + wrap) / (1 + wrap)).clamp(min=0)
        wrapped = wrapped * (1 - wrap + wrap * wrapped)
        passed = torch.lerp(lit[:, None], lit.sqrt()[:, None], soft)
        diffuse = diffuse + power / math.pi * wrapped * passed * (0.4 + 0.6 * bounced)
        gloss = gloss + _highlight(normal, lamp, view, paint)[:, None] * lit[:, None] * power
    return paint.albedo * diffuse + gloss


def _mirrored(points: LitPoints, paint: Paint, view: Tensor, numbers: dict[str, Tensor]) -> Tensor:
    """Reflection (N, 3) of the surroundings' lobes."""
    of, normal, occlusion = points.of, points.normal, points.occlusion
    facing = (normal * view).sum(1).clamp(0, 1)
    mirror = 2 * facing[:, None] * normal - view
    alpha = paint.roughness * paint.roughness
    sharp = numbers["sharpness"][of]
    # A Gaussian lobe seen in a rough mirror: the widths add.
    sharp = 1 / (1 / sharp + 2 * (alpha * alpha)[:, None])
    cosine = apply_each(mirror, numbers["directions"].transpose(1, 2), of)
    scale = sharp / (2 * math.pi) * torch.exp(sharp * (cosine - 1))
    # In a wet eye a source shows as what it is: a window or a soft box with an edge.
    radius = (0.5 / numbers["sharpness"][of].sqrt()).clamp(0.09, 0.26)
    box = ((cosine - radius.cos()) / 0.01 + 0.5).clamp(0, 1) / (math.pi * radius * radius)
    scale = torch.where(paint.roughness[:, None] < 0.1, box + 0.3 * scale, scale)
    seen = apply_each(scale, numbers["flux"], of) + numbers["constant"][of]
    fresnel = 0.028 + (1 - paint.roughness) * 0.35 * (1 - facing) ** 5
    return seen * (fresnel * paint.gloss * occlusion.square())[:, None]


def _highlight(normal: Tensor, lamp: Tensor, view: Tensor, paint: Paint) -> Tensor:
    """GGX reflection (N,) of a lamp, cosine included."""
    cosine = (normal * lamp).sum(1)
    half = torch.nn.functional.normalize(lamp + view, dim=1)
    alpha2 = paint.roughness.square().square()
    nh = (normal * half).sum(1).clamp(0, 1)
    lh = (lamp * half).sum(1).clamp(0.1, 1)
    spread = alpha2 / (math.pi * (nh * nh * (alpha2 - 1) + 1).square().clamp(min=1e-6))
    fresnel = 0.028 + 0.972 * (1 - lh) ** 5
    # Kelemen's visibility term; a lamp is not a point, which bounds the peak.
    return (spread * fresnel / (4 * lh * lh) * paint.gloss * cosine.clamp(0, 1)).clamp(max=8)


def develop_exposure(radiance: Tensor, face: Tensor, of: Tensor, target: Tensor, tone: Tensor) -> Tensor:
    """Scale (B,) that brings each face to its mean luminance.

    Args:
        radiance: (N, 3) of surface points.
        face: (N,) bool, points that the camera meters.
        of: (N,) sample of every point.
        target: (B,) mean luminance aimed at for middling skin.
        tone: (B,) luminance of the skin's albedo.
    """
    luminance = radiance @ radiance.new_tensor([0.2126, 0.7152, 0.0722])
    weight = face.to(radiance.dtype)
    total = torch.zeros_like(target).index_add_(0, of, luminance.clamp(max=4) * weight)
    count = torch.zeros_like(target).index_add_(0, of, weight)
    mean = (total / count.clamp(min=1)).clamp(min=1e-4)
    # Cameras meter dark skin brighter than it is, but not as bright as light skin.
    return target * (tone / 0.3).clamp(min=0.03) ** 0.55 / mean


def tone_curve(radiance: Tensor) -> Tensor:
    """Linear radiance to sRGB 0..1 with a soft shoulder above 0.6."""
    x = radiance.clamp(min=0)
    over = (x - 0.6).clamp(min=0)
    x = torch.where(x > 0.6, 0.6 + 0.4 * (1 - torch.exp(-over / 0.4)), x)
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)
