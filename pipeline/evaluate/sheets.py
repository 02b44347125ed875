"""Scored crops as pictures: photo, truth, prediction, error."""

import cv2
import numpy as np

from pipeline.evaluate.metrics import angular_error
from pipeline.evaluate.score import ImageScore
from pipeline.normals.encoding import encode_normals
from pipeline.samples.batch import float_normals

WORST = 40.0
"""Error in degrees at the hot end of the colours."""


def sheet_row(score: ImageScore, caption: str) -> np.ndarray:
    """Draws one scored crop: photo, true normals, predicted normals, angular error: (S, 4 S, 3) uint8.

    Where no truth is known truth and error are grey.
    """
    truth, predicted = float_normals(score.sample), score.normals.astype(np.float32)
    assert truth is not None
    assert score.sample.image is not None
    photo = score.sample.image.copy()
    grey = np.full_like(photo, 128)
    error = np.clip(angular_error(predicted, truth) / WORST * 255, 0, 255).astype(np.uint8)
    heat = cv2.cvtColor(cv2.applyColorMap(error, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(photo, caption, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, width, cv2.LINE_AA)
    inside = np.any(truth, axis=-1)[..., None]
    tiles = [
        photo,
        np.where(inside, encode_normals(truth), grey),
        encode_normals(predicted),
        np.where(inside, heat, grey),
    ]
    return np.concatenate(tiles, axis=1)
