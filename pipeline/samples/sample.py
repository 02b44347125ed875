"""One training or evaluation sample: from the bytes of a row to arrays of one size."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from pipeline.errors import DataError, DecodeError
from pipeline.geometry.crop_camera import crop_camera
from pipeline.images.decode import image_size
from pipeline.pixels import resize, scale_points
from pipeline.regions import Region

MAX_PIXELS = 4096 * 4096
"""Larger pictures are refused before they are decoded."""

MASK = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
"""How OpenCV decodes masks."""

_LENGTHS = (0.8, 1.2)
# A pixel whose stored vector is not about unit length was never meant as a normal: (0, 0, 0) and grey.


@dataclass(frozen=True)
class Sample:
    """A decoded row; what the row lacks is None.

    Attributes:
        id: Name of the row.
        image: (S, S, 3) uint8 RGB.
        normals: (S, S, 3) int8 in steps of 1/127, zero where there is no true normal; in the space of the
            crop camera where the row says what the photo's camera was.
        regions: (S, S) uint8 `Region`; if the row has none, SKIN where the normal counts, IGNORE elsewhere.
        has_regions: Whether the row came with regions, so that its background is known to be background.
        landmarks: (68, 2) float32 pixels of the sample.
        meta: What the row says about itself.
    """

    id: str
    image: np.ndarray | None = None
    normals: np.ndarray | None = None
    regions: np.ndarray | None = None
    has_regions: bool = False
    landmarks: np.ndarray | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def decode_row(row: Mapping[str, Any], size: int | None) -> Sample:
    """Decodes one row of `pipeline.samples.schema.SCHEMA`.

    Missing columns count as null; without a size the stored one is kept.

    Raises:
        DataError: Neither image nor normal can be decoded to a square crop, or the labels do not fit.
    """
    image = decode_picture(row.get("image"), "image", cv2.IMREAD_COLOR_RGB)
    normals, valid = None, None
    encoded = decode_picture(row.get("normal"), "normal", cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
    if encoded is not None:
        normals, valid = decode_normal_map(encoded)
    mask = decode_picture(row.get("mask"), "mask", MASK)
    regions = decode_picture(row.get("regions"), "regions", cv2.IMREAD_GRAYSCALE)
    pictures = [picture for picture in (image, normals, mask, regions) if picture is not None]
    if image is None and normals is None:
        raise DataError("the row has neither an image nor a normal map")
    if len({picture.shape[:2] for picture in pictures}) > 1:
        raise DataError("image and labels differ in size")
    height, width = pictures[0].shape[:2]
    if height != width:
        raise DataError(f"the crop is not square: {width}x{height}")
    meta = _parse_meta(row.get("meta"))
    if normals is not None and valid is not None:
        if mask is not None:
            valid &= counts_in(mask)
        normals = turn_to_crop(normals * valid[..., None], meta)
        if not valid.any():
            raise DataError("the normal map has no valid pixel")
    size = size or height
    image, normals, regions = _at_size(image, normals, regions, size)
    has_regions = regions is not None
    if normals is not None:
        normals = np.rint(normals * 127).astype(np.int8)
        if regions is None:
            regions = np.where(normals.any(-1), Region.SKIN, Region.IGNORE).astype(np.uint8)
    landmarks = _scaled_landmarks(row.get("landmarks"), size / height)
    return Sample(str(row.get("id")), image, normals, regions, has_regions, landmarks, meta)


def turn_to_crop(normals: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    """Turns the normals (S, S, 3) of a crop from its photo's camera space to that of the crop camera.

    See `pipeline.geometry.crop_camera`. Without `focal` and `centre` in `meta` they stay as they are.

    Raises:
        DataError: These are no camera.
    """
    if "focal" not in meta or "centre" not in meta:
        return normals
    try:
        focal, (x, y) = float(meta["focal"]), map(float, meta["centre"])
    except (TypeError, ValueError) as error:
        raise DataError(f"focal and centre of meta are no camera: {error}") from error
    if not (focal > 0 and np.isfinite([focal, x, y]).all()):
        raise DataError(f"focal and centre of meta are no camera: {focal}, {x}, {y}")
    return normals @ crop_camera(focal, (x, y), len(normals)).T.astype(np.float32)


def decode_normal_map(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a stored normal map, (H, W, 3) uint8 or uint16.

    Returns:
        Unit normals (H, W, 3) float32 and which pixels held one, (H, W) bool.
    """
    half = 127.5 if pixels.dtype == np.uint8 else 32767.5
    normals = pixels.astype(np.float32) / np.float32(half) - 1
    length = np.sqrt(np.einsum("hwc,hwc->hw", normals, normals))
    valid = (length > _LENGTHS[0]) & (length < _LENGTHS[1])
    return normals / np.maximum(length, 1e-6)[..., None], valid


def resize_normals(normals: np.ndarray, size: int) -> np.ndarray:
    """Resizes normals (H, W, 3) float32, zero where invalid: valid pixels are averaged and renormalised.

    A result pixel is valid where at least half of the pixels it covers are.
    """
    return unit_or_zero(resize(normals, size, size))


def unit_or_zero(normals: np.ndarray, shortest: float = 0.5) -> np.ndarray:
    """Scales vectors (H, W, 3) float32 to length 1; those shorter than `shortest` become zero."""
    length = np.sqrt(np.einsum("hwc,hwc->hw", normals, normals))
    factor = np.where(length >= shortest, 1 / np.maximum(length, 1e-6), 0).astype(np.float32)
    return normals * factor[..., None]


def _at_size(
    image: np.ndarray | None, normals: np.ndarray | None, regions: np.ndarray | None, size: int
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    stored = image if image is not None else normals
    assert stored is not None
    if stored.shape[0] == size:
        return image, normals, regions
    if regions is not None:
        regions = cv2.resize(regions, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    return (
        resize(image, size, size) if image is not None else None,
        resize_normals(normals, size) if normals is not None else None,
        regions,
    )


def _scaled_landmarks(values: Any, scale: float) -> np.ndarray | None:
    if values is None:
        return None
    landmarks = np.asarray(values, np.float32)
    if landmarks.shape != (136,):
        raise DataError(f"landmarks must hold 136 numbers, not {landmarks.size}")
    return scale_points(landmarks.reshape(68, 2), scale)


def _parse_meta(text: str | None) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        meta = json.loads(text)
    except ValueError as error:
        raise DataError(f"meta is not JSON: {error}") from error
    if not isinstance(meta, dict):
        raise DataError("meta is not a JSON object")
    return meta


def decode_picture(data: bytes | None, column: str, flags: int) -> np.ndarray | None:
    """Decodes a picture; None stays None.

    Raises:
        DataError: It is none, it is too large or it is broken.
    """
    if data is None:
        return None
    _refuse_huge(data, column)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"{column} cannot be decoded: {error.err}") from error
    if picture is None:
        raise DataError(f"{column} cannot be decoded")
    return picture


def _refuse_huge(data: bytes, column: str) -> None:
    """Reads the size from the head of a picture, so that a small file cannot fill the memory."""
    try:
        width, height = image_size(data)
    except DecodeError as error:
        raise DataError(f"{column} cannot be decoded: {error.message}") from error
    if width * height > MAX_PIXELS:
        raise DataError(f"{column} is too large: {width}x{height}")


def counts_in(mask: np.ndarray) -> np.ndarray:
    """Returns where a mask (H, W), uint8 or uint16, says that the normal counts: above half of its largest.

    Some have 1 there instead of 255.

    Raises:
        DataError: It says so nowhere.
    """
    largest = int(mask.max(initial=0))
    if not largest:
        raise DataError("the mask is black everywhere")
    return mask > largest // 2
