"""A run on a cluster with GPUs as a Ray Data graph, from top to bottom: the cores feed the GPUs.

    shards -> read -> the recipe's stages -> write -> driver -> commit

From `read` on every row is one chunk of photos, pickled. The driver sees
counts alone, and has every shard committed whose chunks are all written. All stages are pools of actors:
Ray ends the processes of plain tasks as soon as they are idle on a full machine, and a new one takes
seconds to import what it needs.
"""

import logging
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Dataset, ExecutionResources

from pipeline.errors import FacetError
from pipeline.run import logs
from pipeline.run.counts import Counts
from pipeline.run.engines.resources import IO_CPUS, Shares
from pipeline.run.items import Chunk
from pipeline.run.ledger import Ledger
from pipeline.run.shards import commit_shard
from pipeline.run.stages import Reader, RecipeStage, WriteStage, Written
from pipeline.run.work import Work

QUEUE_BYTES = 32 << 20
"""Object store memory per core for what waits between stages: a few chunks."""

BACKPRESSURE = 10.0
"""A stage waits when its queue is so many times what the next one has in work. `QUEUE_BYTES` bounds memory
already, so this may be loose: cores that end their chunks together should not wait for a GPU that keeps up.
Ray's default has changed from 10 to 2. Before a pretended GPU 8 pretended cores, on a busy machine, did 14.3
photos a second at 10, 13.8 at 2 and 14.0 without, of 20: no difference, so it is the same in every Ray."""

Row = dict[str, Any]


def run_graph(  # noqa: PLR0917
    work: Work,
    shards: list[int],
    on_chunk: Callable[[Counts], None],
    on_shard: Callable[[Counts], None],
    shares: Shares,
    cpus: float,
    reader: Reader,
) -> None:
    """Carries out some shards of a run.

    Args:
        work: The run.
        shards: The shards to do.
        on_chunk: Called with the counts of every chunk that is written.
        on_shard: Called with the counts of every shard that is committed, in any thread.
        shares: What each part of the graph takes.
        cpus: CPUs of the cluster.
        reader: Makes what reads photos.

    Raises:
        FacetError: The run cannot go on; committed shards stay valid.
    """
    with _context(cpus), ThreadPoolExecutor(4, "facet-commit") as commits:
        ledger = Ledger(work.plan)
        committers = cycle(_start_committers(work, shares))
        committed: list[Future[None]] = []
        for row in build_graph(work, shards, shares, reader).iter_rows():
            written: Written | FacetError = _from_row(row)
            if isinstance(written, FacetError):
                raise written
            on_chunk(written.counts)
            if total := ledger.add(written.shard, written.chunk, written.counts):
                committed.append(commits.submit(_commit, next(committers), written.shard, total, on_shard))
                committed = [future for future in committed if not future.done() or future.result()]
        for future in committed:
            future.result()


def build_graph(work: Work, shards: list[int], shares: Shares, reader: Reader) -> Dataset:
    """Returns the dataset whose rows are the written chunks of some shards."""
    # Ray's types know no arguments of functions and no classes with constructors: hence the ignores.
    rows = [{"shard": shard} for shard in shards]
    graph: Dataset = ray.data.from_items(rows, override_num_blocks=len(shards))
    graph = graph.flat_map(
        Read, fn_constructor_args=(work, reader), compute=_pool(shares.read_actors), num_cpus=IO_CPUS
    )
    for index, (stage, share) in enumerate(zip(work.recipe.stages, shares.stages, strict=True)):
        graph = graph.map(
            _step_of(stage.name),  # type: ignore[arg-type]
            fn_constructor_args=(work, index, ray.put(stage.arguments(work.config))),
            compute=_pool(share.actors),
            num_cpus=share.cpus,
            num_gpus=share.gpus or None,
        )
    return graph.map(
        Write,  # type: ignore[arg-type]
        fn_constructor_args=(work,),
        compute=_pool(shares.write_actors),
        num_cpus=IO_CPUS,
    )


class Read:
    """Actor that fetches photos."""

    def __init__(self, work: Work, reader: Reader):
        self._work = work
        self._stage = _make(reader, work)

    def __call__(self, row: Row) -> Iterator[Row]:
        """Yields the chunks of a shard as they are read."""
        for chunk in range(self._work.plan.shard_chunks(row["shard"])):
            try:
                yield _to_row(self._stage(row["shard"], chunk))
            except FacetError as error:
                yield _to_row(error)
                return


class Step:
    """Actor that carries out one stage of the recipe."""

    def __init__(self, work: Work, index: int, arguments: ray.ObjectRef):
        self._stage = _make(RecipeStage, work, index, ray.get(arguments))

    def __call__(self, row: Row) -> Row:
        """Takes a chunk through the stage."""
        return _carry_out(self._stage, row)


def _step_of(name: str) -> type[Step]:
    # In Ray's metrics and its dashboard a pool is called what its class is called.
    return type(name.capitalize(), (Step,), {})


class Write:
    """Actor that encodes and writes."""

    def __init__(self, work: Work):
        self._stage = _make(WriteStage, work)

    def __call__(self, row: Row) -> Row:
        """Takes a chunk through the stage."""
        return _carry_out(self._stage, row)


class Committer:
    """Actor that completes shards: the driver may be far from the storage."""

    def __init__(self, work: Work):
        self._work = work

    def commit(self, shard: int, counts: Counts) -> None:
        """Commits a shard whose chunks are all written."""
        commit_shard(self._work, shard, counts)


def _make(stage: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    # Of a constructor that fails Ray keeps the text alone. Raised by the first chunk, the error arrives.
    try:
        return stage(*arguments)
    except Exception as error:
        reason = error

    def fail(*_: Any) -> Any:
        raise reason

    return fail


def _carry_out(stage: Callable[..., Any], row: Row) -> Row:
    # What ends the run goes to the driver as a message does: of errors that stages raise, Ray Data keeps
    # the text alone.
    message = _from_row(row)
    if isinstance(message, FacetError):
        return row
    try:
        return _to_row(stage(message))
    except FacetError as error:
        return _to_row(error)


def _to_row(message: Chunk | Written | FacetError) -> Row:
    return {"message": pickle.dumps(message, protocol=5)}


def _from_row(row: Row) -> Any:
    return pickle.loads(row["message"])  # noqa: S301 - made by our own workers


def _pool(size: int) -> ActorPoolStrategy:
    # One chunk in work and one waiting: more would only hold memory.
    return ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2)


def _start_committers(work: Work, shares: Shares) -> list[Any]:
    actor = ray.remote(num_cpus=IO_CPUS, max_restarts=-1, max_task_retries=-1)(Committer)
    return [actor.remote(work) for _ in range(shares.commit_actors)]


def _commit(committer: Any, shard: int, counts: Counts, on_shard: Callable[[Counts], None]) -> None:
    ray.get(committer.commit.remote(shard, counts))
    logs.shard_committed(shard, counts)
    on_shard(counts)


@contextmanager
def _context(cpus: float) -> Iterator[None]:
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    # Rows are chunks: each becomes a block of its own, so that it goes on as soon as it is done.
    context.target_max_block_size = 1
    context.downstream_capacity_backpressure_ratio = BACKPRESSURE
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=QUEUE_BYTES * (cpus + 4)
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with DataContext.current(context):
        yield
