"""Data sets of rendered faces: Parquet shards of a fixed range of samples each.

A shard is written as a whole or not at all, under a name that tells its samples, so a run that was
interrupted goes on with the shards that are missing. Every sample depends on seed and index alone: it does
not matter who renders which shard.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field

from pipeline.config import Section, dump_config, load_config
from pipeline.device import choose_device
from pipeline.errors import OutputError
from pipeline.processes import available_cpus, end_with_parent
from pipeline.samples.schema import RENDERED_SCHEMA
from pipeline.storage.store import SCRATCH, Store
from pipeline.synth.rows import encode_batch
from pipeline.synth.sample import SampleConfig, Sampler

SETTINGS = "synth.yaml"
"""File of the data set that holds the settings it was made with."""

Engine = Literal["auto", "local", "ray"]


class DatasetConfig(Section):
    """What to render; two data sets with equal values are equal."""

    count: int = Field(default=1000, ge=1, description="number of samples")
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of all samples")
    shard_rows: int = Field(default=256, ge=1, description="samples per shard")
    sample: SampleConfig = Field(default_factory=SampleConfig)


class ExecutionConfig(Section):
    """Where and how to render; has no influence on the samples."""

    engine: Engine = Field(
        default="auto", description="local processes, Ray, or Ray where a cluster is named"
    )
    workers: int | None = Field(
        default=None, ge=1, description="processes or actors; one per CPU core or GPU"
    )
    device: str = Field(default="auto", description="cpu, cuda, or cuda where there is one")
    batch_size: int | None = Field(default=None, ge=1, description="samples rendered at once; by the device")


@dataclass(frozen=True)
class Shard:
    """A range of samples in one file."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"faces-{self.start:08d}-{self.stop:08d}.parquet"

    def __len__(self) -> int:
        return self.stop - self.start


def plan_shards(config: DatasetConfig) -> list[Shard]:
    """Cuts a data set into shards."""
    starts = range(0, config.count, config.shard_rows)
    return [Shard(start, min(start + config.shard_rows, config.count)) for start in starts]


@dataclass
class ShardRenderer:
    """Renders shards in one process; what it needs is loaded with the first one.

    Attributes:
        store: The data set's folder.
        config: What to render.
        device: "cpu" or "cuda".
        batch_size: Samples rendered at once.
        model: Path of the head model, or None to look for it.
    """

    store: Store
    config: DatasetConfig
    device: str
    batch_size: int
    model: str | None = None
    _sampler: Sampler | None = None

    def __call__(self, shard: Shard) -> int:
        """Renders and stores one shard; returns its number of samples."""
        if self._sampler is None:
            if self.device == "cpu":
                torch.set_num_threads(1)
            self._sampler = Sampler(self.config.sample, self.config.seed, self.device, self.model)
        with ExitStack() as stack:
            # A GPU renders faster than one thread encodes.
            threads = (
                None if self.device == "cpu" else stack.enter_context(ThreadPoolExecutor(available_cpus()))
            )
            file = stack.enter_context(self.store.create(shard.name))
            sink = pa.PythonFile(file, mode="w")
            # Images are compressed already; zstd is for lists and numbers.
            with pq.ParquetWriter(sink, RENDERED_SCHEMA, compression="zstd") as writer:
                for start in range(shard.start, shard.stop, self.batch_size):
                    indices = range(start, min(start + self.batch_size, shard.stop))
                    rows = encode_batch(self._sampler.render(indices), f"synth-{self.config.seed}-", threads)
                    writer.write_table(pa.Table.from_pylist(rows, RENDERED_SCHEMA))
        return len(shard)


def write_dataset(
    output: str,
    config: DatasetConfig,
    execution: ExecutionConfig | None = None,
    model: str | None = None,
    on_progress: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Renders a data set, or what is missing of it.

    Args:
        output: Folder, local or remote.
        config: What to render.
        execution: Where to render.
        model: Path of the head model; see `pipeline.assets.find_ict_facekit`.
        on_progress: Is called with the number of samples of each shard that is there.

    Returns:
        Names of the shards.

    Raises:
        OutputError: The folder holds another data set or cannot be written.
        AssetsError: The head model is not there.
        PlanError: The device or cluster is not there.
    """
    execution = execution or load_config(ExecutionConfig)
    store = Store(output)
    there = _claim(store, config)
    shards = plan_shards(config)
    missing = [shard for shard in shards if shard.name not in there]
    if len(missing) < len(shards):
        on_progress(sum(map(len, shards)) - sum(map(len, missing)))
    render = _render_on_ray if _use_ray(execution.engine) else _render_locally
    for count in render(store, config, execution, model, missing):
        on_progress(count)
    store.remove(SCRATCH)
    return [shard.name for shard in shards]


def _claim(store: Store, config: DatasetConfig) -> set[str]:
    """Writes the settings into a new folder, or compares them; returns the files that are there."""
    there = set(store.names())
    settings = dump_config(config)
    if SETTINGS in there:
        if store.read(SETTINGS).decode() != settings:
            raise OutputError(
                f"{store.url} holds a data set of other settings (see {SETTINGS} there): take another folder."
            )
    elif any(name.endswith(".parquet") for name in there):
        raise OutputError(f"{store.url} holds other data: take another folder.")
    else:
        store.write(SETTINGS, settings.encode())
    return there


def _use_ray(engine: Engine) -> bool:
    return engine == "ray" or (engine == "auto" and bool(os.environ.get("RAY_ADDRESS")))


def _renderer(
    store: Store,
    config: DatasetConfig,
    execution: ExecutionConfig,
    model: str | None,
    gpus: int | None = None,
) -> ShardRenderer:
    device = str(choose_device(execution.device, gpus))
    return ShardRenderer(
        store, config, device, execution.batch_size or (4 if device == "cpu" else 128), model
    )


def _render_locally(
    store: Store, config: DatasetConfig, execution: ExecutionConfig, model: str | None, shards: list[Shard]
) -> Iterator[int]:
    renderer = _renderer(store, config, execution, model)
    workers = min(execution.workers or (available_cpus() if renderer.device == "cpu" else 1), len(shards))
    if workers <= 1:
        yield from map(renderer, shards)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (renderer,)) as pool:
        yield from pool.map(_run_worker, shards)


_worker: list[ShardRenderer] = []
"""The renderer of this worker process: it keeps its models and painted maps from shard to shard."""


def _start_worker(renderer: ShardRenderer) -> None:
    end_with_parent()
    _worker[:] = [renderer]


def _run_worker(shard: Shard) -> int:
    return _worker[0](shard)


def _render_on_ray(
    store: Store, config: DatasetConfig, execution: ExecutionConfig, model: str | None, shards: list[Shard]
) -> Iterator[int]:
    from pipeline.synth import on_ray

    if not shards:
        return
    with on_ray.cluster() as (cpus, gpus):
        renderer = _renderer(store, config, execution, model, int(gpus))
        workers = execution.workers or int(cpus if renderer.device == "cpu" else gpus)
        yield from on_ray.render(renderer, shards, min(workers, len(shards)), cpus)
