"""The benchmark from top to bottom: which parts there are and what each measures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.bench import DEFAULT_PARTS
from pipeline.bench.baseline import measure_baseline
from pipeline.bench.end_to_end import ENGINES, EngineRun, measure_engine, write_list
from pipeline.bench.heads import measure_heads
from pipeline.bench.machine import describe_machine
from pipeline.bench.photos import KINDS, find_photos, write_photos
from pipeline.bench.rates import measure_rendering, measure_training
from pipeline.bench.report import Report
from pipeline.bench.scale import measure_scale
from pipeline.bench.stages import measure_stages
from pipeline.images.decode import DecodeConfig, decode_image
from pipeline.weights import DEFAULT

DISTINCT = {"portraits": 48, "phone": 12, "groups": 12}
"""Photos made of each kind; runs over more repeat them under other names."""

SHARE = {"phone": 0.2, "groups": 0.2}
"""Photos of a whole run, as a share of `BenchOptions.count`: these take longer."""

FEWEST = 48
"""Photos of a whole run all the same."""

MANY = 2000
"""Photos of a run whose memory is compared with that of a short one."""

BASELINE_PHOTOS = 12
"""Photos that go the baseline's way, which takes a second each."""


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        parts: Some of `pipeline.bench.PARTS`.
        photos: Folder of photos to use in place of made ones.
        count: Portraits, or photos of one's own, of a whole run; fewer of the other kinds.
        weights: Name or path of the weights.
    """

    parts: Sequence[str] = DEFAULT_PARTS
    photos: Path | None = None
    count: int = 400
    weights: str = DEFAULT


def run_bench(options: BenchOptions, folder: Path, tell: Callable[[str], None]) -> Report:
    """Measures the parts that are asked for, one after the other; `tell` gets each figure as it is measured.

    Raises:
        FacetError: A part cannot run: no photos, no weights, no head model.
    """
    report = Report(describe_machine())
    cores, weights = report.machine["cores"], options.weights
    parts = list(options.parts)
    if "workers" in parts and "stages" not in parts[: parts.index("workers")]:
        parts.insert(0, "stages")  # pretended workers sleep for as long as these take
    told: set[str] = set()

    def tell_news() -> None:
        for line in report.lines():
            if line not in told:
                told.add(line)
                tell(line)

    photos: dict[str, list[Path]] = {}
    if {"stages", "baseline", "heads", "memory", *ENGINES} & set(parts):
        photos = _photos(options, folder)
        report.photos = [{"kind": kind, **_describe(files)} for kind, files in photos.items()]
    for part in parts:
        tell(f"measuring {part} ...")
        first = next(iter(photos.values()), [])
        if part == "stages":
            for kind, files in photos.items():
                listing = write_list(files, len(files), folder / kind)
                report.stages[kind] = measure_stages(listing, folder / f"{kind}-stages", weights, cores)
                tell_news()
        elif part in (*ENGINES, "memory"):
            for run in _whole_runs(part, photos, options, folder):
                report.engines.append(run)
                tell_news()
        elif part == "baseline":
            report.baseline = measure_baseline(first[:BASELINE_PHOTOS], folder)[0]
        elif part == "heads":
            report.rates += measure_heads(first[0])
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
            seconds = {stage.name: 1 / stage.per_second for stage in next(iter(report.stages.values()), [])}
            report.figures[part] = measure_scale(part, seconds, cores, folder)
        tell_news()
    return report


def _whole_runs(
    part: str, photos: dict[str, list[Path]], options: BenchOptions, folder: Path
) -> Iterator[EngineRun]:
    if part == "memory":
        kind, files = next(iter(photos.items()))
        runs = [(engine, kind, files, MANY) for engine in ENGINES]
    else:
        runs = [
            (part, kind, files, max(FEWEST, round(options.count * SHARE[kind])))
            if kind in SHARE
            else (part, kind, files, options.count)
            for kind, files in photos.items()
        ]
    for run in runs:
        yield measure_engine(*run, folder / part, options.weights)


def _photos(options: BenchOptions, folder: Path) -> dict[str, list[Path]]:
    if options.photos:
        return {"yours": find_photos(options.photos)}
    return {kind: write_photos(folder / f"made-{kind}", DISTINCT[kind], kind) for kind in KINDS}


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
