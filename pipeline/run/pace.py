"""How quickly a run goes, and how long it will take: the same for the bar, `facet status` and the summary."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pipeline.words import clock, rate

STEP = 60.0
STEPS = 60
"""The rate is that of the last hour: the time is marked once a minute."""


@dataclass(frozen=True)
class Pace:
    """How quickly photos are done, as it was when the last one was.

    Attributes:
        images: Photos that the session has done.
        found: Name of what was found in them -> number.
        per_second: Photos a second.
        left: Photos of the run that were not done.
    """

    images: int
    found: Mapping[str, int]
    per_second: float
    left: int

    @classmethod
    def together(cls, paces: Sequence[Self]) -> Self | None:
        """Returns the pace of sessions that work at the same time, None where there is none."""
        if not paces:
            return None
        found = sum((Counter(pace.found) for pace in paces), Counter())
        images, per_second = sum(pace.images for pace in paces), sum(pace.per_second for pace in paces)
        return cls(images, dict(found), per_second, min(pace.left for pace in paces))

    def seconds_left(self, since: float) -> float:
        """Returns the seconds until all is done, some seconds after the last photo was.

        Between two results it goes down as a clock does, and does not grow by the waiting.
        """
        return max(self.left / self.per_second - since, 0.0)

    def words(self, since: float) -> tuple[str, str]:
        """Returns the rate and the time left, in words; the time may be over before all is done."""
        seconds = self.seconds_left(since)
        late = "should be done by now" if self.left else "all done"
        rest = f"{clock(seconds)} left" if round(seconds) else late
        return rate_text(self.images, self.found, self.per_second), rest


class Meter:
    """Measures the pace of a session.

    Args:
        now: Tells the time, in seconds.
    """

    def __init__(self, now: Callable[[], float]):
        self._now = now
        self._images = 0
        self._found: Counter[str] = Counter()
        self.begin()

    def begin(self) -> None:
        """Lets the time begin now, unless photos are done already."""
        if not self._images:
            self._last = self._now()
            self._marks = deque([(self._last, 0)], maxlen=STEPS + 1)

    def add(self, images: int, found: Mapping[str, int]) -> None:
        """Notes that photos are done."""
        self._images += images
        self._found.update(found)
        self._last = self._now()
        if self._last - self._marks[-1][0] >= STEP:
            self._marks.append((self._last, self._images))

    @property
    def since(self) -> float:
        """Seconds since the last photo was done."""
        return self._now() - self._last

    def pace(self, left: int) -> Pace | None:
        """Returns the pace, with so many photos left; None before one is done."""
        if not self._images:
            return None
        began, before = self._marks[0]
        per_second = (self._images - before) / max(self._last - began, 1e-9)
        return Pace(self._images, dict(self._found), per_second, left)


def rate_text(images: int, found: Mapping[str, int], per_second: float) -> str:
    """Returns a rate with what was found in these photos: "22 photos and 25 faces a second"."""
    each = ((name, number / max(images, 1)) for name, number in found.items())
    also = (f" and {rate(number * per_second)} {name}" for name, number in each)
    return f"{rate(per_second)} photos{''.join(also)} a second"
