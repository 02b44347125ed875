"""Normals as pixels: PNG values, bit depths and axis conventions.

Inside Facet normals live in camera space: x to the right of the image, y up, z towards the viewer
("opengl"). For what is estimated from a crop that is the space of the crop camera; see
`pipeline.geometry.crop_camera`.
A component n in -1..1 becomes round(127.5 * (n + 1)) in 8 bits or round(32767.5 * (n + 1)) in 16 bits, and
red, green, blue hold x, y, z.

    convention   x      y     z             as a multiple of ours
    opengl       right  up    to the viewer (x, y, z)
    opencv       right  down  away          (x, -y, -z)
    directx      right  down  to the viewer (x, -y, z)
"""

from typing import Literal

import numpy as np

Convention = Literal["opengl", "opencv", "directx"]

SIGNS: dict[str, tuple[int, int, int]] = {"opengl": (1, 1, 1), "opencv": (1, -1, -1), "directx": (1, -1, 1)}
"""Signs of x, y, z of each convention relative to ours; each is its own inverse."""

_DTYPES = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16)}


def encode_normals(normals: np.ndarray, bits: int = 8, convention: Convention = "opengl") -> np.ndarray:
    """Turns normals into pixel values.

    Args:
        normals: (..., 3) floats in -1..1, our camera space; values outside are clipped.
        bits: 8 or 16.
        convention: Axes of the result; see the module's table.

    Returns:
        (..., 3) uint8 or uint16, RGB = xyz.

    Raises:
        ValueError: `bits` or `convention` is none of the above, or the last axis is not 3.
    """
    if bits not in _DTYPES:
        raise ValueError(f"bits must be 8 or 16, got {bits!r}")
    largest = 2**bits - 1
    values = (np.asarray(normals, np.float32) * _signs(convention, np.shape(normals)) + 1) * (largest / 2)
    return np.rint(values).clip(0, largest).astype(_DTYPES[bits])


def decode_normals(pixels: np.ndarray, convention: Convention = "opengl") -> np.ndarray:
    """Turns pixel values back into unit normals; the inverse of `encode_normals` up to rounding.

    Args:
        pixels: (..., 3) uint8 or uint16, RGB = xyz.
        convention: Axes of the pixels.

    Returns:
        (..., 3) float32 unit normals in our camera space. No 8- or 16-bit pixel decodes to the zero vector:
        the scale has no integer at its middle.

    Raises:
        ValueError: The pixels are of another type or shape, or the convention is unknown.
    """
    if pixels.dtype not in _DTYPES.values():
        raise ValueError(f"pixels must be uint8 or uint16, got {pixels.dtype}")
    normals = pixels.astype(np.float32) / ((2 ** (8 * pixels.itemsize) - 1) / 2) - 1
    normals *= _signs(convention, pixels.shape)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def _signs(convention: str, shape: tuple[int, ...]) -> np.ndarray:
    if convention not in SIGNS:
        raise ValueError(f"convention must be one of {', '.join(SIGNS)}, got {convention!r}")
    if not shape or shape[-1] != 3:
        raise ValueError(f"the last axis must hold x, y, z; got the shape {shape}")
    return np.array(SIGNS[convention], np.float32)
