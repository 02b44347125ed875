"""Errors of a normal map against the truth: per image, then averaged over images.

    mean, std, median   of the angle between predicted and true normal over the counted pixels, degrees
    within_X            share of the counted pixels with an angle below X degrees
    gradient            mean over pairs of neighbouring counted pixels (right and below) of |dp - dt|, where
                        dp and dt are the differences of the predicted and of the true unit normals; degrees
                        per pixel for small changes. The mean angle hardly sees lost detail, this does
    rotation            angle of the one rotation that best maps the predicted normals on the true ones
    mean_aligned        mean angle after that rotation
    smooth              mean angle after a Gaussian of SMOOTH of the crop's side over both maps: the error of
                        the shape, without that of the detail
    slope_x, slope_y    slope of the regression of the truth's x and y on the prediction's: below 1 where
                        slopes are overstated, above 1 where they are too flat

The mean angle hides the last three. Averaging per image first gives every face the same say, however large
its mask is.
"""

from collections.abc import Sequence

import cv2
import numpy as np

THRESHOLDS = (11.25, 20.0, 22.5, 25.0, 30.0)
"""Degrees of the shares; the usual ones of the field."""

SMOOTH = 6 / 256
"""Standard deviation of the low-pass filter in crop sides: 6 pixels of 256."""


def angular_error(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the angle between unit vectors (..., 3) in degrees, (...) float64.

    By the half-chord, which unlike the arc cosine keeps its digits at small angles.
    """
    chord = np.linalg.norm(predicted.astype(np.float64) - truth.astype(np.float64), axis=-1)
    return np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)))


def gradient_error(predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Returns the normal-gradient error of unit normals (H, W, 3) over a mask (H, W) bool; see the module.

    NaN where no two counted pixels touch.
    """
    difference = predicted.astype(np.float64) - truth.astype(np.float64)
    right = np.linalg.norm(difference[:, 1:] - difference[:, :-1], axis=-1)[mask[:, 1:] & mask[:, :-1]]
    below = np.linalg.norm(difference[1:] - difference[:-1], axis=-1)[mask[1:] & mask[:-1]]
    changes = np.concatenate([right, below])
    return float(np.degrees(changes.mean())) if changes.size else float("nan")


def best_rotation(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the rotation R (3, 3) that minimises the squared distance of R p to t over unit vectors (N, 3).

    W. Kabsch, "A solution for the best rotation to relate two sets of vectors", 1976.
    """
    u, _, vt = np.linalg.svd(truth.T.astype(np.float64) @ predicted.astype(np.float64))
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt


def rotation_angle(rotation: np.ndarray) -> float:
    """Returns the angle of a rotation matrix in degrees, 0..180."""
    skew = rotation - rotation.T
    sine = np.linalg.norm([skew[2, 1], skew[0, 2], skew[1, 0]]) / 2
    return float(np.degrees(np.arctan2(sine, (np.trace(rotation) - 1) / 2)))


def low_pass(normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns unit normals (H, W, 3) smoothed over a mask (H, W) bool; what is outside does not leak in."""
    sigma = SMOOTH * len(normals)
    inside = np.where(mask[..., None], normals, 0).astype(np.float32)
    mean = cv2.GaussianBlur(inside, (0, 0), sigma)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True).clip(1e-6)


def regression_slope(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Returns the least-squares slope of the truth (N,) on the prediction (N,), NaN if that is constant."""
    deviation = predicted.astype(np.float64) - predicted.mean(dtype=np.float64)
    square = float(deviation @ deviation)
    return float(deviation @ truth) / square if square > 1e-9 else float("nan")


def image_metrics(predicted: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Computes all metrics of one image.

    Args:
        predicted: (H, W, 3) unit normals.
        truth: (H, W, 3) unit normals.
        mask: (H, W) bool, pixels that count; at least one.

    Returns:
        Metric -> value, with the keys of the module's table.
    """
    errors = angular_error(predicted[mask], truth[mask])
    rotation = best_rotation(predicted[mask], truth[mask])
    aligned = angular_error(predicted[mask] @ rotation.T, truth[mask])
    return {
        "mean": float(errors.mean()),
        "std": float(errors.std()),
        "median": float(np.median(errors)),
        **{f"within_{threshold:g}": float((errors < threshold).mean()) for threshold in THRESHOLDS},
        "gradient": gradient_error(predicted, truth, mask),
        "rotation": rotation_angle(rotation),
        "mean_aligned": float(aligned.mean()),
        "smooth": float(angular_error(low_pass(predicted, mask)[mask], low_pass(truth, mask)[mask]).mean()),
        "slope_x": regression_slope(predicted[mask][:, 0], truth[mask][:, 0]),
        "slope_y": regression_slope(predicted[mask][:, 1], truth[mask][:, 1]),
    }


def average(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Averages the metrics of images; a value that is NaN for an image does not count."""
    if not rows:
        return {}
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {
        name: float(np.nanmean(value)) if np.isfinite(value).any() else float("nan")
        for name, value in values.items()
    }
