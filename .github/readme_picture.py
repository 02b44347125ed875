"""Draws the picture at the top of the README: photo, crop, normals, and the face relit twice.

Usage: python .github/readme_picture.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline import estimate_normals
from pipeline.normals.encoding import encode_normals

ROOT = Path(__file__).resolve().parents[1]
SIDE = 256
GAP = 8


def draw() -> np.ndarray:
    """Returns the picture, (256, 5 * 256 + 4 * 8, 3) uint8 RGB on white."""
    photo = np.asarray(Image.open(ROOT / "tests/photos/astronaut.jpg").convert("RGB"))
    face = estimate_normals(photo)[0]
    marked = photo.copy()
    left, top, size = face.window.left, face.window.top, face.window.size
    cv2.rectangle(marked, (left, top), (left + size - 1, top + size - 1), (255, 255, 255), 2, cv2.LINE_AA)
    for x, y in face.landmarks:
        cv2.circle(marked, (round(float(x)), round(float(y))), 2, (80, 220, 255), -1, cv2.LINE_AA)
    meant = face.mask[..., None] > 0
    tiles = [
        cv2.resize(marked, (SIDE, SIDE), interpolation=cv2.INTER_AREA),
        face.crop,
        np.where(meant, encode_normals(face.normals), 255),
        np.where(meant, clay(face.normals, (-0.5, 0.4, 0.8)), 255),
        np.where(meant, clay(face.normals, (0.5, 0.4, 0.8)), 255),
    ]
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    strip = [part for tile in tiles for part in (tile.astype(np.uint8), gap)]
    return np.concatenate(strip[:-1], axis=1)


def clay(normals: np.ndarray, light: tuple[float, float, float]) -> np.ndarray:
    """Shades normals (H, W, 3) as grey clay under one lamp; returns (H, W, 3) uint8."""
    towards = np.asarray(light) / np.linalg.norm(light)
    half = towards + np.array([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    diffuse = np.clip(normals @ towards, 0, None)
    shine = np.clip(normals @ half, 0, None) ** 24
    value = 0.06 + 0.75 * diffuse + 0.15 * shine
    return np.repeat((255 * np.clip(value, 0, 1) ** (1 / 2.2))[..., None], 3, axis=-1)


if __name__ == "__main__":
    Image.fromarray(draw()).save(ROOT / ".github/readme.png", optimize=True)
