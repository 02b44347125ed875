"""The main job as a user starts it: rate, start-up, CPU time and memory of a run over a list of photos."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path

from pipeline.bench.command import Usage, run_command
from pipeline.errors import PlanError
from pipeline.run.markers import committed_shards, read_markers
from pipeline.storage.store import Store

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
        at_work_s: Seconds from the start of the longer one to its first photo.
        after_s: Seconds from its last commit to its end: the report, and leaving.
    """

    engine: str
    kind: str
    images: tuple[int, int]
    faces: tuple[int, int]
    usage: tuple[Usage, Usage]
    at_work_s: float
    after_s: float

    @property
    def per_second(self) -> float:
        """Photos a second without start-up: what the additional photos of the longer run took."""
        return self._more_images / max(self.usage[1].seconds - self.usage[0].seconds, 1e-9)

    @property
    def cpu_ms_each(self) -> float:
        """Milliseconds of CPU time of an additional photo; other work on the machine hardly disturbs it."""
        return 1000 * (self.usage[1].cpu_s - self.usage[0].cpu_s) / self._more_images

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
    at_work = after = 0.0
    for images in counts:
        out = folder / f"{kind}-{engine}-{images}"
        listing = write_list(photos, images, folder / kind)
        usages.append(run_command(job_command(engine, listing, out, weights)))
        ended = time.time()
        faces.append(count_faces(out, images))
        first, last = work_times(out)
        at_work, after = usages[-1].seconds - (ended - first), ended - last
    return EngineRun(engine, kind, counts, (faces[0], faces[1]), (usages[0], usages[1]), at_work, after)


def work_times(out: Path) -> tuple[float, float]:
    """Returns when the first photo of a run was begun and when its last shard was committed, in seconds."""
    store = Store(str(out))
    last = max(marker.committed for marker in read_markers(store, committed_shards(store)))
    first = json.loads((out / "run.json").read_text())["session_at_work"]
    begun, ended = (datetime.fromisoformat(text).timestamp() for text in (first, last))
    return begun, ended


def job_command(engine: str, photos: Path, out: Path, weights: str) -> list[str]:
    """Returns the command line of the main job; also few photos are shared out among processes."""
    command = [sys.executable, "-m", "jobs.normals", str(photos), str(out), "--engine", engine]
    return [*command, "--weights", weights, "--set", "engine.in_process_up_to=0"]


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
