"""Backgrounds without photos: walls, gradients, polygons, rooms, bricks, leaves, lights out of focus.

A background is painted once (`paint_background`), reused a few times with other crops, mirrors, blurs and
tints (`Backdrop`). Most are out of focus, as behind a portrait. The light of a sample does not follow its
background: no cue of shape there. Kinds and their shares: `KINDS`.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.synth import brush

SIZE = 192
"""Side of painted backgrounds in pixels."""
_SHAPE = (SIZE, SIZE)


@dataclass(frozen=True)
class Backdrop:
    """How a sample uses its painted background.

    Attributes:
        corner: (2,) x, y of the window in 0..1 - scale.
        scale: Side of the window, 0.4..1.
        mirror: 1 or -1.
        tint: (3,) gain of the linear colours.
    """

    corner: np.ndarray
    scale: float
    mirror: float
    tint: np.ndarray


def draw_backdrop(rng: np.random.Generator) -> Backdrop:
    """Draws the use of a background."""
    scale = float(rng.uniform(0.4, 1.0))
    tint = np.exp(rng.normal(0, 0.35) + rng.normal(0, 0.1, 3))
    corner = rng.uniform(0, 1 - scale, 2)
    mirror = float(rng.choice([-1.0, 1.0]))
    return Backdrop(corner.astype(np.float32), scale, mirror, tint.astype(np.float32))


def paint_background(rng: np.random.Generator, kind: str | None = None) -> np.ndarray:
    """Paints a background, of a kind that is drawn if not given: (SIZE, SIZE, 3) float32 sRGB 0..1."""
    if kind is None:
        shares = np.array([share for share, _ in KINDS.values()])
        kind = str(rng.choice(list(KINDS), p=shares / sum(shares)))
    image = np.clip(KINDS[kind][1](rng), 0, 1).astype(np.float32)
    if kind not in ("bokeh", "studio") and rng.random() < 0.75:
        image = cv2.GaussianBlur(image, (0, 0), float(np.exp(rng.uniform(np.log(1), np.log(7)))))
    image = image + 0.004 * brush.noise(rng, _SHAPE, 1.0)[..., None]
    return np.clip(image, 0, 1).astype(np.float32)


def _colour(rng: np.random.Generator, vivid: float = 0.35) -> np.ndarray:
    """Muted random colour, now and then a vivid one."""
    grey = rng.uniform(0.05, 0.95)
    spread = rng.normal(0, 0.28 if rng.random() < vivid else 0.07, 3)
    return np.clip(grey + spread - spread.mean(), 0.01, 0.99).astype(np.float32)


def _studio(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    centre, width = rng.uniform(0.1, 0.9, 2), rng.uniform(0.3, 1.2)
    glow = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / width**2)[..., None]
    base = _colour(rng)
    slope = rng.normal(0, 0.15) * (x - 0.5) + rng.normal(0, 0.15) * (y - 0.5)
    cloth = rng.uniform(0, 0.05) * brush.noise(rng, _SHAPE, 14)
    return base * (0.7 + rng.uniform(0, 0.5) * glow) + (slope + cloth)[..., None]


def _blobs(rng: np.random.Generator) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), _colour(rng), np.float32)
    for _ in range(int(rng.integers(6, 26))):
        centre, axes = rng.integers(0, SIZE, 2).tolist(), rng.integers(6, 60, 2).tolist()
        colour = _colour(rng).tolist()
        if rng.random() < 0.5:
            cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        else:
            cv2.rectangle(image, centre, [centre[0] + axes[0], centre[1] + axes[1]], colour, -1)
    return cv2.GaussianBlur(image, (0, 0), rng.uniform(3, 14))


def _bokeh(rng: np.random.Generator) -> np.ndarray:
    image = _blobs(rng) * rng.uniform(0.1, 0.6)
    glow = np.zeros_like(image)
    size = rng.uniform(4, 16)
    warm = _colour(rng, 0.8)
    for _ in range(int(rng.integers(8, 60))):
        disc = np.zeros((SIZE, SIZE), np.uint8)
        centre = (rng.uniform(0, SIZE, 2) * 16).astype(int).tolist()
        cv2.circle(disc, centre, int(size * rng.uniform(0.7, 1.2) * 16), 255, -1, cv2.LINE_AA, 4)
        colour = np.clip(warm + rng.normal(0, 0.2, 3), 0.1, 1) * rng.uniform(0.1, 0.8)
        glow += (disc[..., None] / 255) * colour.astype(np.float32)
    return image + cv2.GaussianBlur(glow, (0, 0), 0.8)


def _room(rng: np.random.Generator) -> np.ndarray:
    wall = _colour(rng, 0.15)
    image = np.full((SIZE, SIZE, 3), wall, np.float32)
    corner = int(rng.integers(0, SIZE))
    image[:, corner:] *= rng.uniform(0.75, 1.1)
    for _ in range(int(rng.integers(2, 10))):
        x, y = rng.integers(-30, SIZE, 2).tolist()
        width, height = rng.integers(10, 90, 2).tolist()
        colour = _colour(rng, 0.3)
        cv2.rectangle(image, (x, y), (x + width, y + height), colour.tolist(), -1)
        if rng.random() < 0.5:  # frame or door panel
            cv2.rectangle(image, (x, y), (x + width, y + height), (colour * 0.5).tolist(), 2)
        if rng.random() < 0.3:  # shelf of books
            for left in range(x, x + width, int(rng.integers(4, 9))):
                top = y + int(rng.integers(0, 6))
                cv2.rectangle(image, (left, top), (left + 4, y + height), _colour(rng, 0.6).tolist(), -1)
    if rng.random() < 0.35:  # bright window
        x, y = rng.integers(0, SIZE - 40, 2).tolist()
        cv2.rectangle(image, (x, y), (x + int(rng.integers(20, 80)), y + 70), (0.95, 0.97, 1.0), -1)
    shade = rng.normal(0, 0.25) * np.linspace(-0.5, 0.5, SIZE, dtype=np.float32)[None, :, None]
    return image * (1 + shade)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), _colour(rng, 0.1), np.float32)
    base = _colour(rng, 0.2) if rng.random() < 0.5 else np.array([0.55, 0.28, 0.2], np.float32)
    height, width = int(rng.integers(8, 26)), int(rng.integers(16, 50))
    shift = width // 2 if rng.random() < 0.7 else 0
    for row, top in enumerate(range(0, SIZE, height)):
        for left in range(-width, SIZE, width):
            x = left + (row % 2) * shift
            colour = np.clip(base * rng.uniform(0.75, 1.2) + rng.normal(0, 0.02, 3), 0, 1)
            cv2.rectangle(image, (x, top), (x + width - 3, top + height - 3), colour.tolist(), -1)
    return image * (1 + 0.08 * brush.noise(rng, _SHAPE, 1.0))[..., None]


def _leaves(rng: np.random.Generator) -> np.ndarray:
    base = np.array([rng.uniform(0.1, 0.45), rng.uniform(0.25, 0.55), rng.uniform(0.05, 0.3)], np.float32)
    image = np.full((SIZE, SIZE, 3), base * 0.4, np.float32)
    big = rng.uniform(3, 12)
    for _ in range(int(rng.integers(150, 400))):
        centre = rng.integers(0, SIZE, 2).tolist()
        axes = [max(1, int(big * rng.uniform(0.6, 1.6))), max(1, int(big * rng.uniform(0.2, 0.6)))]
        colour = np.clip(base * rng.uniform(0.4, 1.7) + rng.normal(0, 0.03, 3), 0, 1).tolist()
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    if rng.random() < 0.5:
        sky = brush.smoothstep(0.3, 1.2, brush.noise(rng, _SHAPE, 14))[..., None]
        image = image * (1 - sky) + sky * np.array([0.85, 0.92, 1.0], np.float32)
    return image


def _polygons(rng: np.random.Generator) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), _colour(rng, 0.8), np.float32)
    for _ in range(int(rng.integers(3, 14))):
        points = rng.integers(-40, SIZE + 40, (int(rng.integers(3, 6)), 2)).astype(np.int32)
        cv2.fillPoly(image, [points], _colour(rng, 0.8).tolist(), cv2.LINE_AA)
    return image


def _noise(rng: np.random.Generator) -> np.ndarray:
    sigma = float(rng.choice([1.0, 2.0, 3.5, 9.0]))
    texture = np.stack([brush.noise(rng, _SHAPE, sigma) for _ in range(3)], -1)
    texture = texture.mean(2, keepdims=True) * 0.8 + 0.4 * texture
    return _colour(rng, 0.5) + rng.uniform(0.03, 0.2) * texture


KINDS = {
    "studio": (0.22, _studio),  # plain with a soft gradient
    "blobs": (0.2, _blobs),  # defocused colours
    "bokeh": (0.12, _bokeh),  # discs of light in the dark
    "room": (0.16, _room),  # wall, floor, boxes, windows
    "bricks": (0.08, _bricks),
    "leaves": (0.12, _leaves),
    "polygons": (0.05, _polygons),
    "noise": (0.05, _noise),
}
"""Kind of background -> its share, and what paints it."""


def place_backgrounds(painted: Tensor, which: Tensor, numbers: dict[str, Tensor], size: int) -> Tensor:
    """Windows of painted backgrounds: (B, size, size, 3) sRGB 0..1.

    Args:
        painted: (M, _SHAPE, 3), any float type.
        which: (B,) int64.
        numbers: Stacked `Backdrop` numbers.
        size: Side of the result.
    """
    step = (torch.arange(size, device=painted.device) + 0.5) / size
    scale, corner, mirror = numbers["scale"][:, None], numbers["corner"], numbers["mirror"][:, None]
    x = ((corner[:, 0:1] + step * scale) * 2 - 1) * mirror
    y = (corner[:, 1:2] + step * scale) * 2 - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)
    images = painted[which].permute(0, 3, 1, 2).float()
    images = torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    tint = numbers["tint"][:, :, None, None] ** (1 / 2.2)
    return (images * tint).clamp(0, 1).permute(0, 2, 3, 1)
