"""Bytes of an image file to upright RGB, whatever the file holds: the input is not to be trusted.

Every failure is an `ImageError` with a stable code:

    empty_file          no bytes
    unsupported_format  not JPEG, PNG, WebP, TIFF, BMP, GIF, PNM, AVIF or HEIC, or a kind of them without 8 or
                        16 bit colour; or HEIC without the package pillow-heif
    too_many_pixels     more than the limit by its header, found before anything is decoded
    too_small           a side shorter than the limit
    truncated           the file ends before the image does
    decode_failed       the content is damaged
    out_of_memory       there is not enough for it
"""

import ctypes
import importlib
import io
import logging
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin
from pydantic import Field

from pipeline.config import Section
from pipeline.errors import DecodeError, ImageError, SizeError
from pipeline.images.depth import (
    bits_in_use,
    colour_by_bits,
    is_colour_of_16_bits,
    said_largest,
    to_8_bits,
)
from pipeline.images.rgb import to_rgb
from pipeline.images.sniff import describe_content, is_complete, sniff_format
from pipeline.images.tiff import find_photo

MAX_JPEG_SCANS = 500
"""A JPEG, progressive or not, may go over the whole image again in every one of its scans: a small file of
thousands of scans would take minutes. Encoders write about ten."""

MAX_FOCAL_LENGTH = 1e5
"""In millimetres; no lens comes near."""

OPENERS = {
    "jpeg": "PIL.JpegImagePlugin:JpegImageFile",
    "png": "PIL.PngImagePlugin:PngImageFile",
    "webp": "PIL.WebPImagePlugin:WebPImageFile",
    "tiff": "PIL.TiffImagePlugin:TiffImageFile",
    "gif": "PIL.GifImagePlugin:GifImageFile",
    "bmp": "PIL.BmpImagePlugin:BmpImageFile",
    "avif": "PIL.AvifImagePlugin:AvifImageFile",
    "heic": "pillow_heif.as_plugin:HeifImageFile",
}
"""Format -> module and class; loaded when the first such photo comes."""

# EXIF orientation -> what turns the stored pixels upright.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}

# Pillow reports some damaged TIFF files through logging; without a handler that would reach stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def _silence_libtiff() -> None:
    # libtiff writes on stderr what is wrong with a file; Pillow raises an error for it all the same.
    library = ctypes.CDLL(Image.core.__file__)  # looks into the libraries that Pillow is linked with, too
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        if set_handler := getattr(library, name, None):
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


_silence_libtiff()


class DecodeConfig(Section):
    """Limits of the images that are decoded.

    Attributes:
        max_pixels: Width times height above which a photo is refused by its header. Decoding takes up to
            about 8 bytes per pixel for a moment: 0.8 GB at the default of 100 megapixels. TIFF, GIF and
            WebP files have another limit of 179 megapixels within Pillow.
        min_side: Shorter side in pixels below which a photo is refused: it cannot show a face.
    """

    max_pixels: int = Field(default=100_000_000, ge=1, le=2_000_000_000)
    min_side: int = Field(default=16, ge=1)


@dataclass(frozen=True)
class DecodedPhoto:
    """An image file, decoded.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright, contiguous, its own memory.
        focal_mm: Focal length in millimetres by EXIF; None: not told.
        focal_35mm: That of the same view on 35 mm film by EXIF; None: not told.
    """

    pixels: np.ndarray
    focal_mm: float | None
    focal_35mm: float | None


def decode_image(data: bytes, config: DecodeConfig, side: int = 0) -> np.ndarray:
    """Returns the pixels of an image file; see `decode_photo`."""
    return decode_photo(data, config, side).pixels


def decode_photo(data: bytes, config: DecodeConfig, side: int = 0) -> DecodedPhoto:
    """Decodes an image file.

    The type is told by the content. Of animations the first frame is taken, of a TIFF file the first page
    that is no preview, and of 16 bits per channel the upper 8 of those in use. A colour profile is applied
    where it is not that of sRGB, transparent parts are laid over white, and the EXIF orientation is applied.
    With `side`, a large JPEG may be decoded at a fraction of its size that has so many pixels on every side.

    Raises:
        DecodeError: Codes empty_file, unsupported_format, truncated, decode_failed, out_of_memory.
        SizeError: Codes too_many_pixels, too_small.
    """
    if not data:
        raise DecodeError("The file is empty.", "empty_file")
    name = sniff_format(data)
    if name is None:
        raise DecodeError(f"Not an image that can be read: {describe_content(data)}.", "unsupported_format")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata, mostly
            if name == "pnm":
                return DecodedPhoto(_decode_pnm(data, config), None, None)
            with _opener(name)(io.BytesIO(data)) as image:
                page = find_photo(image, data) if isinstance(image, TiffImagePlugin.TiffImageFile) else 0
                _check_size(image.size, config)
                if name == "jpeg":
                    _check_scans(data)
                # Before loading, which forgets how the pixels are stored.
                deep, largest = page == 0 and is_colour_of_16_bits(image), said_largest(image)
                quick = _decode_jpeg(data, image, side) if name == "jpeg" else None
                pixels = to_rgb(image, largest) if quick is None else quick
                if deep:
                    pixels = colour_by_bits(data, pixels, largest)
                orientation, focal_mm, focal_35mm = _exif(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise SizeError(f"{name.upper()} image refused: {error}", "too_many_pixels") from error
    except MemoryError as error:
        message = f"The {name.upper()} image does not fit into memory."
        raise DecodeError(message, "out_of_memory") from error
    except Exception as error:
        # Damaged files make the decoders raise nearly everything: OSError, SyntaxError, ValueError,
        # struct.error, KeyError, OverflowError, ...
        if not is_complete(data, name) or "runcated" in str(error) or isinstance(error, EOFError):
            message = f"The {name.upper()} file ends early, after {len(data):,} bytes."
            raise DecodeError(message, "truncated") from error
        raise DecodeError(f"The {name.upper()} file is damaged: {str(error) or repr(error)}.") from error
    if orientation in UPRIGHT:
        pixels = np.ascontiguousarray(UPRIGHT[orientation](pixels))
    return DecodedPhoto(pixels, focal_mm, focal_35mm)


def _opener(name: str) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    # The class, not Image.open: that one tries other formats and has a pixel limit of its own, one for the
    # whole process.
    module, _, cls = OPENERS[name].partition(":")
    try:
        return getattr(importlib.import_module(module), cls)
    except ImportError as error:
        package = "pillow-heif" if name == "heic" else "pillow"
        raise DecodeError(
            f"An {name.upper()} image; it is read with a package that is missing: pip install -U {package}.",
            "unsupported_format",
        ) from error


def image_size(data: bytes) -> tuple[int, int]:
    """Returns width and height as the head of an image file says them, not turned upright.

    Raises:
        DecodeError: It is no image that is read, or its head is damaged.
    """
    name = sniff_format(data)
    try:
        if name == "pnm":
            from pipeline.images.pnm import read_header

            header = read_header(data)
            return header.width, header.height
        if name is not None:
            with _opener(name)(io.BytesIO(data)) as image:
                return image.size
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise DecodeError(f"The head of the image is damaged: {error}.") from error
    raise DecodeError(f"Not an image that can be read: {describe_content(data)}.", "unsupported_format")


def _decode_jpeg(data: bytes, image: ImageFile.ImageFile, side: int = 0) -> np.ndarray | None:
    """Returns the pixels that Pillow would, in half its time; None where only Pillow knows what to do."""
    profile = image.info.get("icc_profile")
    if image.mode != "RGB" and (image.mode != "L" or profile):
        return None
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side)
    except ValueError:  # damaged, or not quite as it should be
        return None
    if not profile:
        return pixels
    decoded = Image.fromarray(pixels)
    decoded.info["icc_profile"] = profile
    return to_rgb(decoded)


def _decode_pnm(data: bytes, config: DecodeConfig) -> np.ndarray:
    from pipeline.images.pnm import pnm_pixels, read_header

    header = read_header(data)
    _check_size((header.width, header.height), config)
    values = pnm_pixels(data, header)
    if header.largest == 65535:
        values = to_8_bits(values, bits_in_use(values))
    elif header.largest != 255:
        table = (np.arange(header.largest + 1) * 255.0 / header.largest + 0.5).astype(np.uint8)
        values = table[values]
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)


def _check_size(size: tuple[int, int], config: DecodeConfig) -> None:
    width, height = size
    if width * height > config.max_pixels:
        raise SizeError(
            f"{width} x {height} = {width * height / 1e6:,.1f} megapixels are more than the limit of "
            f"{config.max_pixels / 1e6:,.1f} (decode.max_pixels)."
        )
    if min(width, height) < config.min_side:
        raise SizeError(
            f"{width} x {height} pixels: a side is shorter than {config.min_side} (decode.min_side).",
            "too_small",
        )


def _check_scans(data: bytes) -> None:
    # Counting bytes is quick, and nearly always enough: compressed pixels hold no such pair.
    if data.count(b"\xff\xda") > MAX_JPEG_SCANS and _count_scans(data) > MAX_JPEG_SCANS:
        raise DecodeError(f"The JPEG file has more than {MAX_JPEG_SCANS} scans.")


_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed byte, a restart marker nor filling


def _count_scans(data: bytes) -> int:
    scans, position = 0, 2
    while (found := _MARKER.search(data, position)) is not None:
        marker = data[found.end() - 1]
        if marker == 0xD9:  # the end: what follows are other images or a camera's own data
            break
        scans += marker == 0xDA
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
    return scans


def _exif(image: Image.Image) -> tuple[int, float | None, float | None]:
    """Returns orientation, focal length and 35 mm equivalent."""
    try:
        exif = image.getexif()  # TIFF: turned by Pillow at load, which removes the orientation
        details = exif.get_ifd(ExifTags.IFD.Exif)
        orientation = int(exif.get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata is no reason to lose a photo
        return 1, None, None
    lengths = (ExifTags.Base.FocalLength, ExifTags.Base.FocalLengthIn35mmFilm)
    focal_mm, focal_35mm = (_length(details.get(tag)) for tag in lengths)
    return orientation, focal_mm, focal_35mm


def _length(value: Any) -> float | None:
    try:
        length = float(value)
    except (TypeError, ValueError, ArithmeticError):  # nothing, or 0/0
        return None
    return length if 0 < length < MAX_FOCAL_LENGTH else None  # 0 and infinity stand for unknown
