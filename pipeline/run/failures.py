"""The limit on failures: a run that is going wrong is stopped with the reasons."""

from __future__ import annotations

from pipeline.errors import FailureLimitError
from pipeline.run.config import EngineConfig
from pipeline.run.counts import Counts


def check_failures(counts: Counts, config: EngineConfig) -> None:
    """Checks what a run adds up to so far.

    Args:
        counts: Counts of the whole run, earlier sessions included.
        config: Holds the limit. A number of photos counts from the first one on; a share only once
            `max_failures_after` photos are done, since the first few tell little.

    Raises:
        FailureLimitError: There are more failures than allowed.
    """
    limit = config.max_failures
    if limit is None or not is_exceeded(counts, limit, config.max_failures_after):
        return
    raise FailureLimitError(
        f"{counts.failures:,} of {counts.images:,} photos failed, and engine.max_failures is {limit}. What "
        "is committed stays valid; with a higher limit the same command goes on.",
        counts=counts,
    )


def is_exceeded(counts: Counts, limit: str, after: int) -> bool:
    """Whether there are more failures than a limit such as "5%" or "200" allows."""
    if limit.endswith("%"):
        return counts.images >= after and counts.failures > counts.images * float(limit[:-1]) / 100
    return counts.failures > int(limit)
