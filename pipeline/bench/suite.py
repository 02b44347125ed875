"""The benchmark from top to bottom: which parts there are and what each measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.bench.baseline import measure_baseline
from pipeline.bench.end_to_end import ENGINES, measure_engine, measure_memory, write_list
from pipeline.bench.machine import describe_machine
from pipeline.bench.photos import find_photos, write_photos
from pipeline.bench.rendering import measure_rendering
from pipeline.bench.report import Report
from pipeline.bench.scale import PARTS as SCALE_PARTS
from pipeline.bench.scale import measure_scale
from pipeline.bench.stages import measure_stages
from pipeline.bench.steps import measure_steps
from pipeline.bench.training import measure_augmentation, measure_training
from pipeline.images.decode import DecodeConfig, decode_image
from pipeline.normals.architectures import load_weights
from pipeline.weights import DEFAULT

DEFAULT_PARTS = ("steps", "stages", "local", "ray", "baseline")
PARTS = (*DEFAULT_PARTS, "memory", "synth", "train", *SCALE_PARTS)

DISTINCT = 48
"""Photos made; runs over more repeat them under other names."""

BASELINE_PHOTOS = 12
"""Photos that go the seed's way, which takes a second each."""

MEMORY_COUNTS = (200, 2000)


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        parts: Some of `PARTS`.
        photos: Folder of photos to use in place of made ones.
        count: Photos of a whole run.
        weights: Name or path of the weights.
        memory_counts: Photos of the runs whose memory is measured.
        heads: Heads rendered on one core; a GPU renders a hundred times as many.
        steps: Training steps.
    """

    parts: Sequence[str] = DEFAULT_PARTS
    photos: Path | None = None
    count: int = 400
    weights: str = DEFAULT
    memory_counts: Sequence[int] = MEMORY_COUNTS
    heads: int = 32
    steps: int = 8


def run_bench(options: BenchOptions, folder: Path, on_part: Callable[[str], None]) -> Report:
    """Measures the parts that are asked for, one after the other.

    Args:
        options: What to measure.
        folder: Scratch folder, at least some hundred megabytes.
        on_part: Called with the name of each part before it starts.

    Raises:
        FacetError: A part cannot run: no photos, no weights, no head model.
    """
    report = Report(describe_machine())
    needs_photos = set(options.parts) - {"synth", "train", "plan", "resume", "overhead"}
    photos = _photos(options, folder, report) if needs_photos else []
    parts = list(options.parts)
    if "workers" in parts and "stages" not in parts[: parts.index("workers")]:
        parts.insert(0, "stages")  # pretended workers sleep for as long as these take
    for part in parts:
        on_part(part)
        if part == "steps":
            report.steps = measure_steps(photos, load_weights(options.weights))
        elif part == "stages":
            listing = write_list(photos, len(photos), folder)
            report.stages = measure_stages(listing, folder, options.weights, report.machine["cores"])
        elif part in ENGINES:
            report.engines.append(measure_engine(part, photos, options.count, folder, options.weights))
        elif part == "baseline":
            report.baseline = measure_baseline(photos[:BASELINE_PHOTOS], folder)[0]
        elif part == "memory":
            for engine in ENGINES:
                report.memory[engine] = measure_memory(
                    engine, photos, options.memory_counts, folder, options.weights
                )
        elif part == "synth":
            report.rates += _rendering(options)
        elif part == "train":
            report.rates += _training(options)
        elif part in SCALE_PARTS:
            seconds = {stage.name: 1 / stage.per_second for stage in report.stages}
            cores = report.machine["cores"]
            report.scale[part] = measure_scale(part, photos, options.weights, seconds, cores, folder)
    return report


def _photos(options: BenchOptions, folder: Path, report: Report) -> list[Path]:
    photos = find_photos(options.photos) if options.photos else write_photos(folder / "photos", DISTINCT)
    report.photos = _describe(photos) | {"source": str(options.photos or "made")}
    return photos


def _describe(photos: Sequence[Path]) -> dict[str, Any]:
    contents = [photo.read_bytes() for photo in photos]
    shapes = [decode_image(content, DecodeConfig()).shape for content in contents]
    return {
        "distinct": len(photos),
        "megapixels": sum(height * width for height, width, _ in shapes) / len(shapes) / 1e6,
        "kilobytes": sum(map(len, contents)) / len(contents) / 1e3,
    }


def _devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _rendering(options: BenchOptions) -> list:
    return [
        measure_rendering(options.heads * (100 if device == "cuda" else 1), device) for device in _devices()
    ]


def _training(options: BenchOptions) -> list:
    rates = [measure_augmentation(32)]
    for device in _devices():
        batch = 256 if device == "cuda" else 16
        rates.append(measure_training(options.steps, batch, device=device))
    return rates
