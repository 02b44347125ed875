"""Data sets of rendered faces: Parquet shards of a fixed range of samples each.

A shard is written as a whole or not at all, under a name that tells its samples, so a run that was
interrupted goes on with the shards that are missing. Every sample depends on seed and index alone: it does
not matter who renders which shard.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from pydantic import Field

from pipeline.config import Section, dump_config, load_config
from pipeline.device import choose_device
from pipeline.errors import OutputError
from pipeline.processes import available_cpus, worker_pool
from pipeline.ray_cluster import cluster, has_cluster
from pipeline.storage.store import SCRATCH, Store
from pipeline.synth.shards import DatasetConfig, Shard, ShardRenderer, plan_shards

SETTINGS = "synth.yaml"
"""File of the data set that holds the settings it was made with."""

Engine = Literal["auto", "local", "ray"]


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


def write_dataset(
    output: str,
    config: DatasetConfig,
    execution: ExecutionConfig | None = None,
    model: str | None = None,
    on_progress: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Renders a data set, or what is missing of it.

    `on_progress` is called with the number of samples of each shard that is there.

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
    return engine == "ray" or (engine == "auto" and has_cluster())


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
    # Every worker keeps a copy of the renderer, with its models and painted maps, from shard to shard.
    with worker_pool(workers, partial, renderer, preload=["pipeline.synth.shards"]) as submit:
        for rendered in [submit(shard) for shard in shards]:
            yield rendered.result()


def _render_on_ray(
    store: Store, config: DatasetConfig, execution: ExecutionConfig, model: str | None, shards: list[Shard]
) -> Iterator[int]:
    from pipeline.synth import on_ray

    if not shards:
        return
    with cluster() as (cpus, gpus):
        renderer = _renderer(store, config, execution, model, int(gpus))
        workers = execution.workers or int(cpus if renderer.device == "cpu" else gpus)
        yield from on_ray.render(renderer, shards, min(workers, len(shards)), cpus)
