"""Keeps track of which chunks are written, and says when a shard is complete."""

from collections.abc import Iterable, Iterator

from pipeline.run.counts import Counts
from pipeline.run.plan import Plan


class Ledger:
    """Collects the written chunks of a run, in any order."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._open: dict[int, dict[int, Counts]] = {}

    def add(self, shard: int, chunk: int, counts: Counts) -> Counts | None:
        """Notes a written chunk.

        Returns:
            What the whole shard adds up to when this was its last chunk, else None. Chunks are added up in
            their own order, so that the sum does not depend on the order in which they came.
        """
        chunks = self._open.setdefault(shard, {})
        chunks[chunk] = counts
        if len(chunks) < self._plan.shard_chunks(shard):
            return None
        total = Counts()
        for _, part in sorted(self._open.pop(shard).items()):
            total += part
        return total


def chunk_refs(plan: Plan, shards: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yields (shard, chunk) of every chunk of some shards, shard after shard."""
    for shard in shards:
        for chunk in range(plan.shard_chunks(shard)):
            yield shard, chunk
