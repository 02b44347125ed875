"""Rate of the renderer: labelled samples per second, on one core and on a GPU."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.bench.timing import Rate, measure, one_core
from pipeline.synth.sample import SampleConfig, Sampler

BATCH = {"cpu": 4, "cuda": 64}
"""Samples rendered at a time, by device."""


def measure_rendering(
    count: int, device: str = "cpu", config: SampleConfig | None = None, model: str | Path | None = None
) -> Rate:
    """Times the rendering of whole samples: photo, normals, regions, depth, landmarks.

    Every sample is rendered once, so that what neighbouring samples share is counted as in a real run.

    Args:
        count: Samples; rounded up to whole batches.
        device: "cpu", on one core, or "cuda".
        config: How to render; 256x256 pixels by default.
        model: Path of the head model; see `pipeline.assets.find_ict_facekit`.

    Raises:
        AssetsError: The head model is not there.
    """
    sampler = Sampler(config or SampleConfig(), seed=0, device=device, model=model)
    batch = BATCH[device]

    def render(start: int) -> None:
        sampler.render(range(start, start + batch))
        if device == "cuda":
            torch.cuda.synchronize()

    starts = range(batch, batch + max(count, 1), batch)
    with one_core():
        place = "one GPU" if device == "cuda" else "one core"
        rate, _ = measure(
            f"render on {place}",
            render,
            starts,
            weight=lambda start: batch,
            warm_up=0,
            rounds=1,
            unit="heads",
        )
    return rate
