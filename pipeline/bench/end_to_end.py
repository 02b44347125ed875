"""The main job as a user starts it: rate, start-up and memory of a run over a list of photos."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from pipeline.bench.memory import peak_memory
from pipeline.errors import PlanError

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class EngineRun:
    """Two runs of the main job over a few and over many photos.

    Attributes:
        engine: "local" or "ray".
        images: Photos of the two runs, the shorter one first.
        seconds: Wall time of the two whole commands.
    """

    engine: str
    images: tuple[int, int]
    seconds: tuple[float, float]

    @property
    def per_second(self) -> float:
        """Images per second without start-up: what the additional photos of the longer run took."""
        return (self.images[1] - self.images[0]) / max(self.seconds[1] - self.seconds[0], 1e-9)

    @property
    def startup_s(self) -> float:
        """Seconds that do not depend on the number of photos: imports, workers, weights, the report."""
        return self.seconds[0] - self.images[0] / self.per_second

    def to_json(self) -> dict[str, Any]:
        """Returns the run with what follows from it."""
        return {
            "engine": self.engine,
            "images": self.images,
            "seconds": self.seconds,
            "per_second": self.per_second,
            "startup_s": self.startup_s,
        }


def measure_engine(engine: str, photos: Sequence[Path], count: int, folder: Path, weights: str) -> EngineRun:
    """Runs the main job twice, over a quarter of the photos and over all.

    Args:
        engine: "local" or "ray".
        photos: Distinct photos; repeated under other names up to `count`.
        count: Photos of the longer run, at least 4.
        folder: Scratch folder for inputs and outputs.
        weights: Name or path of the weights.

    Raises:
        PlanError: The job failed or lost photos.
    """
    counts = (count // 4, count)
    seconds = []
    for images in counts:
        out = folder / f"{engine}-{images}"
        command = job_command(engine, write_list(photos, images, folder), out, weights)
        start = time.perf_counter()
        _run(command)
        seconds.append(time.perf_counter() - start)
        check_complete(out, images)
    return EngineRun(engine, counts, (seconds[0], seconds[1]))


def measure_memory(
    engine: str, photos: Sequence[Path], counts: Sequence[int], folder: Path, weights: str
) -> dict[int, int]:
    """Returns the peak memory in bytes of a run over each number of photos; see `peak_memory`."""
    peaks = {}
    for images in counts:
        out = folder / f"memory-{engine}-{images}"
        peaks[images] = peak_memory(job_command(engine, write_list(photos, images, folder), out, weights))
        check_complete(out, images)
    return peaks


def job_command(engine: str, photos: Path, out: Path, weights: str) -> list[str]:
    """Returns the command line of the main job."""
    command = [sys.executable, "-m", "jobs.normals", str(photos), str(out)]
    return [*command, "--engine", engine, "--weights", weights]


def write_list(photos: Sequence[Path], count: int, folder: Path) -> Path:
    """Writes a list of `count` distinct photos.

    Where there are too few they are repeated, with a number appended that decoders pass over: photos with
    the same bytes would be computed once.
    """
    links = folder / f"photos-{count}"
    links.mkdir(exist_ok=True)
    paths = []
    for index, photo in enumerate(islice(cycle(photos), count)):
        link = links / f"{index:06}{photo.suffix}"
        if not link.exists() and index < len(photos):
            link.hardlink_to(photo)
        elif not link.exists():
            link.write_bytes(photo.read_bytes() + index.to_bytes(4, "big"))
        paths.append(str(link))
    listing = folder / f"photos-{count}.txt"
    listing.write_text("\n".join(paths) + "\n")
    return listing


def check_complete(out: Path, images: int) -> None:
    """Checks that a run recorded every photo.

    Raises:
        PlanError: It did not.
    """
    counts = json.loads((out / "run.json").read_text())["counts"]
    if counts["images"] != images:
        raise PlanError(f"The run in {out} recorded {counts['images']} of {images} photos.")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlanError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
