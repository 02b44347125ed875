"""Photos to measure with: the user's own, or variations of a public-domain portrait."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import InputError

SIDES = (512, 1024)
"""Shortest and longest longer side of the photos made, in pixels."""

FACE = (96, 42, 304, 250)
"""The part of scikit-image's astronaut that stays in every photo made: left, top, right, bottom."""


def write_photos(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Writes JPEG photos of one face each, from 512 to 1024 pixels on the longer side.

    Each is a random part of scikit-image's astronaut (NASA, public domain) that shows the whole face, in
    landscape, portrait or square format, mirrored or not, lighter or darker, with sensor noise; without the
    noise an enlarged photo would be quicker to decode than a real one. The same seed gives the same photos.

    Raises:
        InputError: scikit-image, which holds the portrait, is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise InputError(
            "There is no photo to measure with. Give a folder of photos by --photos, or "
            "`pip install scikit-image`, which holds one."
        ) from error
    portrait = data.astronaut()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for index in range(count):
        image = vary(portrait, FACE, rng)
        path = folder / f"{index:05}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(85, 96))]
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
        paths.append(path)
    return paths


def vary(portrait: np.ndarray, face: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Makes another photo of a portrait: a random part with the face in it, resized and altered.

    Args:
        portrait: (H, W, 3) uint8.
        face: Left, top, right, bottom of the part that must stay.
        rng: Source of all randomness.

    Returns:
        (h, w, 3) uint8, the longer of h and w within `SIDES`.
    """
    height, width = portrait.shape[:2]
    aspect = rng.choice([4 / 3, 1.0, 3 / 4])
    left, top, right, bottom = face
    largest = min(width, height * aspect)
    smallest = min(largest, max(right - left, (bottom - top) * aspect))
    part_width = rng.uniform(smallest, largest)
    part_height = part_width / aspect
    x = rng.uniform(max(0, right - part_width), min(left, width - part_width))
    y = rng.uniform(max(0, bottom - part_height), min(top, height - part_height))
    side = rng.integers(SIDES[0], SIDES[1] + 1)
    scale = side / max(part_width, part_height)
    size = (round(part_width * scale), round(part_height * scale))
    image = cv2.warpAffine(portrait, np.array([[scale, 0, -x * scale], [0, scale, -y * scale]]), size)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    noise = rng.standard_normal(image.shape, np.float32) * 4
    return (image * rng.uniform(0.7, 1.2) + noise).clip(0, 255).astype(np.uint8)


def find_photos(folder: Path) -> list[Path]:
    """Returns the files of a user's folder, by name; all must be photos that can be decoded.

    Raises:
        InputError: The folder holds none.
    """
    photos = sorted(path for path in folder.rglob("*") if path.is_file())
    if not photos:
        raise InputError(f"There is no photo in {folder}.")
    return photos
