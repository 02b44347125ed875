"""The faces of the contact sheet: rows of the records made into small images, paths and numbers."""

import base64
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import DecodeError, ImageError
from pipeline.images.png import decode_png
from pipeline.normals.encoding import SIGNS, Convention, decode_normals
from pipeline.pixels import resize
from pipeline.redact import shown_uri
from pipeline.report.light import fit_light

ReadBytes = Callable[[list[str]], list[bytes | ImageError]]
"""URIs -> content of the files, or why it cannot be had."""

DecodePhoto = Callable[[bytes], np.ndarray]
"""Content of a file -> (H, W, 3) uint8 upright RGB, of `THUMBNAIL_SIZE` or more; raises ImageError."""

PHOTOS_AT_ONCE = 8

THUMBNAIL_SIZE = 480
"""Longer side of the photos' thumbnails in pixels."""

GREY = 128

_OPEN, _CLOSED = False, True
_LINES = [
    (range(0, 17), _OPEN),  # jaw
    (range(17, 22), _OPEN),  # brows
    (range(22, 27), _OPEN),
    (range(27, 31), _OPEN),  # nose
    (range(31, 36), _OPEN),
    (range(36, 42), _CLOSED),  # eyes
    (range(42, 48), _CLOSED),
    (range(48, 60), _CLOSED),  # lips
    (range(60, 68), _CLOSED),
]
"""How the 68 landmarks are joined to be drawn."""


@dataclass(frozen=True)
class ShownPhoto:
    """One photo as the page shows it."""

    uri: str
    name: str
    width: int
    height: int
    thumbnail: str
    """A data URI, or "" where the photo cannot be read any more."""


@dataclass(frozen=True)
class Card:
    """One face as the page shows it; geometry in pixels of the upright photo."""

    photo: ShownPhoto
    index: int
    faces_in_photo: int
    score: float | None
    box: tuple[float, float, float, float]
    """x, y, width, height, as SVG counts: the edge of the first pixel is 0."""
    other_boxes: list[tuple[float, float, float, float]]
    window: tuple[int, int, int]
    """left, top, size."""
    lines: str
    """SVG path through the landmarks."""
    dots: str
    """SVG path of a zero-length stroke at each point that is seen; where there are none, at each landmark."""
    hidden: str
    """The same of points that are not seen."""
    crop: str
    """Data URI of the crop, JPEG."""
    normals: str
    """Data URI of the normals in the run's own convention, lossless WebP, transparent off the mask."""
    signs: str
    """Signs of x, y, z in `normals` relative to x right, y up, z to the viewer, as "1 1 1"."""
    light: str
    """Coefficients of `pipeline.report.light.harmonics`, the shading of the crop."""


def thumbnails_of(
    rows: list[dict[str, Any]], read: ReadBytes, decode: DecodePhoto, pool: Executor
) -> Iterator[str]:
    """Yields a JPEG data URI for each row, "" where the photo is gone, changed or unreadable by now."""

    def thumbnail(row: dict[str, Any], data: bytes | ImageError) -> str:
        if isinstance(data, Exception):
            return ""
        if row.get("sha256") and hashlib.sha256(data).hexdigest() != row["sha256"]:
            return ""
        try:
            photo = decode(data)
        except ImageError:
            return ""
        scale = min(1.0, THUMBNAIL_SIZE / max(photo.shape[:2]))
        height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
        return _data_uri(Image.fromarray(resize(photo, width, height)), "JPEG", quality=82)

    for start in range(0, len(rows), PHOTOS_AT_ONCE):
        some = rows[start : start + PHOTOS_AT_ONCE]
        yield from pool.map(thumbnail, some, read([row["uri"] for row in some]))


def of_one_photo(row: dict[str, Any], position: int) -> tuple[dict[str, Any], int]:
    """Returns the row of the photo that a face is on, and the face's position in it.

    Where a record is of several photos that is what a record of this one alone would say.
    """
    if not row.get("photos"):
        return row, position
    face = row["faces"][position]
    return row["photos"][face["photo"]] | {"subject": row["uri"], "faces": [face]}, 0


def photo_of(row: dict[str, Any], thumbnail: str) -> ShownPhoto:
    """Returns a photo as the page shows it."""
    name = " / ".join(short_name(uri) for uri in (row.get("subject"), row["uri"]) if uri)
    return ShownPhoto(row["uri"], name, row.get("width") or 0, row.get("height") or 0, thumbnail)


def card_of(row: dict[str, Any], position: int, photo: ShownPhoto, convention: Convention) -> Card:
    """Returns one face of a row of the records."""
    face = row["faces"][position]
    landmarks = np.asarray(face["landmarks"], np.float64).reshape(-1, 2) + 0.5
    points, seen = landmarks, np.ones(len(landmarks), bool)
    if face["points"] is not None:
        points = np.reshape(face["points"], (-1, 3))[:, :2] + 0.5
        seen = np.asarray(face["visible"]) > 127
    if face["normal_png"] is None:
        raise DecodeError("The record holds no normals.")
    normals = decode_png(face["normal_png"])
    crop = np.full(normals.shape, GREY, np.uint8)  # where records hold no crops
    if face["crop_png"]:
        crop = _eight_bits(decode_png(face["crop_png"]))
    mask = np.full(normals.shape[:2], 255, np.uint8)
    if face["mask_png"]:
        mask = np.where(decode_png(face["mask_png"]) > 0, 255, 0).astype(np.uint8)
    part = slice(None, None, 2)  # of the pixels every fourth is plenty for nine numbers
    light = fit_light(crop[part, part], decode_normals(normals[part, part], convention), mask[part, part])
    window = face["crop_window"]
    score = face["score"]
    return Card(
        photo=photo,
        index=face["index"],
        faces_in_photo=len(row["faces"]),
        score=None if score is None or math.isnan(score) else score,
        box=_svg_box(face["box"]),
        other_boxes=[_svg_box(other["box"]) for other in row["faces"] if other is not face],
        window=(window["left"], window["top"], window["size"]),
        lines=landmark_lines(landmarks),
        dots=_dots(points[seen]),
        hidden=_dots(points[~seen]),
        crop=_data_uri(Image.fromarray(crop), "JPEG", quality=88, subsampling=0),
        normals=_data_uri(
            Image.fromarray(np.dstack([_eight_bits(normals), mask]), "RGBA"),
            "WEBP",
            lossless=True,
            method=0,  # a fifth of the time of what compresses well, and 1.6 times the bytes
            quality=0,
        ),
        signs=" ".join(str(sign) for sign in SIGNS[convention]),
        light=" ".join(f"{value:.4f}" for value in light),
    )


def landmark_lines(points: np.ndarray) -> str:
    """Returns the SVG path that draws 68 landmarks, (68, 2), as a face."""
    parts = []
    for indices, closed in _LINES:
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points[list(indices)])
        parts.append(f"M{line}{'Z' if closed else ''}")
    return "".join(parts)


def _dots(points: np.ndarray) -> str:
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)


def short_name(uri: str) -> str:
    """Returns the last part of a URI, as `shown_uri` shows it."""
    return shown_uri(uri).rstrip("/").rsplit("/", 1)[-1] or uri


def _svg_box(box: list[float]) -> tuple[float, float, float, float]:
    # A record's box is inclusive at both ends and counts pixel centres; SVG counts pixel edges.
    left, top, right, bottom = box
    return left, top, right - left + 1, bottom - top + 1


def _eight_bits(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
