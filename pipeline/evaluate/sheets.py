"""Sheets of samples as one picture: photo, truth, prediction, error."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.evaluate.metrics import angular_error
from pipeline.normals.encoding import encode_normals

WORST = 40.0
"""Error in degrees at the hot end of the colours."""


def sheet_row(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, mask: np.ndarray, caption: str = ""
) -> np.ndarray:
    """Draws one sample: photo, true normals, predicted normals, angular error.

    Args:
        image: (S, S, 3) uint8.
        truth: (S, S, 3) unit normals.
        predicted: (S, S, 3) unit normals.
        mask: (S, S) bool, where the truth is known; the rest of truth and error is grey.
        caption: Text in the corner of the photo.

    Returns:
        (S, 4 S, 3) uint8.
    """
    grey = np.full_like(image, 128)
    error = np.clip(angular_error(predicted, truth) / WORST * 255, 0, 255).astype(np.uint8)
    heat = cv2.cvtColor(cv2.applyColorMap(error, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    photo = image.copy()
    if caption:
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(photo, caption, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, width, cv2.LINE_AA)
    inside = mask[..., None]
    tiles = [
        photo,
        np.where(inside, encode_normals(truth), grey),
        encode_normals(predicted),
        np.where(inside, heat, grey),
    ]
    return np.concatenate(tiles, axis=1)


def sheet(rows: Sequence[np.ndarray], columns: int = 2) -> np.ndarray:
    """Arranges rows of equal shape in columns, reading order, padded with black: (H, W, 3) uint8."""
    padded = [*rows, *(np.zeros_like(rows[0]) for _ in range(-len(rows) % columns))]
    lines = [np.concatenate(padded[i : i + columns], axis=1) for i in range(0, len(padded), columns)]
    return np.concatenate(lines, axis=0)
