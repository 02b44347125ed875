"""The benchmark from top to bottom: which parts there are and what each measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.bench import DEFAULT_PARTS
from pipeline.bench.baseline import measure_baseline
from pipeline.bench.end_to_end import ENGINES, measure_engine, measure_memory, write_list
from pipeline.bench.heads import measure_heads
from pipeline.bench.machine import describe_machine
from pipeline.bench.photos import find_photos, write_photos
from pipeline.bench.rates import measure_rendering, measure_training
from pipeline.bench.report import Report
from pipeline.bench.scale import measure_scale
from pipeline.bench.stages import measure_stages
from pipeline.images.decode import DecodeConfig, decode_image
from pipeline.weights import DEFAULT

DISTINCT = 48
"""Photos made; runs over more repeat them under other names."""

BASELINE_PHOTOS = 12
"""Photos that go the baseline's way, which takes a second each."""

MEMORY_PHOTOS = (200, 2000)
"""Photos of the runs whose memory is measured."""


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        parts: Some of `pipeline.bench.PARTS`.
        photos: Folder of photos to use in place of made ones.
        count: Photos of a whole run.
        weights: Name or path of the weights.
    """

    parts: Sequence[str] = DEFAULT_PARTS
    photos: Path | None = None
    count: int = 400
    weights: str = DEFAULT


def run_bench(options: BenchOptions, folder: Path, on_part: Callable[[str], None]) -> Report:
    """Measures the parts that are asked for, one after the other.

    Raises:
        FacetError: A part cannot run: no photos, no weights, no head model.
    """
    report = Report(describe_machine())
    cores, weights = report.machine["cores"], options.weights
    parts = list(options.parts)
    if "workers" in parts and "stages" not in parts[: parts.index("workers")]:
        parts.insert(0, "stages")  # pretended workers sleep for as long as these take
    photos: list[Path] = []
    if {"stages", "baseline", "heads", "memory", *ENGINES} & set(parts):
        photos = find_photos(options.photos) if options.photos else write_photos(folder / "photos", DISTINCT)
        report.photos = {"source": str(options.photos or "made"), **_describe(photos)}
    for part in parts:
        on_part(part)
        if part == "stages":
            report.stages = measure_stages(write_list(photos, len(photos), folder), folder, weights, cores)
        elif part in ENGINES:
            report.engines.append(measure_engine(part, photos, options.count, folder, weights))
        elif part == "baseline":
            report.baseline = measure_baseline(photos[:BASELINE_PHOTOS], folder)[0]
        elif part == "heads":
            report.rates += measure_heads(photos[0])
        elif part == "memory":
            report.figures["Peak memory, MB"] = [
                {"engine": engine}
                | {
                    f"{count} images": measure_memory(engine, photos, count, folder, weights) / 1e6
                    for count in MEMORY_PHOTOS
                }
                for engine in ENGINES
            ]
        elif part == "synth":
            # A GPU renders a hundred times as many.
            report.rates += [
                measure_rendering(3200 if device == "cuda" else 32, device) for device in _devices()
            ]
        elif part == "train":
            report.rates += [
                measure_training(8, 256 if device == "cuda" else 16, device=device) for device in _devices()
            ]
        else:
            seconds = {stage.name: 1 / stage.per_second for stage in report.stages}
            report.figures[part] = measure_scale(part, seconds, cores, folder)
    return report


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
