"""Photos to measure with: the user's own, or variations of a public-domain portrait."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import InputError

KINDS = ("portraits", "phone", "groups")
"""Kinds of photos that are made: of 512 to 1024 pixels with one face, of 12 megapixels with one, and of 2.9
megapixels with six."""

SIDES = {"portraits": (512, 1024), "phone": (4032, 4032), "groups": (480, 700)}
"""Shortest and longest longer side of a portrait, in pixels; of groups: of each of the six."""

GRID = (2, 3)
"""Rows and columns of the portraits of a group."""

PORTRAIT = Path(__file__).parents[2] / "tests" / "photos" / "astronaut.jpg"

FACE = (96, 42, 304, 250)
"""The part of it that stays in every photo made: left, top, right, bottom."""


def write_photos(folder: Path, count: int, kind: str = "portraits", seed: int = 0) -> list[Path]:
    """Writes JPEG photos of one of `KINDS`.

    Each portrait is a random part of a public-domain photo that shows the whole face, in landscape, portrait
    or square format, mirrored or not, lighter or darker, with sensor noise; without the noise an enlarged
    photo would be quicker to decode than a real one. The same seed gives the same photos.

    Raises:
        InputError: There is no photo to make them of.
    """
    portrait = _read_portrait()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for index in range(count):
        image = make_group(portrait, rng) if kind == "groups" else vary(portrait, FACE, rng, SIDES[kind])
        path = folder / f"{index:05}.jpg"
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(85, 96))]
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
        paths.append(path)
    return paths


def _read_portrait() -> np.ndarray:
    """Returns (512, 512, 3) uint8: NASA's portrait of Eileen Collins, of this repository or scikit-image."""
    if PORTRAIT.exists():
        return np.asarray(cv2.imread(str(PORTRAIT), cv2.IMREAD_COLOR_RGB))
    try:
        from skimage import data
    except ImportError as error:
        raise InputError(
            "There is no photo to measure with. Give a folder of photos by --photos, or "
            "`pip install scikit-image`, which holds one."
        ) from error
    return data.astronaut()


def make_group(portrait: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns (1400, 2100, 3) uint8: variations of a portrait on a grey wall, side by side."""
    cell = SIDES["groups"][1]
    rows, columns = GRID
    wall = (128 + 4 * rng.standard_normal((rows * cell, columns * cell, 3), np.float32)).astype(np.uint8)
    for place in range(rows * columns):
        image = vary(portrait, FACE, rng, SIDES["groups"])
        top, left = place // columns * cell, place % columns * cell
        wall[top : top + image.shape[0], left : left + image.shape[1]] = image
    return wall


def vary(
    portrait: np.ndarray, face: Sequence[int], rng: np.random.Generator, sides: tuple[int, int]
) -> np.ndarray:
    """Makes another photo of a portrait: a random part with the face in it, resized and altered.

    Args:
        portrait: (H, W, 3) uint8.
        face: Left, top, right, bottom of the part that must stay.
        rng: Source of all randomness.
        sides: Shortest and longest longer side, in pixels.

    Returns:
        (h, w, 3) uint8.
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
    side = rng.integers(sides[0], sides[1] + 1)
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
