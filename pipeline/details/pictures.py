"""The maps of a head as PNG and JPEG files."""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.details.head import HeadMaps
from pipeline.errors import DecodeError
from pipeline.images.png import decode_png, encode_png

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92]


@dataclass(frozen=True)
class HeadPictures:
    """The maps of a head, encoded; see `HeadMaps`."""

    texture_jpeg: bytes
    visibility_png: bytes
    displacement_png: bytes
    normal_map_png: bytes
    left_eye_jpeg: bytes
    right_eye_jpeg: bytes
    back_jpeg: bytes


def encode_maps(maps: HeadMaps) -> HeadPictures:
    """Encodes the maps of a head."""
    return HeadPictures(
        texture_jpeg=encode_jpeg(maps.texture),
        visibility_png=encode_png(maps.visibility),
        displacement_png=encode_png(maps.displacement),
        normal_map_png=encode_png(maps.normals),
        left_eye_jpeg=encode_jpeg(maps.eyes[0]),
        right_eye_jpeg=encode_jpeg(maps.eyes[1]),
        back_jpeg=encode_jpeg(maps.back),
    )


def decode_maps(pictures: HeadPictures) -> HeadMaps:
    """Decodes the maps of a head.

    Raises:
        DecodeError: One of them is damaged.
    """
    return HeadMaps(
        texture=decode_jpeg(pictures.texture_jpeg),
        visibility=decode_png(pictures.visibility_png),
        displacement=decode_png(pictures.displacement_png),
        normals=decode_png(pictures.normal_map_png),
        eyes=(decode_jpeg(pictures.left_eye_jpeg), decode_jpeg(pictures.right_eye_jpeg)),
        back=decode_jpeg(pictures.back_jpeg),
    )


def encode_jpeg(picture: np.ndarray) -> bytes:
    """Writes (H, W, 3) uint8 RGB as JPEG."""
    return cv2.imencode(".jpg", picture[..., ::-1], _JPEG)[1].tobytes()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Reads one of our own JPEGs: (H, W, 3) uint8 RGB.

    Raises:
        DecodeError: It is none.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if picture is None:
        raise DecodeError("The bytes are no JPEG.")
    return picture
