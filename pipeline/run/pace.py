"""How quickly a run goes, and how long it will take: the same for the bar, `facet status` and the summary."""

from datetime import datetime, timedelta

from pipeline.run.counts import Counts
from pipeline.words import clock, rate

RATE_WINDOW = timedelta(hours=1)
"""The rate is that of the last hour in which something was committed."""


def recent_rate(commits: list[tuple[datetime, int]], began: datetime) -> float | None:
    """Returns the photos a second of the last hour of work.

    Args:
        commits: (time, photos) of every committed shard, in the order of time.
        began: When the session began; what was committed before tells nothing about it.
    """
    if not commits:
        return None
    last = commits[-1][0]
    since = max(began, last - RATE_WINDOW)
    seconds = (last - since).total_seconds()
    return sum(images for time, images in commits if time > since) / seconds if seconds > 0 else None


def time_left(images: int, per_second: float, since: float) -> float:
    """Returns the seconds until so many photos are done, by the rate until so many seconds ago.

    Between two results it goes down as a clock does, and does not grow by the waiting.
    """
    return max(images / per_second - since, 0.0)


def left_text(images: int, seconds: float) -> str:
    """Returns the time that so many photos still take, in words; it may be over before they are done."""
    if not images:
        return "all done"
    return f"{clock(seconds)} left" if round(seconds) else "should be done by now"


def rate_text(counts: Counts, per_second: float) -> str:
    """Returns a rate with what was found in these photos: "22 photos and 25 faces a second"."""
    each = ((name, number / max(counts.images, 1)) for name, number in counts.found.items())
    found = (f" and {rate(number * per_second)} {name}" for name, number in each)
    return f"{rate(per_second)} photos{''.join(found)} a second"
