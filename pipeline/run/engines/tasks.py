"""The tasks of a run, chunks to work on and shards to commit, for engines that hand them to workers."""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pipeline.errors import FacetError
from pipeline.run import logs
from pipeline.run.counts import Counts
from pipeline.run.ledger import Ledger, chunk_refs
from pipeline.run.shards import commit_shard
from pipeline.run.stages import AllStages, Written
from pipeline.run.work import Work

AT_ONCE = 2
"""Tasks of a worker: one in work, and one that waits so that the worker need not."""

MAX_LOSSES = 3
"""A task that has lost its worker so often ends the run."""


@dataclass(frozen=True)
class Task:
    """A chunk to work on, or a shard to commit when there are counts."""

    shard: int
    chunk: int
    counts: Counts | None = field(default=None, compare=False)

    def carry_out(self, work: Work, stages: AllStages) -> Written | None:
        """Does it; returns what came of a chunk."""
        if self.counts is not None:
            commit_shard(work, self.shard, self.counts)
            return None
        return stages(self.shard, self.chunk)


class Tasks:
    """What is to be done, in order; the list itself takes no memory.

    Args:
        work: The run.
        shards: The shards to do.
        on_chunk: Called with the counts of every chunk that is written.
        on_shard: Called with the counts of every shard that is committed.
    """

    def __init__(
        self,
        work: Work,
        shards: Iterable[int],
        on_chunk: Callable[[Counts], None],
        on_shard: Callable[[Counts], None] = lambda counts: None,
    ):
        self._ledger = Ledger(work.plan)
        self._chunks = (Task(shard, chunk) for shard, chunk in chunk_refs(work.plan, shards))
        self._first: deque[Task] = deque()  # before all others: shards to commit, and what was lost
        self._losses: Counter[Task] = Counter()
        self._on_chunk, self._on_shard = on_chunk, on_shard

    def take(self) -> Task | None:
        """Returns what is to be done next; None: nothing, until something that was taken is done or lost."""
        return self._first.popleft() if self._first else next(self._chunks, None)

    def done(self, task: Task, written: Written | None) -> None:
        """Notes that a task is done, and what came of it."""
        if task.counts is not None:
            logs.shard_committed(task.shard, task.counts)
            self._on_shard(task.counts)
        if written is not None:
            self._on_chunk(written.counts)
            if total := self._ledger.add(written.shard, written.chunk, written.counts):
                self._first.append(Task(written.shard, -1, total))

    def lost(self, tasks: Iterable[Task]) -> None:
        """Notes that tasks have lost their workers, and has them done again.

        Raises:
            FacetError: One of them has lost too many.
        """
        tasks = list(tasks)
        self._first.extendleft(tasks)
        self._losses.update(tasks)
        if max(self._losses.values(), default=0) >= MAX_LOSSES:
            raise FacetError(
                "Worker processes die again and again, perhaps for want of memory; what is committed is "
                "safe, and the same command goes on from there. A smaller engine.cpus takes less memory.",
                "worker_died",
            )
