"""What must not change the answer: light and mirroring.

light    one rendered head, camera and crop under several lights: the normals must stay. Per head, the
         angle of each answer to the mean of all answers, averaged over the pixels of the landmark hull
mirror   the mirrored photo must give the mirrored normals: mean angle between the two, and what averaging
         both (`normals.mirror`) gains in degrees
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.evaluate.cases import face_mask, landmark_mask
from pipeline.evaluate.metrics import angular_error
from pipeline.evaluate.score import predict
from pipeline.normals.network import CrossModalNet
from pipeline.samples.batch import float_normals
from pipeline.samples.sample import Sample, decode_row

if TYPE_CHECKING:
    from pipeline.synth.sample import Sampler

LIGHTS = 10
"""Lights per head."""

LIGHT_SEED = 20_406
"""Seed of the heads and of the lights: never give it to `facet synth` for training."""

_LEAST_HULL = 0.02
# Share of the crop: of a head whose face is all but hidden there is nothing to compare.


def deviations(normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns the mean angle of each map to the mean direction of all maps.

    Args:
        normals: (L, H, W, 3) unit normals.
        mask: (H, W) bool, pixels that count.

    Returns:
        (L,) degrees.
    """
    inside = normals[:, mask].astype(np.float64)
    mean = inside.sum(0)
    mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-9)
    return angular_error(inside, mean).mean(1)


def mirrored(normals: np.ndarray) -> np.ndarray:
    """Returns the normals (..., H, W, 3) of the mirrored photo: columns reversed, x negated."""
    return normals[..., ::-1, :] * np.array([-1, 1, 1], normals.dtype)


def relit(sampler: Sampler, index: int, lights: int) -> list[Sample]:
    """Renders one head under several lights; head, camera, crop, looks and noise stay."""
    from pipeline.synth.light import draw_light
    from pipeline.synth.rows import encode_batch

    drawn = sampler.parameters(index)
    found = [draw_light(np.random.default_rng([sampler.seed, index, number])) for number in range(lights)]
    batch = sampler.render_drawn([replace(drawn, look=replace(drawn.look, light=light)) for light in found])
    return [decode_row(row, None) for row in encode_batch(batch, "")]


def light_invariance(
    network: CrossModalNet,
    sampler: Sampler,
    heads: int,
    lights: int | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Measures how much the light moves the normals.

    Args:
        network: In eval mode, on `device`.
        sampler: Renders the heads, at the size that the network was trained at.
        heads: How many; of those that show next to no face the next one is taken.
        lights: Lights per head, at least two; `LIGHTS` by default.
        device: Where the network is.

    Returns:
        Degrees, averaged over heads: `spread` (mean over the lights of the angle to the mean answer),
        `worst_light` (the light that is farthest from it), `error` (mean angle to the truth), `best_error`
        and `worst_error` (of the best and the worst light); also `by_light`, spread by kind of light, and
        `per_head`, a list of all of this.
    """
    lights = lights or LIGHTS
    found: list[dict[str, Any]] = []
    index = 0
    while len(found) < heads:
        samples = relit(sampler, index, lights)
        mask = landmark_mask(samples[0])
        mask = None if mask is None else mask & face_mask(samples[0])
        if mask is not None and mask.mean() > _LEAST_HULL:
            normals = np.stack(predict(network, samples, torch.device(device)))
            truth = float_normals(samples[0])
            assert truth is not None
            away = deviations(normals, mask)
            errors = angular_error(normals[:, mask], truth[mask]).mean(1)
            kinds = [str(sample.meta.get("light")) for sample in samples]
            found.append(
                {
                    "head": index,
                    "spread": float(away.mean()),
                    "worst_light": float(away.max()),
                    "error": float(errors.mean()),
                    "best_error": float(errors.min()),
                    "worst_error": float(errors.max()),
                    "lights": [
                        [kind, round(float(value), 3)] for kind, value in zip(kinds, away, strict=True)
                    ],
                }
            )
        index += 1
    names = ("spread", "worst_light", "error", "best_error", "worst_error")
    by_kind: dict[str, list[float]] = {}
    for head in found:
        for kind, value in head["lights"]:
            by_kind.setdefault(kind, []).append(value)
    return {
        "heads": heads,
        "lights": lights,
        "seed": sampler.seed,
        **{name: float(np.mean([head[name] for head in found])) for name in names},
        "by_light": {kind: float(np.mean(values)) for kind, values in sorted(by_kind.items())},
        "per_head": found,
    }


def mirror_invariance(
    network: CrossModalNet, samples: Sequence[Sample], device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Compares the answers for photos and for mirrored photos, and averages both as `normals.mirror` does.

    Args:
        network: In eval mode, on `device`.
        samples: Labelled crops of one size.
        device: Where the network is.

    Returns:
        Degrees, per image on the landmark hull (the face mask without landmarks), then averaged:
        `difference`, `error` (plain), `error_mirror` (averaged), `gain`.
    """
    rows = []
    for sample in samples:
        truth, hull = float_normals(sample), landmark_mask(sample)
        assert truth is not None
        assert sample.image is not None
        other = replace(sample, image=np.ascontiguousarray(sample.image[:, ::-1]))
        plain, flipped = predict(network, [sample, other], torch.device(device))
        flipped = mirrored(flipped)
        both = plain + flipped
        both /= np.maximum(np.linalg.norm(both, axis=-1, keepdims=True), 1e-9)
        mask = face_mask(sample) if hull is None else hull
        pairs = ((plain, flipped), (plain, truth), (both, truth))
        rows.append([angular_error(found[mask], meant[mask]).mean() for found, meant in pairs])
    difference, error, error_mirror = (float(value) for value in np.mean(rows, axis=0))
    return {
        "images": len(samples),
        "difference": difference,
        "error": error,
        "error_mirror": error_mirror,
        "gain": error - error_mirror,
    }


def describe_findings(summary: dict[str, Any]) -> str:
    """Says in words how groups differ, and what `light_invariance` and `mirror_invariance` found."""
    lines = []
    if ratios := summary.get("disparities"):
        listed = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in ratios.items())
        lines.append(f"Worst group as a multiple of the best: {listed}.")
    if light := summary.get("light"):
        lines.append(
            f"Light: {light['heads']} heads under {light['lights']} lights each: {light['spread']:.2f} "
            f"degrees from their mean answer, {light['worst_light']:.2f} under the light that is farthest; "
            f"error {light['error']:.2f}, under the best light {light['best_error']:.2f}, under the worst "
            f"{light['worst_error']:.2f}."
        )
    if mirror := summary.get("mirror"):
        lines.append(
            f"Mirror: {mirror['images']} images: {mirror['difference']:.2f} degrees between the answers; "
            f"error {mirror['error']:.2f}, averaged {mirror['error_mirror']:.2f}."
        )
    return "\n".join(lines)
