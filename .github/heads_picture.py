"""Draws the README's picture of a head: photo, head over it, its shape, and both turned.

Usage: PYTHONPATH=tests/helpers python .github/heads_picture.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from head_pictures import draw, placed, shading, side_by_side, turn
from PIL import Image

from pipeline import reconstruct_head
from pipeline.details.unwrap import PhotoView
from pipeline.faces.crop import CropWindow
from pipeline.geometry.head_model import FACE_VERTICES
from pipeline.geometry.mesh import BACK_HEAD, EYES, FACE, GUMS, TEETH

ROOT = Path(__file__).resolve().parents[1]
SIDE, GAP, FINER = 256, 8, 3
WINDOW = CropWindow(118, 0, 220)


def main() -> None:
    """Draws the picture."""
    photo = np.asarray(Image.open(ROOT / "tests/photos/astronaut.jpg").convert("RGB"))
    head = reconstruct_head(photo)
    side = SIDE * FINER
    picture = cv2.resize(WINDOW.cut(photo), (side, side), interpolation=cv2.INTER_CUBIC)
    centre = WINDOW.to_crop(head.view.centre, side)
    camera = PhotoView(picture, head.view.focal * side / WINDOW.size, (float(centre[0]), float(centre[1])))
    maps = head.maps
    textures = {FACE: maps.texture, BACK_HEAD: maps.back, **dict(zip(EYES, maps.eyes, strict=True))}
    textures |= {part: np.full((2, 2, 3), rgb, np.uint8) for part, rgb in ((TEETH, 215), (GUMS, 120))}
    vertices_camera = head.to_camera(head.detailed_vertices)
    middle = head.vertices[:FACE_VERTICES].mean(0)
    turned = placed(head.detailed_vertices - middle, turn(-35), 80)
    studio = PhotoView(np.zeros((side, side, 3), np.uint8), 2.9 * side, ((side - 1) / 2, (side - 1) / 2))
    tiles = [picture]
    for view, vertices in ((camera, vertices_camera), (studio, turned)):
        for pictures, lit in ((textures, None), ({}, shading(vertices, head.kit.fine))):
            drawn, part = draw(view, vertices, head.kit.fine, pictures, lit)
            behind = picture if view is camera and lit is None else np.full_like(picture, 255)
            tiles.append(np.where(part[..., None] >= 0, drawn, behind))
    Image.fromarray(side_by_side(tiles, SIDE, GAP)).save(ROOT / ".github/heads.png", optimize=True)


if __name__ == "__main__":
    main()
