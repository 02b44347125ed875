"""The main job as a user starts it: rate, start-up and memory of a run over a list of photos."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from pipeline.errors import PlanError

ENGINES = ("local", "ray")

MEMORY_INTERVAL_S = 0.25


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


def measure_engine(engine: str, photos: Sequence[Path], count: int, folder: Path, weights: str) -> EngineRun:
    """Runs the main job twice, over a quarter of the photos and over all.

    Raises:
        PlanError: The job failed or lost photos.
    """
    counts = (count // 4, count)
    seconds = []
    for images in counts:
        out = folder / f"{engine}-{images}"
        listing = write_list(photos, images, folder)
        seconds.append(run_command(job_command(engine, listing, out, weights)))
        check_complete(out, images)
    return EngineRun(engine, counts, (seconds[0], seconds[1]))


def measure_memory(engine: str, photos: Sequence[Path], images: int, folder: Path, weights: str) -> int:
    """Returns the most memory in bytes that a run over so many photos and all its processes held at once.

    Raises:
        PlanError: The job failed or lost photos, or the system is not Linux.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise PlanError("Memory is measured on Linux only.")
    out = folder / f"memory-{engine}-{images}"
    peak = 0

    def watch(root: int) -> None:
        nonlocal peak
        peak = max(peak, tree_memory(root))

    run_command(job_command(engine, write_list(photos, images, folder), out, weights), watch)
    check_complete(out, images)
    return peak


def job_command(engine: str, photos: Path, out: Path, weights: str) -> list[str]:
    """Returns the command line of the main job."""
    command = [sys.executable, "-m", "jobs.normals", str(photos), str(out)]
    return [*command, "--engine", engine, "--weights", weights]


def run_command(command: Sequence[str], watch: Callable[[int], None] | None = None) -> float:
    """Runs a command and returns the seconds that it took; `watch` is called with its process id meanwhile.

    Raises:
        PlanError: It failed.
    """
    start = time.perf_counter()
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        while watch and process.poll() is None:
            watch(process.pid)
            with suppress(subprocess.TimeoutExpired):
                process.wait(MEMORY_INTERVAL_S)
        if process.wait():
            output.seek(0)
            said = output.read().decode(errors="replace").strip()[-500:]
            raise PlanError(f"`{' '.join(command)}` ended with {process.returncode}: {said}")
        return time.perf_counter() - start


def tree_memory(root: int) -> int:
    """Returns the memory in bytes of a process and all its descendants.

    It is the proportional set size: pages that processes share, such as Ray's object store, count once.
    """
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            # The command's name, in parentheses, may itself hold spaces and parentheses.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    total = 0
    for pid in parents:
        ancestor = pid
        while ancestor not in (root, 0):
            ancestor = parents.get(ancestor, 0)
        if ancestor == root:
            with suppress(OSError):  # ended meanwhile, or another user's
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


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
