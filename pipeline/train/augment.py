"""Random changes of a training sample, on NumPy arrays and fast (a few milliseconds at 256 pixels).

Geometry is one affine warp of image, normals and regions; the normals are rotated and mirrored with the
picture, so that the labels stay exact. Colour and camera faults touch the image alone. The renderer already
varies light and camera: these changes are mild, and give photos without labels and repeated samples variety.
"""

import math

import cv2
import numpy as np

from pipeline.regions import Region
from pipeline.samples.sample import unit_or_zero
from pipeline.train.config import AugmentConfig

_NOISE = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32)


def draw_affine(
    rng: np.random.Generator, config: AugmentConfig, size: int, strength: float = 1.0
) -> np.ndarray:
    """Draws a similarity, perhaps with a mirror: (2, 3) float64, from source to augmented pixel coordinates.

    `strength` multiplies rotation, scale and shift; mirroring is not affected.
    """
    angle = math.radians(config.rotation) * strength * float(np.clip(rng.standard_normal(), -3, 3))
    factor = 1 + config.scale * strength * rng.uniform(-1, 1)
    shift = config.shift * strength * size * rng.uniform(-1, 1, 2)
    mirror = -1.0 if rng.uniform() < config.flip else 1.0
    cosine, sine = math.cos(angle) * factor, math.sin(angle) * factor
    # Counterclockwise as seen; pixel rows point down, hence the signs.
    linear = np.array([[cosine, sine], [-sine, cosine]]) @ np.diag([mirror, 1.0])
    centre = np.full(2, (size - 1) / 2)
    return np.column_stack([linear, centre - linear @ centre + shift])


def warp_image(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warps an image (H, W, 3) uint8; what comes from outside is mirrored at the border."""
    return cv2.warpAffine(
        image, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )


def warp_normals(normals: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warps normals and turns them with the picture.

    Args:
        normals: (H, W, 3) float32 unit vectors, zero where there is no true normal.
        matrix: (2, 3) similarity from source to result pixels, as `draw_affine` gives it.

    Returns:
        (H, W, 3) float32: unit vectors, the average of valid neighbours; zero where valid pixels make up less
        than half of the weight, and outside the source.
    """
    warped = cv2.warpAffine(
        normals, matrix, normals.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    # In the axes of normals y points up: conjugate the linear part by that reflection.
    turn = (matrix[:, :2] / scale * np.array([[1, -1], [-1, 1]])).astype(np.float32)
    warped = cv2.transform(warped, np.block([[turn, np.zeros((2, 1), np.float32)], [np.eye(3)[2:]]]))
    return unit_or_zero(warped)


def warp_regions(regions: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warps region labels (H, W) uint8 by nearest neighbour; outside the source is `Region.IGNORE`."""
    return cv2.warpAffine(
        regions,
        matrix,
        regions.shape[1::-1],
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=int(Region.IGNORE),
    )


def change_light(
    image: np.ndarray, rng: np.random.Generator, config: AugmentConfig, strength: float = 1.0
) -> np.ndarray:
    """Changes colours and adds camera faults: (H, W, 3) uint8 to (H, W, 3) uint8."""
    draws = rng.uniform(size=5)
    if draws[0] < config.colour * strength:
        image = cv2.LUT(image, _tone_curves(rng))
    if draws[1] < config.grey * strength:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if draws[2] < config.blur * strength:
        sigma = rng.uniform(0.3, 1.3) * image.shape[0] / 256
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if draws[3] < config.noise * strength:
        image = _add_noise(image, rng)
    if draws[4] < config.jpeg * strength:
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])[1]
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return image


def _tone_curves(rng: np.random.Generator) -> np.ndarray:
    gamma = math.exp(rng.normal(0, 0.2))
    gain = math.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.05, 3))
    contrast = rng.uniform(0.8, 1.2)
    kind = rng.random()
    if kind < 0.15:  # not gamma-coded, as some cameras for machines are
        gamma *= rng.uniform(1.5, 2.2)
    elif kind < 0.3:
        contrast *= rng.uniform(1.2, 1.8)
    level = (np.linspace(0, 1, 256) ** gamma)[:, None] * gain
    curve = np.clip((level - 0.5) * contrast + 0.5, 0, 1)
    return np.rint(curve * 255).astype(np.uint8)[None]


def _add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Drawing 200,000 normal deviates would cost more than all the rest: reuse a stretch of a fixed pool.
    start = int(rng.integers(0, _NOISE.size - image.size))
    noise = _NOISE[start : start + image.size].reshape(image.shape)
    return cv2.add(image, noise * rng.uniform(1, 9), dtype=cv2.CV_8U)
