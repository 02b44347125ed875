"""How Facet behaves at a size that this machine does not have: many photos, many shards, many workers.

plan       time and memory for making the plan of many photos
resume     time and memory for finding out what of many shards is done
overhead   the Ray engine with stages that do nothing
workers    the Ray engine with many workers that sleep for as long as the stages take
redo       what is done twice after a run was killed
"""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.bench.end_to_end import job_command, write_list
from pipeline.bench.pretend import pretended_stages
from pipeline.errors import PlanError
from pipeline.images.sources import Listing
from pipeline.images.walk import Found, Notes
from pipeline.run.config import EngineConfig, PlanConfig, RunConfig
from pipeline.run.counts import STAGES, Counts
from pipeline.run.engines.ray_engine import run_ray
from pipeline.run.markers import committed_shards, marker_name, read_markers
from pipeline.run.plan import Plan, read_plan, write_plan
from pipeline.run.shards import commit_shard
from pipeline.run.stages import Work
from pipeline.storage.store import Store

PARTS = ("plan", "resume", "overhead", "workers", "redo")

STEADY = (0.25, 0.9)
"""Part of a run, in photos, over which its rate is taken: workers that start together also end together."""

PLANNED = (1_000, 100_000, 1_000_000)
SHARDS = 10_000
WORKERS = (2, 4, 8, 16, 32)
RUN_SECONDS = 40.0
REDONE_PHOTOS = 240
REDONE_SHARD = 40

Figures = dict[str, float]


def measure_scale(  # noqa: PLR0917
    part: str, photos: Sequence[Path], weights: str, seconds: dict[str, float], cores: int, folder: Path
) -> list[Figures]:
    """Measures one of `PARTS`; see the function of that name.

    Args:
        part: What to measure.
        photos: Photos of faces, for `redo`.
        weights: Weights of the network, for `redo`.
        seconds: Stage -> what it takes for a photo, for `workers`.
        cores: CPU cores of this machine.
        folder: Scratch folder.
    """
    if part == "plan":
        return [measure_plan(images, folder) for images in PLANNED]
    if part == "resume":
        return [measure_resume(SHARDS, folder)]
    if part == "overhead":
        return [measure_overhead(4096, cores, folder)]
    if part == "workers":
        return [measure_workers(workers, seconds, RUN_SECONDS, folder) for workers in WORKERS]
    return [measure_redo(photos, REDONE_PHOTOS, REDONE_SHARD, folder, weights)]


def measure_plan(images: int, folder: Path) -> Figures:
    """Plans an input of many photos in a process of its own.

    Returns:
        images, seconds, memory_mb (what the process grew by at most), plan_mb (size of the files).
    """
    store = Store(str(folder / f"plan-{images}"))
    seconds, memory = _apart(_plan, store, images)
    size = sum(store.filesystem.size(store.path(f"plan/{name}")) for name in store.names("plan"))
    return {"images": images, "seconds": seconds, "memory_mb": memory, "plan_mb": size / 1e6}


def measure_resume(shards: int, folder: Path) -> Figures:
    """Finds out what is done in a folder in which all of many shards are.

    Returns:
        shards, seconds, memory_mb.
    """
    store = Store(str(folder / f"resume-{shards}"))
    _plan(store, shards, PlanConfig(shard_size=1))
    # All markers are alike: what is measured is listing, opening and reading them.
    plan = read_plan(store)
    assert plan is not None
    work = Work(store, "bench", plan, RunConfig())
    content = _marker_of_one_photo(work)
    for shard in range(shards):
        path = Path(store.path(marker_name(shard)))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    seconds, memory = _apart(_resume, store)
    return {"shards": shards, "seconds": seconds, "memory_mb": memory}


def measure_overhead(images: int, cores: int, folder: Path) -> Figures:
    """Runs the Ray engine with stages that do nothing but pass on black crops.

    Returns:
        images, per_second, core_ms: milliseconds of one core that the engine takes for a photo.
    """
    half = max(1, cores // 2)
    rate = _pretend(images, cores, half, half, dict.fromkeys(STAGES, 0.0), folder / "overhead")
    return {"images": images, "per_second": rate, "core_ms": 1000 * cores / rate}


def measure_workers(
    workers: int, seconds: dict[str, float], run_seconds: float, folder: Path, chunk_size: int = 32
) -> Figures:
    """Runs the Ray engine with workers that sleep.

    Args:
        workers: Crop and normals workers together, at least 2; shared out by what the stages take.
        seconds: Stage -> what it takes for a photo.
        run_seconds: About how long the run is to be at full speed.
        folder: Scratch folder.
        chunk_size: Photos that travel together.

    Returns:
        workers, ideal (photos a second that they would do without an engine), per_second, efficiency.
    """
    crop = round(workers * seconds["crop"] / (seconds["crop"] + seconds["normals"]))
    crop = min(max(crop, 1), workers - 1)
    ideal = min(crop / seconds["crop"], (workers - crop) / seconds["normals"])
    images = -(-int(ideal * run_seconds) // chunk_size) * chunk_size
    rate = _pretend(images, workers, crop, workers - crop, seconds, folder / f"workers-{workers}", chunk_size)
    return {"workers": workers, "ideal": ideal, "per_second": rate, "efficiency": rate / ideal}


def measure_redo(photos: Sequence[Path], images: int, shard_size: int, folder: Path, weights: str) -> Figures:
    """Kills a run once it has committed a third of its shards, and lets it go on.

    Returns:
        images, shard_size, safe (photos that were committed), whole_s (an undisturbed run), killed_after_s,
        rest_s (the second attempt), twice_s (what both attempts took beyond an undisturbed run).
    """
    listing = write_list(photos, images, folder)
    whole = _timed(_redo_command(listing, folder / "undisturbed", shard_size, weights))
    out = folder / "killed"
    command = _redo_command(listing, out, shard_size, weights)
    started = time.perf_counter()
    wanted = max(1, images // shard_size // 3)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(committed_shards(Store(str(out)))) < wanted and process.poll() is None:
            time.sleep(0.05)
        process.kill()
    first = time.perf_counter() - started
    killed = Store(str(out))
    safe = sum(marker.counts.images for marker in read_markers(killed, committed_shards(killed)))
    second = _timed(command)
    return {
        "images": images,
        "shard_size": shard_size,
        "safe": safe,
        "whole_s": whole,
        "killed_after_s": first,
        "rest_s": second,
        "twice_s": first + second - whole,
    }


def _redo_command(listing: Path, out: Path, shard_size: int, weights: str) -> list[str]:
    sizes = ["--set", f"plan.shard_size={shard_size}", "--set", "output.report=false"]
    return [*job_command("local", listing, out, weights), *sizes]


def _timed(command: Sequence[str]) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PlanError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return time.perf_counter() - started


def _apart(function: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    """Calls a function in a new process; returns its seconds, and the megabytes that the process grew by."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, function, *arguments).result()


def _measured(function: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    before = _peak_memory()
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started, (_peak_memory() - before) / 1e6


def _peak_memory() -> int:
    # Not getrusage: on Linux a process inherits that of the one that started it.
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


def _plan(store: Store, images: int, config: PlanConfig | None = None) -> Plan:
    listing = Listing("pretended", _pretended_files(images), Notes())
    return write_plan(store, listing, config or PlanConfig())


def _pretended_files(images: int) -> Iterator[Found]:
    for index in range(images):
        name = f"s3://bucket/faces/{index // 1000:06d}/photo-{index:09d}.jpg"
        yield Found(name, 200_000 + index % 1000, f"{index:032x}")


def _resume(store: Store) -> Counts:
    plan = read_plan(store)
    assert plan is not None
    done = committed_shards(store)
    total = Counts()
    for marker in read_markers(store, done):
        total += marker.counts
    assert total.images == plan.images
    return total


def _marker_of_one_photo(work: Work) -> bytes:
    """Returns the marker that a shard of one photo gets."""
    stages = pretended_stages(dict.fromkeys(STAGES, 0.0))
    message: Any = stages.read(work)(0, 0)
    message = stages.normals(work.config, None)(stages.crop(work.config)(message))
    message = stages.write(work)(message)
    commit_shard(work.store, work.session, 0, 1, message.counts, work.config.output)
    return work.store.read(marker_name(0))


def _pretend(  # noqa: PLR0917
    images: int,
    cores: int,
    crop: int,
    normals: int,
    seconds: dict[str, float],
    folder: Path,
    chunk_size: int = 32,
) -> float:
    """Runs the Ray engine with pretended stages; returns photos a second at full speed."""
    store = Store(str(folder))
    config = RunConfig(
        engine=EngineConfig(name="ray", cpus=cores, crop_workers=crop, normals_workers=normals),
        plan=PlanConfig(chunk_size=chunk_size),
    )
    plan = write_plan(store, Listing("pretended", _pretended_files(images), Notes()), config.plan)
    done = 0
    times: list[tuple[int, float]] = []

    def note(counts: Counts) -> None:
        nonlocal done
        done += counts.images
        times.append((done, time.perf_counter()))

    work = Work(store, "bench", plan, config)
    run_ray(work, list(range(plan.shards)), note, pretended_stages(seconds))
    first, last = (next(point for point in times if point[0] >= part * images) for part in STEADY)
    return (last[0] - first[0]) / (last[1] - first[1])
