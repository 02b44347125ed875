"""How Facet behaves at a size that this machine does not have: many photos, many shards, many workers.

plan       time and memory for making the plan of many photos
resume     time and memory for finding out what of many shards is done
overhead   the Ray engine with stages that do nothing
workers    the Ray engine with many workers that sleep for as long as the stages take
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.bench.pretend import PretendedRead, pretended_recipe
from pipeline.images.items import one_photo_each
from pipeline.images.sources import Listing
from pipeline.images.walk import Found, Notes
from pipeline.ray_cluster import cluster
from pipeline.run.config import EngineConfig, PlanConfig, RunConfig
from pipeline.run.counts import Counts
from pipeline.run.engines.ray_engine import run_ray
from pipeline.run.markers import add_up, committed_shards, marker_name, read_markers
from pipeline.run.plan import Plan, read_plan
from pipeline.run.plan_photos import write_plan
from pipeline.run.shards import commit_shard
from pipeline.run.stages import AllStages
from pipeline.run.work import Work
from pipeline.storage.store import Store

STEADY = (0.25, 0.9)
"""Part of a run, in photos, over which its rate is taken: workers that start together also end together."""

PLANNED = (1_000, 100_000, 1_000_000)
SHARDS = 10_000
WORKERS = ((2, 0), (4, 0), (8, 0), (16, 0), (32, 0), (16, 1))
"""Pretended cores and GPUs."""

RUN_SECONDS = 40.0
NO_TIME = dict.fromkeys(("read", "crop", "normals", "write"), 0.0)

Figures = dict[str, float]


def measure_scale(part: str, seconds: dict[str, float], cores: int, folder: Path) -> list[Figures]:
    """Measures one of `SCALE_PARTS`; see the function of that name."""
    if part == "plan":
        return [measure_plan(images, folder) for images in PLANNED]
    if part == "resume":
        return [measure_resume(SHARDS, folder)]
    if part == "overhead":
        return [measure_overhead(4096, cores, folder)]
    return [measure_workers(*workers, seconds, RUN_SECONDS, folder) for workers in WORKERS]


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
    work = Work(store, "bench", plan, pretended_recipe(NO_TIME), RunConfig())
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
    with cluster(num_cpus=cores):
        rate = _pretend(images, NO_TIME, folder / "overhead")
    return {"images": images, "per_second": rate, "core_ms": 1000 * cores / rate}


def measure_workers(  # noqa: PLR0917
    workers: int, gpus: int, seconds: dict[str, float], run_seconds: float, folder: Path, chunk_size: int = 32
) -> Figures:
    """Runs the Ray engine with workers that sleep.

    `gpus` are pretended, each with a worker that computes as fast as the cores can feed it; `seconds` says
    what each stage takes for a photo, `run_seconds` about how long the run is to be.

    Returns:
        workers, gpus, ideal (photos a second that they would do without an engine), per_second, efficiency.
    """
    if gpus:
        ideal = workers / seconds["crop"]
        seconds = seconds | {"normals": gpus / ideal, "write": 0.0}
    else:
        ideal = workers / sum(seconds.values())
    images = -(-int(ideal * run_seconds) // chunk_size) * chunk_size
    name = f"workers-{workers}-{gpus}"
    with cluster(num_cpus=workers, num_gpus=gpus):
        rate = _pretend(images, seconds, folder / name, chunk_size)
    return {
        "workers": workers,
        "gpus": gpus,
        "ideal": ideal,
        "per_second": rate,
        "efficiency": rate / ideal,
    }


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
    return write_plan(store, one_photo_each(listing), config or PlanConfig())


def _pretended_files(images: int) -> Iterator[Found]:
    for index in range(images):
        name = f"s3://bucket/faces/{index // 1000:06d}/photo-{index:09d}.jpg"
        yield Found(name, 200_000 + index % 1000, f"{index:032x}")


def _resume(store: Store) -> Counts:
    plan = read_plan(store)
    assert plan is not None
    total = add_up(read_markers(store, committed_shards(store)))
    assert total.images == plan.images
    return total


def _marker_of_one_photo(work: Work) -> bytes:
    """Returns the marker that a shard of one photo gets."""
    commit_shard(work, 0, AllStages(work, partial(PretendedRead, seconds=0.0))(0, 0).counts)
    return work.store.read(marker_name(0))


def _pretend(images: int, seconds: dict[str, float], folder: Path, chunk_size: int = 32) -> float:
    """Runs the Ray engine with pretended stages; returns photos a second at full speed."""
    store = Store(str(folder))
    config = RunConfig(engine=EngineConfig(name="ray"), plan=PlanConfig(chunk_size=chunk_size))
    plan = _plan(store, images, config.plan)
    done = 0
    times: list[tuple[int, float]] = []

    def note(counts: Counts) -> None:
        nonlocal done
        done += counts.images
        times.append((done, time.perf_counter()))

    work = Work(store, "bench", plan, pretended_recipe(seconds), config)
    run_ray(work, list(range(plan.shards)), note, partial(PretendedRead, seconds=seconds["read"]))
    first, last = (next(point for point in times if point[0] >= part * images) for part in STEADY)
    return (last[0] - first[0]) / (last[1] - first[1])
