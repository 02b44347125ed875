"""The local engine: the stages on this machine's own cores, without Ray.

A handful of photos is worked on in this process, since starting others takes longer than the work. More
photos are shared out, chunk by chunk, among single-threaded processes, one per core: dlib holds Python's
global lock while it detects, so threads would not help.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

from pipeline.errors import FacetError
from pipeline.processes import available_cpus, leave_out_pandas, worker_pool
from pipeline.run import logs
from pipeline.run.counts import Counts
from pipeline.run.ledger import Ledger, chunk_refs
from pipeline.run.shards import commit_shard
from pipeline.run.stages import AllStages, Written
from pipeline.run.work import Work

log = logging.getLogger(__name__)

MAX_LOSSES = 3
"""A task that has lost its worker so often ends the run."""


def run_local(work: Work, shards: list[int], on_chunk: Callable[[Counts], None]) -> None:
    """Carries out some shards of a run.

    Raises:
        FacetError: The run cannot go on; committed shards stay valid.
    """
    items = sum(work.plan.shard_items(shard) for shard in shards)
    chunks = sum(work.plan.shard_chunks(shard) for shard in shards)
    workers = min(work.config.engine.cpus or available_cpus(), chunks)
    if workers <= 1 or items <= work.config.engine.in_process_up_to:
        _run_in_process(work, shards, on_chunk)
    else:
        _run_in_pool(work, shards, on_chunk, workers)


@dataclass(frozen=True)
class _Task:
    """A chunk to work on, or a shard to commit when there are counts."""

    shard: int
    chunk: int
    counts: Counts | None = field(default=None, compare=False)


def _run_in_process(work: Work, shards: list[int], on_chunk: Callable[[Counts], None]) -> None:
    ledger = Ledger(work.plan)
    with closing(AllStages(work)) as stages:
        for shard, chunk in chunk_refs(work.plan, shards):
            counts = stages(shard, chunk).counts
            on_chunk(counts)
            if total := ledger.add(shard, chunk, counts):
                commit_shard(work, shard, total)
                logs.shard_committed(shard, total)


def _run_in_pool(work: Work, shards: list[int], on_chunk: Callable[[Counts], None], workers: int) -> None:
    ledger = Ledger(work.plan)
    tasks = (_Task(shard, chunk) for shard, chunk in chunk_refs(work.plan, shards))
    first: deque[_Task] = deque()  # to be done before the others: shards to commit, and what was lost
    losses: Counter[_Task] = Counter()
    pending: dict[Future[Written | None], _Task] = {}
    preload = ["pipeline.run.stages", *work.recipe.preload]

    def work_off(submit: Callable[[_Task], Future[Written | None]]) -> None:
        while True:
            # Two tasks per worker keep all busy; the rest of the list waits where it takes no memory.
            while len(pending) < 2 * workers:
                if not first:
                    first.extend(islice(tasks, 1))
                if not first:
                    break
                pending[submit(first[0])] = first[0]
                first.popleft()
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                written = future.result()
                task = pending.pop(future)
                if task.counts is not None:
                    logs.shard_committed(task.shard, task.counts)
                if written is not None:
                    on_chunk(written.counts)
                    if total := ledger.add(written.shard, written.chunk, written.counts):
                        first.append(_Task(written.shard, -1, total))

    while True:
        pending.clear()
        with worker_pool(workers, _Worker, work, logs.writes_json(), preload=preload) as submit:
            try:
                work_off(submit)
            except BrokenProcessPool as error:
                # Which of them was its worker's end nobody knows: all are done again.
                first.extendleft(pending.values())
                losses.update(pending.values())
                if max(losses.values(), default=0) >= MAX_LOSSES:
                    raise FacetError(
                        "Worker processes die again and again, perhaps for want of memory; what is committed "
                        "is safe, and the same command goes on from there. A smaller engine.cpus takes less "
                        "memory.",
                        "worker_died",
                    ) from error
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

    def __call__(self, task: _Task) -> Written | None:
        if task.counts is not None:
            commit_shard(self._work, task.shard, task.counts)
            return None
        return self._stages(task.shard, task.chunk)
