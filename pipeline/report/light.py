"""The light of a photo, fitted from the photo and its normals, so that the page can take it out again.

A convex matte surface under distant light is shaded, to within a percent, by second-order spherical
harmonics of its normal (Ramamoorthi and Hanrahan, "An Efficient Representation for Irradiance
Environment Maps", SIGGRAPH 2001). Dividing a crop by the fitted shading leaves something close to the
colour of the skin, which any other light can then fall on.
"""

import numpy as np

from pipeline.pixels import srgb_to_linear

RIDGE = 0.02
"""Pull of all but the constant term to zero, per pixel: without it, dark brows would bend the light."""


def harmonics(normals: np.ndarray) -> np.ndarray:
    """Returns the nine basis values of unit normals, (..., 3) -> (..., 9); x right, y up, z to the viewer.

    The script of the page evaluates the same polynomials in the same order.
    """
    x, y, z = np.moveaxis(np.asarray(normals, np.float32), -1, 0)
    return np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], axis=-1)


def fit_light(crop: np.ndarray, normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fits the shading of a face, scaled to a mean of 1 over the mask.

    Args:
        crop: (H, W, 3) uint8 sRGB.
        normals: (H, W, 3) float unit normals.
        mask: (H, W) uint8 or bool, nonzero where a normal is meant.

    Returns:
        (9,) float32 coefficients of `harmonics`; (1, 0, ...) where the mask is empty or the face black.
    """
    meant = np.asarray(mask) > 0
    neutral = np.eye(9, dtype=np.float32)[0]
    brightness = srgb_to_linear(crop)[meant] @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    if len(brightness) < 9 or brightness.mean() < 1e-4:
        return neutral
    basis = harmonics(normals[meant]).astype(np.float64)
    pull = RIDGE * len(basis) * (1 - neutral)
    coefficients = np.linalg.solve(
        basis.T @ basis + np.diag(pull), basis.T @ (brightness / brightness.mean())
    )
    return (coefficients / (basis @ coefficients).mean()).astype(np.float32)
