"""Progress of a run: a bar in a terminal, one plain line every 30 seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from pipeline.run.counts import Counts


class Progress(AbstractContextManager["Progress"]):
    """Shows how far a run is.

    Args:
        total: Photos of the plan.
        done: What earlier sessions of the run have done.
        stream: Where to write; stderr by default, so that stdout stays the summary's.
        clock: Seconds, monotonic.
        interval: Seconds between two plain lines.
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
        self._total = total
        self._before = done.images
        self._counts = Counts()
        self._counts += done
        self._stream = stream or sys.stderr
        self._clock = clock
        self._interval = interval
        self._start = clock()
        self._bar: Bar | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if self._stream.isatty():
            columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
            self._bar = Bar(*columns, console=Console(file=self._stream), transient=True)
            self._bar.start()
            self._bar.add_task("starting", total=self._total, completed=self._before)
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

    def add(self, counts: Counts) -> None:
        """Notes that more photos are done."""
        self._counts += counts
        if self._bar:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self._counts.images, description=self._details())

    def line(self) -> str:
        """Returns the present state as one line."""
        return f"{self._counts.images:,}/{self._total:,} images, {self._details()}"

    def _details(self) -> str:
        now = self._counts.images - self._before
        rate = now / max(self._clock() - self._start, 1e-9)
        left = _duration((self._total - self._counts.images) / rate) if now else "?"
        return (
            f"{rate:.1f} images/s, {self._counts.faces:,} faces, {self._counts.failures:,} failed, "
            f"{left} left"
        )

    def _write_lines(self) -> None:
        while not self._stop.wait(self._interval):
            print(self.line(), file=self._stream, flush=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
