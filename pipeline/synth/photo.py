"""Faults of cameras, screens and files, put on a finished picture.

Portraits (30 % of the samples) get only slight ones: gain, gamma, a trace of noise, JPEG above quality 75.
The others draw each of these by itself:

| fault | share | range |
|---|---|---|
| gain, gamma, contrast | all | stops N(0, 0.2); exponent 0.7..1.4; 0.75..1.25 about the middle |
| colour cast, saturation | 60 % | channel gains exp N(0, 0.08); 0.5..1.4 |
| greyscale | 12 % | with a sepia tint in a quarter of them |
| vignetting | 20 % | up to 50 % at the corners |
| low resolution | 30 % | down to 1/1.3 .. 1/5 and up again |
| blur | 25 % | Gaussian of 0.4 .. 2 pixels, or motion of 3 .. 9 pixels |
| sharpening | 20 % | unsharp mask, 0.3 .. 1.8 |
| noise | 50 % | 1 .. 12 levels, some in blobs, more in colour |
| JPEG | 70 % | quality 18 .. 95 |
| black border | 5 % | one or two sides, up to 15 % |
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Faults:
    """Camera faults of one sample; neutral values switch each off."""

    gain: float = 1.0
    gamma: float = 1.0
    contrast: float = 1.0
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    grey: bool = False
    sepia: float = 0.0
    vignette: float = 0.0
    shrink: float = 1.0
    blur: float = 0.0
    motion: tuple[float, float] = (0.0, 0.0)
    sharpen: float = 0.0
    noise: float = 0.0
    noise_size: float = 0.0
    jpeg: int = 0
    border: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def draw_faults(rng: np.random.Generator, portrait: bool = False) -> Faults:
    """Draws the faults of one sample."""
    if portrait:
        return Faults(
            gain=float(2 ** rng.normal(0, 0.1)),
            gamma=float(rng.uniform(0.9, 1.1)),
            noise=float(rng.uniform(0, 2)),
            jpeg=int(rng.integers(75, 97)),
        )

    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    coloured = chance(0.6)
    cast = np.exp(rng.normal(0, 0.08, 3)) if coloured else np.ones(3)
    grey = chance(0.12)
    blurred, moved = chance(0.2), chance(0.05)
    angle, length = rng.uniform(0, np.pi), rng.uniform(3, 9)
    border = np.zeros(4)
    if chance(0.05):
        border[rng.integers(0, 4, 2)] = rng.uniform(0.02, 0.15)
    noisy = chance(0.5)
    return Faults(
        gain=float(2 ** rng.normal(0, 0.2)),
        gamma=float(np.exp(rng.uniform(np.log(0.7), np.log(1.4)))),
        contrast=float(rng.uniform(0.75, 1.25)),
        cast=(float(cast[0]), float(cast[1]), float(cast[2])),
        saturation=float(rng.uniform(0.5, 1.4)) if coloured else 1.0,
        grey=grey,
        sepia=float(rng.uniform(0.1, 0.5)) if grey and chance(0.25) else 0.0,
        vignette=float(rng.uniform(0.1, 0.5)) if chance(0.2) else 0.0,
        shrink=float(np.exp(rng.uniform(np.log(1.3), np.log(5)))) if chance(0.3) else 1.0,
        blur=float(rng.uniform(0.4, 2.0)) if blurred else 0.0,
        motion=(float(np.cos(angle) * length), float(np.sin(angle) * length)) if moved else (0.0, 0.0),
        sharpen=float(rng.uniform(0.3, 1.8)) if chance(0.2) else 0.0,
        noise=float(np.exp(rng.uniform(0, np.log(12)))) if noisy else 0.0,
        noise_size=float(rng.uniform(0.5, 1.2)) if noisy and chance(0.4) else 0.0,
        jpeg=int(rng.integers(18, 96)) if chance(0.7) else 0,
        border=(float(border[0]), float(border[1]), float(border[2]), float(border[3])),
    )


def apply_faults(image: np.ndarray, faults: Faults, rng: np.random.Generator) -> np.ndarray:
    """Puts faults on a picture.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = image.shape[:2]
    if faults.motion != (0.0, 0.0):
        image = cv2.filter2D(image, -1, _motion_kernel(*faults.motion), borderType=cv2.BORDER_REPLICATE)
    if faults.blur:
        image = cv2.GaussianBlur(image, (0, 0), faults.blur)
    image = _grade(np.asarray(image, np.float32), faults)
    if faults.shrink > 1:
        small = (max(8, round(width / faults.shrink)), max(8, round(height / faults.shrink)))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if faults.noise:
        grain = rng.standard_normal(image.shape, dtype=np.float32)
        grain = 0.6 * grain + 0.8 * grain[..., :1]
        if faults.noise_size:
            grain = cv2.GaussianBlur(grain, (0, 0), faults.noise_size) * (2.5 * faults.noise_size + 0.4)
        # Shot noise: darker parts of a gamma-coded picture are noisier.
        image = image + grain * (faults.noise / 255) * (1.25 - 0.5 * image)
    if faults.grey:
        image = np.repeat(image @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, 2)
        image = image * (1 + faults.sepia * np.array([0.25, 0.0, -0.4], np.float32))
    if faults.shrink > 1:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    if faults.sharpen:
        image = image + faults.sharpen * (image - cv2.GaussianBlur(image, (0, 0), 1.2))
    top, bottom, left, right = (
        round(share * side) for share, side in zip(faults.border, (height, height, width, width), strict=True)
    )
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    for band in (pixels[:top], pixels[height - bottom :], pixels[:, :left], pixels[:, width - right :]):
        band[...] = 0
    if faults.jpeg:
        done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, faults.jpeg])
        if not done:
            raise RuntimeError("JPEG encoding failed")
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    return np.ascontiguousarray(pixels)


def _grade(image: np.ndarray, faults: Faults) -> np.ndarray:
    """Tones and colours."""
    image = image * (faults.gain * np.array(faults.cast, np.float32))
    if faults.vignette:
        height, width = image.shape[:2]
        y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
        image = image * (1 - faults.vignette * (x[None] ** 2 + y[:, None] ** 2) / 2)[..., None]
    if faults.saturation != 1:
        grey = image @ np.array([[0.299], [0.587], [0.114]], np.float32)
        image = grey + faults.saturation * (image - grey)
    if faults.gamma != 1:
        image = np.clip(image, 0, 1) ** faults.gamma
    return (image - 0.45) * faults.contrast + 0.45


def _motion_kernel(x: float, y: float) -> np.ndarray:
    """Line from -(x, y) / 2 to (x, y) / 2 as a filter of sum 1."""
    kernel = np.zeros((13, 13), np.float32)
    ends = [(round(16 * (6 + sign * x / 2)), round(16 * (6 + sign * y / 2))) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    kernel[6, 6] = max(kernel[6, 6], 1.0)
    return kernel / kernel.sum()
