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
    if limit is None:
        return
    most = int(limit) if limit.isdigit() else counts.records * float(limit[:-1]) / 100
    if counts.failures > most and (limit.isdigit() or counts.records >= SHARE_COUNTS_FROM):
        raise FailureLimitError(
            f"{counts.failures:,} of {counts.records:,} failed, and engine.max_failures is {limit}. What "
            "is committed stays valid; with a higher limit the same command goes on.",
            counts=counts,
        )
