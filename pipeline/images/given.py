"""Photos as programs have them: an array, a Pillow image, a path or the bytes of a file."""

import os

import numpy as np
from PIL import Image, ImageOps

from pipeline.images.decode import DecodeConfig, decode_image
from pipeline.images.rgb import to_rgb

AnyPhoto = np.ndarray | Image.Image | str | os.PathLike[str] | bytes
"""(H, W, 3) uint8 RGB, upright; a Pillow image; a path or a URL; the bytes of a file."""


def as_pixels(photo: AnyPhoto) -> np.ndarray:
    """Returns the pixels of a photo, (H, W, 3) uint8 RGB, upright.

    Raises:
        ImageError: The file cannot be read or decoded.
        ValueError: It is something else, or an array of another shape or type.
    """
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
            raise ValueError(f"an image must be (H, W, 3) uint8 RGB, got {photo.shape} {photo.dtype}")
        return photo
    if isinstance(photo, Image.Image):
        return to_rgb(ImageOps.exif_transpose(photo))
    if isinstance(photo, str | os.PathLike):
        from pipeline.images.read import ReadConfig, read_bytes  # takes a moment, and arrays need none of it

        photo = read_bytes(os.fspath(photo), ReadConfig())
    if isinstance(photo, bytes | bytearray | memoryview):
        return decode_image(bytes(photo), DecodeConfig())
    raise ValueError(
        f"an image must be an array, a Pillow image, a path or bytes of a file, got {type(photo).__name__}"
    )
