"""Makes the photos of `make demo`: good ones, and a few of the kind that every large folder holds.

Usage: python tests/demo_photos.py FOLDER
"""

import shutil
import sys
from pathlib import Path

from PIL import Image

PHOTOS = Path(__file__).parent / "photos"


def make_photos(folder: Path) -> None:
    """Fills a folder with the demo's photos."""
    folder.mkdir(parents=True, exist_ok=True)
    sideways = PHOTOS / "rendered_3.jpg"
    for photo in sorted(set(PHOTOS.glob("*.jpg")) - {sideways}):
        shutil.copy(photo, folder)
    with Image.open(sideways) as photo:
        # Stored on its side, with the note in its EXIF data that it is to be turned.
        exif = Image.Exif()
        exif[0x0112] = 6
        photo.transpose(Image.Transpose.ROTATE_90).save(folder / "held sideways.jpg", exif=exif, quality=92)
    astronaut = PHOTOS / "astronaut.jpg"
    with Image.open(astronaut) as photo:
        photo.crop((300, 20, 500, 300)).save(folder / "space shuttle, nobody there.png")
    (folder / "cut short.jpg").write_bytes(astronaut.read_bytes()[:30_000])
    (folder / "a page instead of a photo.jpg").write_text("<!doctype html><title>404 Not Found</title>")
    (folder / "empty.png").touch()


if __name__ == "__main__":
    make_photos(Path(sys.argv[1]))
