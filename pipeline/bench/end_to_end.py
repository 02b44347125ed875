"""The main job as a user starts it: rate, start-up, CPU time and memory of a run over a list of photos."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from pipeline.bench.command import Usage, run_command
from pipeline.errors import PlanError

ENGINES = ("local", "ray")

SHORT = 200
"""Photos of the shorter of two runs, unless the longer one has less than four times as many."""


@dataclass(frozen=True)
class EngineRun:
    """Two runs of the main job over few and over many photos, the shorter one first.

    Attributes:
        engine: "local" or "ray".
        kind: What the photos are.
        images: Photos.
        faces: Faces that were found.
        usage: What the whole commands took.
    """

    engine: str
    kind: str
    images: tuple[int, int]
    faces: tuple[int, int]
    usage: tuple[Usage, Usage]

    @property
    def per_second(self) -> float:
        """Photos a second without start-up: what the additional photos of the longer run took."""
        return self._more_images / max(self.usage[1].seconds - self.usage[0].seconds, 1e-9)

    @property
    def cpu_ms_each(self) -> float:
        """Milliseconds of CPU time of an additional photo; other work on the machine hardly disturbs it."""
        return 1000 * (self.usage[1].cpu_s - self.usage[0].cpu_s) / self._more_images

    @property
    def startup_s(self) -> float:
        """Seconds that do not depend on the number of photos: imports, workers, weights, the report."""
        return self.usage[0].seconds - self.images[0] / self.per_second

    @property
    def _more_images(self) -> int:
        return self.images[1] - self.images[0]


def measure_engine(  # noqa: PLR0917
    engine: str, kind: str, photos: Sequence[Path], count: int, folder: Path, weights: str
) -> EngineRun:
    """Runs the main job twice, over few photos and over `count`, repeated under other names up to that.

    Raises:
        PlanError: The job failed or lost photos, or the system is not Linux.
    """
    counts = (min(SHORT, count // 4), count)
    usages, faces = [], []
    for images in counts:
        out = folder / f"{kind}-{engine}-{images}"
        listing = write_list(photos, images, folder / kind)
        usages.append(run_command(job_command(engine, listing, out, weights)))
        faces.append(count_faces(out, images))
    return EngineRun(engine, kind, counts, (faces[0], faces[1]), (usages[0], usages[1]))


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
    links.mkdir(parents=True, exist_ok=True)
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


def count_faces(out: Path, images: int) -> int:
    """Returns how many faces a run found.

    Raises:
        PlanError: It did not record every photo.
    """
    counts = json.loads((out / "run.json").read_text())["counts"]
    if counts["images"] != images:
        raise PlanError(f"The run in {out} recorded {counts['images']} of {images} photos.")
    return counts["found"].get("faces", 0)
