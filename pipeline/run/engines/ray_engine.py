"""The Ray engine: a run on a cluster.

Where networks run on CPUs, every core has one worker that takes a chunk through all stages: nothing but the
number of the chunk goes there and nothing but counts come back. Where they run on GPUs, `ray_graph` has the
cores feed them.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import ray
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RayError

from pipeline.errors import FacetError
from pipeline.processes import leave_out_pandas
from pipeline.ray_cluster import cluster
from pipeline.run.counts import Counts
from pipeline.run.engines.autoscale import requested
from pipeline.run.engines.metrics import RunMetrics
from pipeline.run.engines.resources import Share, plan_resources
from pipeline.run.engines.tasks import AT_ONCE, MAX_LOSSES, Task, Tasks
from pipeline.run.plan_photos import count_images
from pipeline.run.stages import AllStages, Reader, ReadStage, Written
from pipeline.run.work import Work
from pipeline.words import quantity

log = logging.getLogger(__name__)

LOST = (RayActorError, ObjectLostError, OutOfMemoryError)
"""What Ray raises for a task whose worker, or the machine it was on, is gone."""


def run_ray(
    work: Work,
    shards: list[int],
    on_chunk: Callable[[Counts], None],
    reader: Reader = ReadStage,
    on_workers: Callable[[int, int], None] = lambda ready, asked: None,
) -> None:
    """Carries out some shards of a run.

    Args:
        work: The run.
        shards: The shards to do.
        on_chunk: Called with the counts of every chunk that is written.
        reader: How photos are read.
        on_workers: Called with the workers that are ready and those that were asked for, as they get ready.

    Raises:
        PlanError: There is no cluster, or it cannot run what is asked.
        FacetError: The run cannot go on; committed shards stay valid.
    """
    engine, recipe = work.config.engine, work.recipe
    with cluster(engine.address, num_cpus=engine.cpus), requested(engine) as (cpus, gpus), _expected_errors():
        shares = plan_resources(cpus, gpus, engine, recipe.stages, recipe.device(work.config))
        metrics = RunMetrics(count_images(work.store, work.plan, shards))

        def note(counts: Counts) -> None:
            on_chunk(counts)
            metrics.add(counts)

        if shares.gpus:
            from pipeline.run.engines.ray_graph import run_graph  # takes a second to import, pandas too

            run_graph(work, shards, note, metrics.commit, shares, cpus, reader)
        else:
            with closing(Crew(work, shares.stages[0], reader, on_workers)) as crew:
                crew.work_off(Tasks(work, shards, note, metrics.commit))


class ChunkWorker:
    """Actor that takes chunks through all stages.

    Args:
        work: The run.
        reader: See `run_ray`.
        arguments: Of the recipe's stages.
    """

    def __init__(self, work: Work, reader: Reader, arguments: list[tuple[Any, ...]]):
        leave_out_pandas()
        self._work = work
        # Of a constructor that fails Ray keeps the text alone: `begin` says what happened.
        self._begin = partial(AllStages, work, reader, arguments)
        self._stages: AllStages | None = None

    def begin(self) -> FacetError | None:
        """Makes the stages; returns why it cannot."""
        try:
            self._stages = self._begin()
        except FacetError as error:
            return error
        return None

    def carry_out(self, task: Task) -> Written | FacetError | None:
        """Does a task; returns what came of it, or why the run has to end."""
        assert self._stages is not None
        try:
            return task.carry_out(self._work, self._stages)
        except FacetError as error:
            return error


class Crew:
    """The workers of a run, one per core.

    A worker gets tasks from when it is ready. One that is lost is replaced, on another machine if need be,
    and the others do what it had.

    Args:
        work: The run.
        share: How many workers, and what they take.
        reader: See `run_ray`.
        on_workers: See `run_ray`.
    """

    def __init__(self, work: Work, share: Share, reader: Reader, on_workers: Callable[[int, int], None]):
        self._on_workers, self._asked, self._ready = on_workers, share.actors, 0
        arguments = ray.put([stage.arguments(work.config) for stage in work.recipe.stages])
        actor = ray.remote(ChunkWorker).options(num_cpus=share.cpus, max_concurrency=AT_ONCE)
        self._make: Callable[[], Any] = partial(actor.remote, work, reader, arguments)
        self._pending: dict[Any, tuple[Any, Task | None]] = {}  # without a task: it begins
        self._free: list[Any] = []  # once for every task that it could take
        self._most_vain = MAX_LOSSES * share.actors
        self._vain = 0  # workers lost since any did something
        for _ in range(share.actors):
            self._start()

    def work_off(self, tasks: Tasks) -> None:
        """Has all tasks done.

        Raises:
            FacetError: One of them ended with it, or worker after worker is lost.
            RayError: The cluster failed.
        """
        while True:
            while self._free and (task := tasks.take()):
                worker = self._free.pop()
                self._pending[worker.carry_out.remote(task)] = worker, task
            if self._free and not any(task for _, task in self._pending.values()):
                return
            ray.wait(list(self._pending))
            ready, _ = ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
            for reference in ready:
                if reference in self._pending:  # else it went with its worker
                    self._take(reference, tasks)

    def close(self) -> None:
        """Ends all workers at once."""
        for worker in {*self._free, *(worker for worker, _ in self._pending.values())}:
            ray.kill(worker)

    def _start(self) -> None:
        worker = self._make()
        self._pending[worker.begin.remote()] = worker, None

    def _take(self, reference: Any, tasks: Tasks) -> None:
        worker, task = self._pending[reference]
        try:
            found = ray.get(reference)
        except LOST as error:
            self._vain += 1
            if self._vain > self._most_vain:
                raise
            had = self._drop(worker)
            log.warning(
                "Lost a worker%s (%s); another does its work, %s.",
                " with its machine" if "its node has died" in str(error) else "",
                type(error).__name__,
                quantity(len(had), "task"),
            )
            tasks.lost(had)
            self._start()
            return
        del self._pending[reference]
        if isinstance(found, FacetError):
            raise found
        self._vain = 0
        if task is None:
            self._free += [worker] * AT_ONCE
            self._ready += 1
            self._on_workers(min(self._ready, self._asked), self._asked)  # some replace lost ones
        else:
            self._free.append(worker)
            tasks.done(task, found)

    def _drop(self, worker: Any) -> list[Task]:
        """Forgets a worker; returns the tasks that it had."""
        had = {reference: task for reference, (whose, task) in self._pending.items() if whose == worker}
        for reference in had:
            del self._pending[reference]
        self._free = [other for other in self._free if other != worker]
        return [task for task in had.values() if task]


@contextmanager
def _expected_errors() -> Iterator[None]:
    """Turns errors of workers back into what they raised there."""
    try:
        yield
    except RayError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, FacetError):
                raise cause from None
            cause = getattr(cause, "cause", None) or cause.__cause__
        raise FacetError(f"Ray failed: {str(error).splitlines()[0]}", "engine_failed") from error
