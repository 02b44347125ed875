"""Rendering of shards on Ray: actors, each with its own renderer, that take one shard after the other."""

from collections.abc import Iterator, Sequence

import ray
from ray.exceptions import RayTaskError
from ray.util import ActorPool

from pipeline.errors import FacetError
from pipeline.synth.shards import Shard, ShardRenderer


def render(renderer: ShardRenderer, shards: Sequence[Shard], workers: int, cpus: float) -> Iterator[int]:
    """Renders shards; yields the number of samples of each as it is done.

    Actors are sent the renderer before it has loaded anything; one that is lost is started anew.

    Raises:
        FacetError: What went wrong in an actor, with the error's own code.
    """
    share = {"num_gpus": 1} if renderer.device != "cpu" else {"num_cpus": min(1.0, cpus / workers)}
    actor = ray.remote(max_restarts=-1, max_task_retries=-1, **share)(_Actor)
    pool = ActorPool([actor.remote(renderer) for _ in range(workers)])
    try:
        yield from pool.map_unordered(lambda one, shard: one.render.remote(shard), list(shards))
    except RayTaskError as error:
        if isinstance(error.cause, FacetError):
            raise error.cause from None
        raise


class _Actor:
    def __init__(self, renderer: ShardRenderer):
        self._renderer = renderer

    def render(self, shard: Shard) -> int:
        return self._renderer(shard)
