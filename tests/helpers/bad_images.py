"""Files that a bucket of photos holds sooner or later: broken, odd, hostile and disguised ones."""

import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data


@dataclass(frozen=True)
class Expected:
    """What the record of a file must say."""

    status: str
    error_code: str | None = None
    faces: int = 0


OK = Expected("ok", faces=1)
NO_FACE = Expected("no_face", "no_face")


def failed(code: str) -> Expected:
    return Expected("failed", code)


def make_bad_images(folder: Path, large: bool = False) -> dict[str, Expected]:
    """Writes the files.

    Args:
        folder: An empty folder.
        large: Also a photo of 100 megapixels, which takes seconds.

    Returns:
        File name -> what its record must say.
    """
    files = {**_broken(), **_sizes(), **_disguised(), **_formats(), **_scenes()}
    if large:
        files["100_megapixels.jpg"] = (encode(np.full((10_000, 10_000), 128, np.uint8), "JPEG"), NO_FACE)
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    return {name: expected for name, (_, expected) in files.items()}


def portrait(size: int = 256) -> np.ndarray:
    """A square around the astronaut's face, (size, size, 3) uint8 RGB."""
    return np.asarray(Image.fromarray(data.astronaut()[0:256, 96:352]).resize((size, size)))


def encode(pixels: np.ndarray, name: str, **options) -> bytes:
    """Encodes pixels with Pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return file.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of almost no data that claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, body) for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def flip(content: bytes, position: int) -> bytes:
    """Inverts one byte."""
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


def _broken() -> dict[str, tuple[bytes, Expected]]:
    jpeg, png = encode(portrait(), "JPEG"), encode(portrait(), "PNG")
    return {
        "empty.jpg": (b"", failed("empty_file")),
        "text.jpg": (b"Not a photo at all.\n", failed("unsupported_format")),
        "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", failed("unsupported_format")),
        "lfs_pointer.jpg": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
            failed("unsupported_format"),
        ),
        "random_bytes.jpg": (
            np.random.default_rng(0).integers(0, 256, 4096, np.uint8).tobytes(),
            failed("unsupported_format"),
        ),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], failed("truncated")),
        "truncated.png": (png[: len(png) // 2], failed("truncated")),
        "header_only.jpg": (jpeg[:20], failed("truncated")),
        # The dimensions' segment destroyed, and damage that costs no more than some pixels.
        "flipped_header.jpg": (flip(jpeg, jpeg.index(b"\xff\xc0") + 4), failed("decode_failed")),
        "flipped_end.jpg": (flip(jpeg, len(jpeg) - 200), OK),
        "flipped.png": (flip(png, len(png) // 2), failed("decode_failed")),
    }


def _sizes() -> dict[str, tuple[bytes, Expected]]:
    def black(height, width):
        return encode(np.zeros((height, width, 3), np.uint8), "PNG")

    return {
        "1x1.png": (black(1, 1), failed("too_small")),
        "1x4000.png": (black(4000, 1), failed("too_small")),
        "20x4000.png": (black(20, 4000), NO_FACE),
        "60000x60000.png": (png_claiming(60_000, 60_000), failed("too_many_pixels")),
    }


def _disguised() -> dict[str, tuple[bytes, Expected]]:
    jpeg, png = encode(portrait(), "JPEG"), encode(portrait(), "PNG")
    files = {
        "jpeg_named.png": jpeg,
        "png_named.jpg": png,
        "png_named.dat": png,
        "no_extension": jpeg,
        "two words.jpg": jpeg,
        "Gesicht_äöü_人_🙂.jpg": jpeg,
        "<b onclick='x'>&amp;\"markup\".jpg": jpeg,
        "line\nbreak.jpg": jpeg,
        "100%25#frag?query=[a].jpg": jpeg,
        "a::b.jpg": jpeg,
        "-rf.jpg": jpeg,
        os.fsdecode(b"latin1_\xe9.jpg"): jpeg,  # a name that is not UTF-8
    }
    return {name: (content, OK) for name, content in files.items()}


def _formats() -> dict[str, tuple[bytes, Expected]]:
    face = portrait()
    image = Image.fromarray(face)
    grey = np.asarray(image.convert("L"))
    alpha = np.dstack([face, np.full(face.shape[:2], 255, np.uint8)])

    def of(converted: Image.Image, name: str, **options) -> bytes:
        file = io.BytesIO()
        converted.save(file, name, **options)
        return file.getvalue()

    rotated = Image.Exif()
    rotated[0x0112] = 6
    files = {
        "photo.webp": of(image, "WEBP"),
        "photo.tiff": of(image, "TIFF"),
        "photo.bmp": of(image, "BMP"),
        "photo.gif": of(image, "GIF"),
        "animated.png": of(image, "PNG", save_all=True, append_images=[Image.new("RGB", image.size)]),
        "animated.gif": of(image, "GIF", save_all=True, append_images=[Image.new("RGB", image.size)]),
        "grey.jpg": encode(grey, "JPEG"),
        "grey_16_bit.png": encode(grey.astype(np.uint16) << 8, "PNG"),
        "grey_16_bit.tiff": encode(grey.astype(np.uint16) << 8, "TIFF"),
        "alpha.png": encode(alpha, "PNG"),
        "palette.png": of(image.convert("P"), "PNG"),
        "cmyk.jpg": of(image.convert("CMYK"), "JPEG"),
        "cmyk.tiff": of(image.convert("CMYK"), "TIFF"),
        "progressive.jpg": of(image, "JPEG", progressive=True),
        "rotated_by_exif.jpg": of(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=rotated),
    }
    return {name: (content, OK) for name, content in files.items()}


def _scenes() -> dict[str, tuple[bytes, Expected]]:
    face = portrait(160)
    forty = np.vstack([np.hstack([face] * 8)] * 5)
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    return {
        "black.png": (encode(np.zeros((300, 400, 3), np.uint8), "PNG"), NO_FACE),
        "noise.png": (encode(noise, "PNG"), NO_FACE),
        "no_face.jpg": (encode(data.coffee(), "JPEG"), NO_FACE),
        "forty_faces.jpg": (encode(forty, "JPEG", quality=92), Expected("ok", faces=40)),
        "cut_by_border.jpg": (encode(portrait(512)[130:], "JPEG", quality=92), OK),
    }
