"""The colour of every surface point of a head, and the numbers that a sample draws about it.

A `Complexion` holds what a sample draws freely for any painted map (`skin_map.py`): skin tone, colours of
hair, lips and make-up, how strongly each layer shows. `Complexion.tone` is a tag from 0 (very light) to 11
(very dark), uniform, and the albedo is jittered around that tone. 30 % wear make-up and no beard.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.pixels import srgb_to_linear
from pipeline.synth import skin_map


def _colours(hexadecimal: str) -> np.ndarray:
    """Colours (N, 3) float32, sRGB 0..255."""
    return np.array([list(bytes.fromhex(colour)) for colour in hexadecimal.split()], np.float32)


TONES = _colours("f6d9c9 eecab6 e6bca3 ddae92 d09e7f c08d6d ad7a5b 98674b 80543c 694330 523426 3e281f")
"""sRGB albedo of skin by tone, very light to very dark."""

HAIR_COLOURS = _colours("161211 261d19 3a2a21 543c2b 745236 9c764c be9c6c 7a3c22 787470 bebcb8")
"""sRGB colours of hair: black to blond, red, grey, white."""

_IRIS_COLOURS = _colours("342016 482c1a 624226 685c36 566858 627c92 78848c")
_LIPSTICKS = _colours("a82830 be4652 8c3438 cd6e70 781e2d b06054 c83c5a")


@dataclass(frozen=True)
class Complexion:
    """What a sample draws about its skin. Colours are linear RGB albedo."""

    tone: int
    skin: np.ndarray
    hair: np.ndarray
    brow: np.ndarray
    lips: np.ndarray
    lip_strength: float
    makeup: np.ndarray
    iris: np.ndarray
    shadow: float
    liner: float
    blush: float
    mottling: float
    redness: float
    spots: float
    beard: float
    brows: float
    scalp: float
    oil: float
    relief: float
    grain: np.ndarray
    sclera: float
    pupil: float
    teeth: float


def draw_complexion(rng: np.random.Generator) -> Complexion:
    """Draws a complexion; women's make-up, men's beards and age are properties of maps and come on top."""
    tone = int(rng.integers(12))
    position = np.clip(tone + rng.uniform(-0.5, 0.5), 0, 11)
    srgb = np.stack([np.interp(position, np.arange(12), TONES[:, k]) for k in range(3)])
    skin = srgb_to_linear(np.clip(srgb + rng.normal(0, 4, 3) * (1, 0.7, 1.2), 25, 250))
    dark = tone / 11
    choices = len(HAIR_COLOURS)
    weights = np.array([3, 3, 2, 1.5, 1.2, 1, 0.7, 0.5, 0.7, 0.5])
    weights[2:8] *= max(0.05, 1 - 1.3 * dark)
    dyed = rng.random() < 0.015
    strand = rng.uniform(20, 220, 3) if dyed else HAIR_COLOURS[rng.choice(choices, p=weights / weights.sum())]
    hair = srgb_to_linear(strand * rng.uniform(0.75, 1.25) * rng.normal(1, 0.04, 3))
    irises = np.array([3, 3, 2, 1, 1, 1.2, 0.8]) * np.where(np.arange(7) > 2, max(0.05, 1 - 1.6 * dark), 1)
    natural = skin * srgb_to_linear(np.array([232, 176, 174]) + rng.normal(0, 10, 3))
    made_up = rng.random() < 0.3
    lipstick = _LIPSTICKS[rng.integers(len(_LIPSTICKS))] * rng.uniform(0.8, 1.15)
    lips = srgb_to_linear(np.clip(lipstick, 0, 250)) if made_up else natural * 1.05
    return Complexion(
        tone=tone,
        skin=skin,
        hair=np.clip(hair, 0, 1),
        brow=np.clip(np.minimum(hair, 0.6 * skin) * rng.uniform(0.25, 0.7), 0.004, 1),
        lips=np.clip(lips, 0, 1).astype(np.float32),
        lip_strength=float(rng.uniform(0.4, 0.9) if made_up else rng.uniform(0.35, 0.85)),
        makeup=srgb_to_linear(rng.uniform((30, 20, 30), (170, 120, 150))),
        iris=srgb_to_linear(_IRIS_COLOURS[rng.choice(7, p=irises / irises.sum())] * rng.uniform(0.75, 1.3)),
        shadow=float(rng.uniform(0, 0.6) * made_up),
        liner=float(rng.uniform(0.8, 1.0) if made_up else rng.uniform(0.5, 0.85)),
        blush=float(rng.uniform(0, 0.5) * made_up),
        mottling=float(rng.uniform(0.04, 0.13)),
        redness=float(min(rng.gamma(2.0, 0.45), 2.0)),
        spots=float(rng.random() ** 2),
        beard=float(rng.uniform(0.3, 1.0) * (not made_up)),
        brows=float(rng.uniform(0.55, 1.0)),
        scalp=float(rng.uniform(0.5, 1.0)),
        oil=float(rng.lognormal(0, 0.45)),
        relief=float(rng.uniform(0.7, 1.4)),
        grain=(rng.gamma(2.0, 0.5, 4) * (0.02, 0.03, 0.035, 0.025)).astype(np.float32),
        sclera=float(rng.uniform(0.4, 0.65)),
        pupil=float(rng.uniform(0.28, 0.5)),
        teeth=float(rng.uniform(0.5, 0.85)),
    )


@dataclass(frozen=True)
class Paint:
    """Surface colours of N points: what the light acts on.

    Attributes:
        albedo: (N, 3) linear.
        gloss: (N,) strength of the specular reflection, 1 is ordinary skin.
        roughness: (N,) GGX roughness alpha.
        softness: (N,) how much light bleeds under the surface: 1 skin, 0 hard.
    """

    albedo: Tensor
    gloss: Tensor
    roughness: Tensor
    softness: Tensor


def colour_skin(texels: Tensor, grain: Tensor, numbers: dict[str, Tensor], of: Tensor) -> Paint:
    """Colours skin points.

    Args:
        texels: (N, CHANNELS) from `chart.sample_map`.
        grain: (N,) fine 3-D noise, unit variance, that no map repeats.
        numbers: Stacked `Complexion` numbers, (B, ...) each.
        of: (N,) int64, sample of every point.
    """

    def number(name: str) -> Tensor:
        return numbers[name][of]

    mottling = number("mottling")
    melanin = (texels[:, skin_map.MELANIN] + 0.3 * grain) * mottling + 1.1 * texels[
        :, skin_map.SPOTS
    ] * number("spots")
    red = texels[:, skin_map.REDNESS] * number("redness") * 0.3
    red = torch.where(red < 0, 0.4 * red, red)  # nobody is green
    absorb = melanin[:, None] * melanin.new_tensor([0.7, 1.0, 1.3]) + red[:, None] * red.new_tensor(
        [0.02, 0.5, 0.4]
    )
    albedo = number("skin") * torch.exp(-absorb)
    lips = (texels[:, skin_map.LIPS] * number("lip_strength")).clamp(0, 1)[:, None]
    albedo = torch.lerp(albedo, number("lips") * torch.exp(-0.5 * absorb), lips)
    makeup = number("makeup")
    albedo = torch.lerp(albedo, makeup, (texels[:, skin_map.SHADOW] * number("shadow")).clamp(0, 1)[:, None])
    blush = (texels[:, skin_map.BLUSH] * number("blush"))[:, None]
    albedo = albedo * (1 - blush * albedo.new_tensor([0.05, 0.5, 0.4]))
    hair = number("hair")
    scalp = (texels[:, skin_map.SCALP] * number("scalp")).clamp(0, 0.97)
    beard = (texels[:, skin_map.BEARD] * number("beard")).clamp(0, 0.95)
    covered = torch.maximum(scalp, beard)
    albedo = torch.lerp(albedo, hair * 0.9, covered[:, None])
    albedo = torch.lerp(
        albedo, number("brow"), (texels[:, skin_map.BROW] * number("brows")).clamp(0, 0.95)[:, None]
    )
    dark = albedo.new_tensor([0.02, 0.015, 0.013])
    albedo = torch.lerp(albedo, dark, (texels[:, skin_map.LINER] * number("liner")).clamp(0, 0.95)[:, None])
    albedo = albedo * (1 - 0.45 * texels[:, skin_map.CREASE].clamp(0, 1))[:, None] ** albedo.new_tensor(
        [0.8, 1.0, 1.1]
    )
    gloss = (texels[:, skin_map.OIL] * number("oil") * (1 - 0.75 * covered)).clamp(0, 3)
    roughness = (0.52 - 0.1 * gloss - 0.12 * lips[:, 0]).clamp(0.2, 0.6)
    return Paint(albedo.clamp(0.003, 0.95), gloss, roughness, 1 - covered)


def colour_eyes(rest: Tensor, centre: Tensor, grain: Tensor, numbers: dict[str, Tensor], of: Tensor) -> Paint:
    """Colours eyeball points: white, limbus, iris with fibres, pupil.

    Args:
        rest: (N, 3), position on the neutral head (looking straight ahead).
        centre: (N, 3), centre of the eyeball there.
        grain: (N,) noise.
        numbers: Stacked `Complexion` numbers.
        of: (N,) sample of every point.
    """
    offset = rest - centre
    radius = torch.linalg.vector_norm(offset[:, :2], dim=1)
    angle = torch.atan2(offset[:, 1], offset[:, 0])
    iris_radius = 0.76
    inside = radius / iris_radius
    fibres = (torch.sin(angle * 23 + 2 * grain) * 0.5 + torch.sin(angle * 41 + 5 * inside) * 0.5) * 0.22
    iris = numbers["iris"][of]
    ring = (0.5 + 0.5 * (inside - 0.35).clamp(0, 1) + fibres)[:, None] * iris
    ring = ring * (1 - 0.75 * _step(inside, 0.80, 1.0))[:, None]  # dark limbus
    # The upper lid's shade and the cornea's light from below give the iris its depth.
    ring = ring * (1 - 0.5 * (offset[:, 1:2] / iris_radius).clamp(-1, 1))
    pupil = _step(inside, numbers["pupil"][of] - 0.05, numbers["pupil"][of] + 0.05)[:, None]
    ring = torch.lerp(torch.full_like(ring, 0.006), ring, pupil)
    white = numbers["sclera"][of][:, None] * ring.new_tensor([1.0, 0.93, 0.88])
    away = ((radius - 0.7) / 0.8).clamp(0, 1)[:, None]
    white = white * (1 - away * ring.new_tensor([0.12, 0.38, 0.38]) * (0.8 + 0.3 * grain[:, None]))
    albedo = torch.lerp(ring, white, _step(inside, 0.94, 1.06)[:, None])
    size = torch.ones_like(radius)
    return Paint(albedo.clamp(0.003, 0.9), 1.0 * size, 0.06 * size, 0.4 * size)


def colour_mouth(is_tooth: Tensor, grain: Tensor, numbers: dict[str, Tensor], of: Tensor) -> Paint:
    """Colours the inside of the mouth: teeth, and wet gums and tongue."""
    teeth = numbers["teeth"][of][:, None] * grain.new_tensor([0.95, 0.85, 0.68])
    gums = grain.new_tensor([0.36, 0.10, 0.09]) * (1 + 0.12 * grain[:, None])
    albedo = torch.where(is_tooth[:, None], teeth, gums)
    size = torch.ones_like(grain)
    return Paint(albedo.clamp(0.003, 0.9), size * 1.2, size * 0.22, 0.7 * size)


def _step(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
