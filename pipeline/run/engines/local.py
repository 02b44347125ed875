"""The local engine: the stages on this machine's own cores, without Ray.

A handful of photos is worked on in this process, since starting others takes longer than the work. More
photos are shared out, chunk by chunk, among single-threaded processes, one per core: dlib holds Python's
global lock while it detects, so threads would not help.
"""

import logging
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing

from pipeline.processes import available_cpus, leave_out_pandas, worker_pool
from pipeline.run import logs
from pipeline.run.counts import Counts
from pipeline.run.engines.tasks import AT_ONCE, Task, Tasks
from pipeline.run.stages import AllStages, Written
from pipeline.run.work import Work

log = logging.getLogger(__name__)


def run_local(work: Work, shards: list[int], on_chunk: Callable[[Counts], None]) -> None:
    """Carries out some shards of a run.

    Raises:
        FacetError: The run cannot go on; committed shards stay valid.
    """
    items = sum(work.plan.shard_items(shard) for shard in shards)
    chunks = sum(work.plan.shard_chunks(shard) for shard in shards)
    workers = min(work.config.engine.cpus or available_cpus(), chunks)
    if workers <= 1 or items <= work.config.engine.in_process_up_to:
        _run_in_process(work, Tasks(work, shards, on_chunk))
    else:
        _run_in_pool(work, Tasks(work, shards, on_chunk), workers)


def _run_in_process(work: Work, tasks: Tasks) -> None:
    with closing(AllStages(work)) as stages:
        while task := tasks.take():
            tasks.done(task, task.carry_out(work, stages))


def _run_in_pool(work: Work, tasks: Tasks, workers: int) -> None:
    pending: dict[Future[Written | None], Task] = {}
    preload = ["pipeline.run.stages", *work.recipe.preload]

    def work_off(submit: Callable[[Task], Future[Written | None]]) -> None:
        while True:
            while len(pending) < AT_ONCE * workers and (task := tasks.take()):
                pending[submit(task)] = task
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                written = future.result()
                tasks.done(pending.pop(future), written)

    while True:
        with worker_pool(workers, _Worker, work, logs.writes_json(), preload=preload) as submit:
            try:
                work_off(submit)
            except BrokenProcessPool:
                # Which of them was its worker's end nobody knows: all are done again.
                tasks.lost(pending.values())
                pending.clear()
                log.warning("A worker process died, perhaps for want of memory; starting new ones.")
            else:
                return


class _Worker:
    """What every process of the pool does."""

    def __init__(self, work: Work, json_logs: bool):
        leave_out_pandas()
        logs.set_up(json_logs)
        self._work = work
        self._stages = AllStages(work)

    def __call__(self, task: Task) -> Written | None:
        return task.carry_out(self._work, self._stages)
