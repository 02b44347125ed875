"""Images as PNG files: the project's own, crops, normals and masks."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.errors import DecodeError

# On crops, normals and masks alike smaller than zlib's usual levels, in less than half their time.
_PNG_OPTIONS = [
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH,
]  # fmt: skip


def encode_png(array: np.ndarray) -> bytes:
    """Writes an image as PNG.

    Args:
        array: (H, W) grey or (H, W, 3) RGB, uint8 or uint16.

    Raises:
        ValueError: The array is no such image.
    """
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(f"no image for a PNG: {array.dtype} {array.shape}")
    if array.ndim == 3:
        if array.shape[2] != 3:
            raise ValueError(f"no image for a PNG: {array.dtype} {array.shape}")
        array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(".png", array, _PNG_OPTIONS)
    if not written:
        raise ValueError(f"the PNG encoder refused {array.dtype} {array.shape}")
    return data.tobytes()


def decode_png(data: bytes) -> np.ndarray:
    """Reads a PNG as it is stored: depth kept, RGB order, alpha dropped.

    Meant for the project's own files. Photos go through `pipeline.images.decode`, which bounds their size.

    Returns:
        (H, W) or (H, W, 3), uint8 or uint16.

    Raises:
        DecodeError: The bytes are no PNG that can be decoded.
    """
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DecodeError("The bytes are no PNG.") from error
    if array is None:
        raise DecodeError("The bytes are no PNG.")
    if array.ndim == 2:
        return array
    return cv2.cvtColor(array, cv2.COLOR_BGRA2RGB if array.shape[2] == 4 else cv2.COLOR_BGR2RGB)
