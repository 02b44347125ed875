"""Progress of a run and of a listing: a bar in a terminal, a plain line every 30 seconds elsewhere.

Where log lines are JSON, a line is an event `progress` or `listing`.
"""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar

from pipeline.images.items import ListedItem
from pipeline.run import logs
from pipeline.run.counts import Counts
from pipeline.run.pace import Meter, Pace
from pipeline.words import quantity, size_text

WAITING = "first results to come"


class Display(ABC):
    """Shows a state that changes, for as long as a `with` block lasts."""

    EVENT = "progress"

    def __init__(  # noqa: PLR0917
        self,
        stream: TextIO | None,
        interval: float,
        columns: Sequence[ProgressColumn],
        text: str,
        total: int | None = None,
        completed: int = 0,
    ):
        self._stream = stream or sys.stderr
        self._interval = interval
        self._columns = columns
        self._task: dict[str, Any] = {"description": text, "total": total, "completed": completed}
        self._bar: Bar | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty() and not logs.writes_json():
            console = Console(file=self._stream)
            text = TextColumn("{task.description}", markup=False)
            self._bar = Bar(*self._columns, text, console=console, transient=True)
            self._bar.start()
            self._bar.add_task(**self._task)
        else:
            self._thread = threading.Thread(target=self._write_lines, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        if self._bar:
            self._bar.stop()

    @abstractmethod
    def line(self) -> str:
        """Returns the present state as one line."""

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """Returns the present state as fields of an event."""

    def _update(self, text: str, completed: int | None = None) -> None:
        if self._bar:
            self._bar.update(self._bar.task_ids[0], description=text, completed=completed)

    def _write_lines(self) -> None:
        while not self._stop.wait(self._interval):
            if logs.writes_json():
                logs.event(self.EVENT, self.line(), **self.fields())
            else:
                print(self.line(), file=self._stream, flush=True)


class Progress(Display):
    """Shows how far a run is.

    `done` is what earlier sessions of the run have done.
    """

    def __init__(
        self,
        total: int,
        done: Counts,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 30.0,
    ):
        super().__init__(stream, interval, [BarColumn(), MofNCompleteColumn()], WAITING, total, done.images)
        self._total = total
        self._counts = Counts()
        self._counts += done
        self._meter = Meter(clock)
        self._waiting = WAITING

    @property
    def counts(self) -> Counts:
        """What is done, by this session and earlier ones."""
        return self._counts

    def add(self, counts: Counts) -> None:
        """Notes that more photos are done."""
        self._counts += counts
        self._meter.add(counts.images, counts.found)
        self._update(self._details(), self._counts.images)

    def workers(self, ready: int, asked: int) -> None:
        """Notes how many workers are ready of those that were asked for; until one is, nobody works."""
        self._meter.begin()
        self._waiting = f"{WAITING}, {ready} of {asked} workers ready"
        self._update(self._details(), self._counts.images)

    def line(self) -> str:
        return f"{self._counts.images:,}/{self._total:,} photos, {self._details()}"

    def fields(self) -> dict[str, Any]:
        pace = self.pace
        return {
            **logs.counted(self._counts),
            "total": self._total,
            "images_per_second": round(pace.per_second, 3) if pace else 0.0,
            "seconds_left": round(pace.seconds_left(self._meter.since)) if pace else None,
        }

    @property
    def pace(self) -> Pace | None:
        """How quickly this session goes; None before a photo is done."""
        return self._meter.pace(self._total - self._counts.images)

    def _details(self) -> str:
        pace = self.pace
        if pace is None:
            return self._waiting
        found = f"{logs.found_text(self._counts)}{self._counts.failures:,} failed"
        rate, rest = pace.words(self._meter.since)
        return f"{rate}, {found}, {rest}"


class ListingProgress(Display):
    """Shows how far a listing is; its end is not known."""

    EVENT = "listing"

    def __init__(self, *, stream: TextIO | None = None, interval: float = 10.0):
        super().__init__(stream, interval, [SpinnerColumn()], "listing the input")
        self._images = 0
        self._bytes = 0

    def count(self, listed: Iterable[ListedItem]) -> Iterator[ListedItem]:
        """Yields the items of a listing and counts their photos."""
        for number, item in enumerate(listed):
            self._images += len(item.photos)
            self._bytes += sum(photo.size or 0 for photo in item.photos)
            if number % 1000 == 0:
                self._update(self.line())
            yield item

    def line(self) -> str:
        return f"listing the input: {quantity(self._images, 'photo')}, {size_text(self._bytes)}"

    def fields(self) -> dict[str, Any]:
        return {"images": self._images, "bytes": self._bytes}
