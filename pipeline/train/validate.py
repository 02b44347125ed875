"""Scores a network on labelled samples while it trains."""

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.evaluate.cases import face_mask
from pipeline.evaluate.metrics import average
from pipeline.evaluate.score import score_samples
from pipeline.evaluate.sheets import sheet_row
from pipeline.normals.network import CrossModalNet
from pipeline.pixels import tile
from pipeline.samples.rows import PAIRED, BadRows, RowGroup, load_group
from pipeline.samples.sample import Sample
from pipeline.train.data import split_validation

SHEET_ROWS = 8
"""Samples drawn on a sheet."""


def validate(
    network: CrossModalNet, samples: Sequence[Sample], device: torch.device, bf16: bool
) -> tuple[dict[str, float], np.ndarray]:
    """Averages the metrics on the face mask and draws the first samples.

    Returns:
        Metrics averaged over images, and the sheet (H, W, 3) uint8.
    """
    metrics: list[dict[str, float]] = []
    drawn: list[np.ndarray] = []
    for score in score_samples(network, samples, device, bf16=bf16):
        metrics.append(score.face)
        if len(drawn) < SHEET_ROWS:
            drawn.append(sheet_row(score, f"{score.face['mean']:.1f}"))
    return average(metrics), tile(drawn, 2)


def validation_samples(
    groups: Sequence[RowGroup], sizes: Sequence[int], limit: int
) -> dict[int, list[Sample]]:
    """Decodes the paired rows of validation groups at every size, spread over the groups, `limit` at most."""
    bad = BadRows()
    paired = sum(int((group.kinds == PAIRED).sum()) for group in groups)
    share = min(1.0, limit / max(1, paired))
    samples: dict[int, list[Sample]] = {size: [] for size in sizes}
    for group in split_validation(groups, share)[1]:
        for size in sizes if group.kinds.any() else ():
            loaded = (s for s in load_group(group, size, bad) if s is not None)
            samples[size] += [sample for sample in loaded if face_mask(sample).any()]
    return samples
