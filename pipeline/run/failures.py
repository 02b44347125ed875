"""The limit on failures: a run that is going wrong is stopped with the reasons."""

from pipeline.errors import FailureLimitError
from pipeline.run.config import EngineConfig
from pipeline.run.counts import Counts

SHARE_COUNTS_FROM = 1000
"""Records that must be there before a share of failures counts: the first few tell little."""


def check_failures(counts: Counts, config: EngineConfig) -> None:
    """Checks what a run adds up to so far.

    The counts are those of the whole run, earlier sessions included.

    Raises:
        FailureLimitError: There are more failures than allowed.
    """
    limit = config.max_failures
    if limit is None or not is_exceeded(counts, limit):
        return
    raise FailureLimitError(
        f"{counts.failures:,} of {counts.records:,} failed, and engine.max_failures is {limit}. What "
        "is committed stays valid; with a higher limit the same command goes on.",
        counts=counts,
    )


def is_exceeded(counts: Counts, limit: str) -> bool:
    """Whether there are more failures than a limit such as "5%" or "200" allows."""
    if limit.endswith("%"):
        return (
            counts.records >= SHARE_COUNTS_FROM and counts.failures > counts.records * float(limit[:-1]) / 100
        )
    return counts.failures > int(limit)
