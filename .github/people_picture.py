"""Draws the README's picture of a person: three photos, and the head that fits all of them over each.

Usage: PYTHONPATH=tests/helpers python .github/people_picture.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from head_pictures import draw, shading, side_by_side
from PIL import Image

from pipeline.details.config import DetailsConfig
from pipeline.details.kit import head_kit
from pipeline.details.person import PersonConfig, reconstruct_person
from pipeline.details.reconstruct import look_at
from pipeline.details.unwrap import PhotoView
from pipeline.faces.detect import DetectConfig, FaceFinder

ROOT = Path(__file__).resolve().parents[1]
SIDE, GAP, FINER = 180, 8, 4


def main() -> None:
    """Draws the picture."""
    files = sorted((ROOT / "tests/photos/person").iterdir())
    photos = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    kit, config, finder = head_kit(level=2), DetailsConfig(), FaceFinder(DetectConfig(faces="largest"))
    faces = [[look_at(photo, finder(photo)[0], kit, config)] for photo in photos]
    person = reconstruct_person(faces, kit, config, PersonConfig())
    side = SIDE * FINER
    tiles = []
    for k, head in person.heads.items():
        picture = cv2.resize(photos[k], (side, side), interpolation=cv2.INTER_CUBIC)
        x, y = ((head.view.centre + 0.5) * side / head.width - 0.5).tolist()
        camera = PhotoView(picture, head.view.focal * side / head.width, (x, y))
        vertices_camera = head.to_camera(head.detailed_vertices)
        drawn, part = draw(camera, vertices_camera, kit.fine, {}, shading(vertices_camera, kit.fine))
        tiles += [picture, np.where(part[..., None] >= 0, drawn, picture)]
    Image.fromarray(side_by_side(tiles, SIDE, GAP)).save(ROOT / ".github/people.png", optimize=True)


if __name__ == "__main__":
    main()
