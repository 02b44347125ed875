"""16 bits per channel to 8, by the bits that are in use: cameras and scanners put 10, 12 or 14 into 16."""

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

STRIP = 1 << 22
"""Values looked at together, so that no copies of a whole photo are made."""

DARK = 64
"""What 14 bits in 16 do not reach when the upper 8 are taken."""

LEAST = 512
"""Largest value, of 16 bits, up to which a photo is black, whatever its noise."""


def bits_in_use(values: np.ndarray, largest: int | None = None) -> int:
    """Returns how many of 16 bits a photo uses: 10, 12, 14 or 16.

    Values whose lowest bit is never set, or that are multiples of 257, were made of fewer bits by filling up
    16: a dark photo then, not one of fewer bits.

    Args:
        values: Any shape, uint16.
        largest: Largest value that the file says is possible; None: it says nothing.
    """
    flat = values.reshape(-1)
    most = int(flat.max(initial=0))
    if largest is None or largest < most:
        if most < LEAST or most >= 1 << 14:
            return 16
        strips = [flat[start : start + STRIP] for start in range(0, flat.size, STRIP)]
        filled = not any((strip & 1).any() for strip in strips)
        if filled or not any((strip % 257).any() for strip in strips):
            return 16
        largest = most
    return next(bits for bits in (10, 12, 14, 16) if largest < 1 << bits)


def to_8_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Returns the upper 8 of so many bits, uint8."""
    return (values >> (bits - 8)).astype(np.uint8)


def said_largest(image: Image.Image) -> int | None:
    """Returns the largest value that an image of 16 bits per channel says is possible, None: nothing said."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    said = image.tag_v2.get(281)  # MaxSampleValue
    said = said[0] if isinstance(said, tuple) and said else said
    if bits < 16:
        return (1 << bits) - 1
    return said if isinstance(said, int) and LEAST <= said < 1 << 16 else None


def is_colour_of_16_bits(image: Image.Image) -> bool:
    """Whether Pillow takes the upper 8 of 16 bits of an image's colours as it loads it."""
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def colour_by_bits(data: bytes, pixels: np.ndarray, largest: int | None) -> np.ndarray:
    """Returns the pixels of an image of 16 bits per colour anew where they use fewer."""
    if pixels.max(initial=0) >= DARK and largest is None:
        return pixels
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    values = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if (
        values is None
        or values.dtype != np.uint16
        or values.ndim != 3
        or values.shape[:2] != pixels.shape[:2]
    ):
        return pixels
    colours = values[..., 2::-1]
    bits = bits_in_use(colours, largest)
    return pixels if bits == 16 else to_8_bits(colours, bits)
