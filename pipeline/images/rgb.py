"""Pixels of a decoded image of any mode to sRGB."""

import numpy as np
from PIL import Image

from pipeline.errors import DecodeError
from pipeline.images.depth import bits_in_use, to_8_bits

STRIP_PIXELS = 1 << 22
"""Images are converted to RGB by strips of about this many pixels, so that no second whole copy is made."""


def to_rgb(image: Image.Image, largest: int | None = None) -> np.ndarray:
    """Returns the pixels of an image as sRGB, (H, W, 3) uint8, over white where they are transparent.

    Args:
        image: Of any mode.
        largest: Largest value of 16 bits that the file says is possible; see `bits_in_use`.

    Raises:
        DecodeError: Code unsupported_format: it has 32 bits per channel.
    """
    image.load()
    profile = image.info.get("icc_profile")
    profile = profile if isinstance(profile, bytes) else b""
    # Bits in use are those of the whole photo, not of a strip.
    bits = bits_in_use(np.asarray(image), largest) if image.mode.startswith("I;16") else 16
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    if rows >= height:
        return np.array(_strip_to_rgb(image, bits, profile))
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _strip_to_rgb(image.crop((0, top, width, bottom)), bits, profile)
    return pixels


def _strip_to_rgb(strip: Image.Image, bits: int, profile: bytes) -> np.ndarray:
    if not profile:
        return _plain_rgb(strip, bits)
    from pipeline.images.colour import to_srgb  # here: most photos have no need of it

    if strip.mode == "CMYK":
        convert = to_srgb(profile, "CMYK")
        return np.asarray(convert(strip)) if convert else _plain_rgb(strip, bits)
    pixels = _plain_rgb(strip, bits)
    if convert := to_srgb(profile, "RGB"):
        return np.asarray(convert(Image.fromarray(np.ascontiguousarray(pixels))))
    grey = strip.mode in ("1", "L", "LA") or strip.mode.startswith("I;16")
    if grey and (convert := to_srgb(profile, "L")):
        return np.asarray(convert(Image.fromarray(np.ascontiguousarray(pixels[..., 0]))))
    return pixels


def _plain_rgb(strip: Image.Image, bits: int) -> np.ndarray:
    if strip.mode.startswith("I;16"):
        return np.repeat(to_8_bits(np.asarray(strip), bits)[..., None], 3, axis=2)
    if strip.mode in ("I", "F"):
        raise DecodeError("Images of 32 bits per channel are not read.", "unsupported_format")
    if strip.has_transparency_data:
        return _over_white(np.asarray(strip.convert("RGBA")))
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def _over_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return rgba[..., :3]
    covered = rgba[..., :3].astype(np.uint16) * alpha
    return ((covered + 255 * (255 - alpha.astype(np.uint16)) + 127) // 255).astype(np.uint8)
