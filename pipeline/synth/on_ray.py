"""Rendering of shards on Ray: a pool of actors, each with its own renderer, fed with ranges of samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import ray

from pipeline.errors import FacetError
from pipeline.synth.shards import Shard, ShardRenderer

_ACTORS_SHARE = 0.75
"""Share of the CPUs that actors take. Tasks that feed them need the rest: Ray waits for ever without."""


def render(renderer: ShardRenderer, shards: Sequence[Shard], workers: int, cpus: float) -> Iterator[int]:
    """Renders shards; yields the number of samples of each as it is done.

    Args:
        renderer: What every actor does; it is sent to them before it has loaded anything.
        shards: The shards.
        workers: Number of actors.
        cpus: CPUs of the cluster.

    Raises:
        FacetError: What went wrong in an actor, with the error's own code.
    """
    on_gpu = renderer.device != "cpu"
    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ranges = [{"start": shard.start, "stop": shard.stop} for shard in shards]
    done = ray.data.from_items(ranges, override_num_blocks=len(ranges)).map_batches(
        _Actor,
        fn_constructor_args=(renderer,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        batch_size=1,
        batch_format="numpy",
        num_cpus=0 if on_gpu else _ACTORS_SHARE * cpus / workers,
        num_gpus=1 if on_gpu else None,
    )
    try:
        for batch in done.iter_batches(batch_size=1, batch_format="numpy"):
            if batch["error"][0]:
                raise FacetError(str(batch["error"][0]), str(batch["code"][0]))
            yield int(batch["count"][0])
    finally:
        context.enable_progress_bars = shown


class _Actor:
    """A `ShardRenderer` as `map_batches` wants it: columns in, columns out.

    Errors that are meant for the user travel as columns: Ray Data keeps of an exception no more than text.
    """

    def __init__(self, renderer: Callable[[Shard], int]):
        self._render = renderer

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list]:
        (start,), (stop,) = batch["start"].tolist(), batch["stop"].tolist()
        try:
            return {"count": [self._render(Shard(start, stop))], "error": [""], "code": [""]}
        except FacetError as error:
            return {"count": [0], "error": [error.message], "code": [error.code]}
