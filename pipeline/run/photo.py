"""What is done to one photo: decode it, find the faces, crop them. Free of everything that a run is."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import FacetError, ImageError
from pipeline.faces.crop import crop_image, crop_window, hull_mask
from pipeline.faces.landmarks import Face
from pipeline.images.decode import DecodeConfig, decode_image
from pipeline.images.png import encode_png

OUT_OF_MEMORY = "out_of_memory"

FaceFinder = Callable[[np.ndarray, str], list[Face]]


@dataclass
class Found:
    """What a photo turned out to hold. Can be pickled, whatever went wrong.

    Attributes:
        width: Width of the upright photo; None when it was not decoded.
        height: Height of the upright photo; None when it was not decoded.
        faces: For every face its record, without normals and with the hull of the landmarks as its mask.
        crops: For every face (256, 256, 3) uint8 RGB.
        error: Why there are no faces; None: there may be some. An error that nobody expected is an
            ImageError of code internal_error.
        trace: Where such an error comes from, as text.
    """

    width: int | None = None
    height: int | None = None
    faces: list[dict[str, Any]] = field(default_factory=list)
    crops: list[np.ndarray] = field(default_factory=list)
    error: FacetError | None = None
    trace: str = ""

    @property
    def lacked_memory(self) -> bool:
        """Whether there was not enough memory."""
        return self.error is not None and self.error.code == OUT_OF_MEMORY


def crop_photo(uri: str, data: bytes, config: DecodeConfig, find_faces: FaceFinder) -> Found:
    """Takes a photo from bytes to crops. Raises nothing that comes from the photo.

    Args:
        uri: Path or URL of the photo.
        data: Content of the file.
        config: How to decode.
        find_faces: See `pipeline.faces.detect.FaceFinder`.
    """
    found = Found()
    try:
        image = decode_image(data, config)
        found.height, found.width = image.shape[:2]
        for face in find_faces(image, uri):
            crop, description = describe_face(image, face)
            found.faces.append(description)
            found.crops.append(crop)
    except Exception as error:
        found.faces, found.crops = [], []
        found.error = portable_error(error)
        if found.error is not error:
            found.trace = "".join(traceback.format_exception(error))
    return found


def portable_error(error: Exception) -> FacetError:
    """Returns what another process can be told of an error: others than ours may not survive pickling."""
    if isinstance(error, FacetError):
        return error
    # OpenCV and dlib's C++ code have words of their own for it.
    if isinstance(error, MemoryError) or "nsufficient memory" in str(error) or "bad_alloc" in str(error):
        return ImageError("There was not enough memory for this photo.", OUT_OF_MEMORY)
    return ImageError(f"{type(error).__name__}: {error}", "internal_error")


def describe_face(image: np.ndarray, face: Face) -> tuple[np.ndarray, dict[str, Any]]:
    """Crops a face.

    Args:
        image: (H, W, 3) uint8 RGB, upright.
        face: A face of this photo.

    Returns:
        The crop, (256, 256, 3) uint8 RGB, and the face's record, without normals and with the hull of the
        landmarks as its mask.
    """
    height, width = image.shape[:2]
    window = crop_window(face.landmarks, width, height)
    crop = crop_image(image, window)
    return crop, {
        "index": face.index,
        "box": list(face.box),
        "score": face.score,
        "landmarks": face.landmarks.ravel(),
        "crop_window": {"left": window.left, "top": window.top, "size": window.size},
        "crop_png": encode_png(crop),
        "mask_png": encode_png(hull_mask(face.landmarks, window, width, height)),
    }
