"""Scores a network on labelled crops: per image, per group, overall."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from pipeline.evaluate.cases import face_mask, landmark_mask
from pipeline.evaluate.groups import disparities, groups_of, order_of
from pipeline.evaluate.metrics import average, image_metrics
from pipeline.normals.network import CrossModalNet
from pipeline.samples.batch import as_float, collate, float_normals
from pipeline.samples.sample import Sample

COLUMNS = {
    "mean": "mean",
    "std": "std",
    "median": "median",
    "within_11.25": "<11.25",
    "within_20": "<20",
    "within_22.5": "<22.5",
    "within_25": "<25",
    "within_30": "<30",
    "gradient": "gradient",
    "rotation": "rotation",
    "mean_aligned": "aligned",
    "smooth": "smooth",
    "slope_x": "slope x",
    "slope_y": "slope y",
}
"""Metric -> heading in tables."""


AREAS = {"face": "face mask", "hull": "landmark hull"}
"""Where errors are counted -> its name in tables."""


@dataclass(frozen=True)
class ImageScore:
    """One scored crop.

    Attributes:
        sample: The crop and its labels.
        normals: (S, S, 3) predicted unit normals as float16, to keep many in memory.
        face: Metrics on the face mask.
        hull: Metrics on the landmark hull, or None without landmarks.
    """

    sample: Sample
    normals: np.ndarray
    face: dict[str, float]
    hull: dict[str, float] | None


@torch.no_grad()
def predict(
    network: CrossModalNet, samples: Sequence[Sample], device: torch.device, bf16: bool = False
) -> list[np.ndarray]:
    """Returns the unit normals (S, S, 3) float32 that a network in eval mode gives for a batch."""
    image = collate(samples, normals=False).to(device).image
    assert image is not None
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        output = network.image_to_normals(as_float(image).contiguous(memory_format=torch.channels_last))
    return list(output.normals.permute(0, 2, 3, 1).cpu().numpy())


def score_samples(
    network: CrossModalNet,
    samples: Iterable[Sample],
    device: torch.device,
    batch_size: int = 16,
    bf16: bool = False,
) -> Iterator[ImageScore]:
    """Scores crops one by one."""
    rest = iter(samples)
    while batch := list(islice(rest, batch_size)):
        for sample, normals in zip(batch, predict(network, batch, device, bf16), strict=True):
            truth, hull = float_normals(sample), landmark_mask(sample)
            assert truth is not None
            yield ImageScore(
                sample,
                normals.astype(np.float16),
                image_metrics(normals, truth, face_mask(sample)),
                image_metrics(normals, truth, hull) if hull is not None else None,
            )


def summarise_scores(scores: Sequence[ImageScore]) -> dict[str, Any]:
    """Averages scores over images: overall and by group, on the face mask and on the landmark hull.

    Returns:
        `{"images": N, "face": {"all": {...}, GROUP: {...}}, "hull": {...}}`; every block has its `images`.
        `disparities` has the error of the worst group as a multiple of the best, by kind of group, in the
        hull or, without landmarks, on the face mask.
    """
    face = _by_group([(score.sample.meta, score.face) for score in scores])
    hull = _by_group([(score.sample.meta, score.hull) for score in scores if score.hull is not None])
    means = {group: values["mean"] for group, values in (hull or face).items()}
    return {"images": len(scores), "face": face, "hull": hull, "disparities": disparities(means)}


def table(summary: Mapping[str, Any]) -> str:
    """Draws a summary as a Markdown table, shares in per cent, angles in degrees."""
    lines = [
        "| on | images | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for area in ("face", "hull"):
        for group, values in summary[area].items():
            cells = [
                f"{100 * values[name]:.0f} %" if name.startswith("within") else f"{values[name]:.2f}"
                for name in COLUMNS
            ]
            name = AREAS[area] + ("" if group == "all" else f", {group}")
            lines.append(f"| {name} | {values['images']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def to_json(summary: Mapping[str, Any]) -> str:
    """Writes a summary as JSON; what is not a number becomes null."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: clean(part) for name, part in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(clean(summary), indent=1)


def _by_group(
    rows: Sequence[tuple[Mapping[str, Any], dict[str, float]]],
) -> dict[str, dict[str, float]]:
    members: dict[str, list[dict[str, float]]] = defaultdict(list)
    for meta, metrics in rows:
        for group in groups_of(meta):
            members[group].append(metrics)
    if not rows:
        return {}
    ordered = {"all": [metrics for _, metrics in rows]}
    ordered |= {group: members[group] for group in sorted(members, key=order_of)}
    return {group: {"images": len(found), **average(found)} for group, found in ordered.items()}
