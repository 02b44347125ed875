"""Items in a process of their own: one that makes native code crash, hang or eat memory costs only itself.

Decoders and detectors are native code that reads untrusted bytes: no `except` catches what happens there.
So a worker has a child process (`pipeline.run.isolate_child`) for every stage that is isolated, and
it gets one item at a time. A child that crashes or is late is replaced and the item tried again, since the
reason may lie elsewhere; at the last attempt it gets its record, and the next item its turn.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from contextlib import suppress
from typing import Any

import cv2

from pipeline.errors import OUT_OF_MEMORY, CrashError, FacetError
from pipeline.run.config import LimitsConfig
from pipeline.run.isolate_child import NO_MEMORY_STATUS
from pipeline.run.items import Item
from pipeline.run.recipe import Stage

log = logging.getLogger(__name__)

MODULE = "pipeline.run.isolate_child"

START_SECONDS = 300.0
"""A child that is not ready after this time never will be."""

START_ATTEMPTS = 3

ENDING_SECONDS = 10.0
"""Time for a process to end after its pipes have closed."""


class Isolated:
    """A stage in a child process, which starts at once.

    An item may take as much time for each of its photos as the limits say.
    """

    def __init__(self, stage: Stage, arguments: tuple[Any, ...], limits: LimitsConfig):
        self._name = stage.name
        self._limits = limits
        memory = None if limits.photo_memory_mb is None else limits.photo_memory_mb << 20
        self._setup = memory, cv2.getNumThreads(), pickle.dumps((stage.make, arguments), protocol=5)
        self._child: Child | None = Child(*self._setup)

    def __call__(self, item: Item) -> None:
        """Works on one item.

        Raises:
            CrashError: It made the process crash, hang or run out of memory at every attempt.
            FacetError: The process cannot start, or what the stage raised.
        """
        seconds = self._limits.photo_seconds
        if seconds is not None:
            seconds *= len(item.photos)
        fault = CrashError("Not tried.")
        for _ in range(self._limits.attempts):
            child = self._ready_child()
            answer = child.ask((seconds, item), seconds)
            if answer is not DIED and not _lacked_memory(answer):
                if child.late:
                    self._replace()
                return _take(item, answer)
            fault = self._explain(child, answer, seconds)
            log.debug("%s: %s %s", item.record["uri"], fault.message, " | ".join(child.last_words()))
            self._replace()  # memory that was short in this one may be there in a fresh one
        raise fault

    def close(self) -> None:
        """Ends the child process."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _replace(self) -> None:
        self.close()
        self._child = Child(*self._setup)

    def _ready_child(self) -> Child:
        for _ in range(START_ATTEMPTS):
            if self._child is None or not self._child.alive:
                self._replace()
            assert self._child is not None
            if self._child.wait_ready():
                return self._child
        assert self._child is not None
        words = self._child.last_words()
        raise FacetError(
            f"The process of the stage {self._name} cannot start: "
            f"{words[-1] if words else self._child.ending()}. With too small a limits.photo_memory_mb it has "
            "no room.",
            "worker_died",
        )

    def _explain(self, child: Child, answer: Any, seconds: float | None) -> CrashError:
        limits = self._limits
        if child.late or child.returncode == -signal.SIGALRM:
            return CrashError(
                f"The stage {self._name} took longer than {seconds:g} s (limits.photo_seconds).", "timeout"
            )
        if answer is not DIED or child.returncode == NO_MEMORY_STATUS:
            return CrashError(
                f"The stage {self._name} needs more than {limits.photo_memory_mb:,} MB "
                "(limits.photo_memory_mb)."
                if limits.photo_memory_mb is not None
                else "There was not enough memory for this photo.",
                OUT_OF_MEMORY,
            )
        if child.returncode == -signal.SIGKILL:
            return CrashError(
                "The process that worked on this photo was killed, as systems do that run out of memory.",
                OUT_OF_MEMORY,
            )
        return CrashError(f"The stage {self._name} ended the process that did it ({child.ending()}).")


def _lacked_memory(answer: tuple[Item, FacetError | None, str]) -> bool:
    error = answer[1]
    return error is not None and error.code == OUT_OF_MEMORY


def _take(item: Item, answer: tuple[Item, FacetError | None, str]) -> None:
    """Takes over what the child made of an item, or raises why it could not."""
    changed, error, trace = answer
    item.record, item.handed_on = changed.record, changed.handed_on
    if error is not None:
        if trace:
            error.add_note(trace)
        raise error


class Child:
    """One child process.

    Args:
        memory: Bytes that it may take; None: any.
        threads: Threads of OpenCV.
        stage: Pickled (make, arguments) of the stage.

    Attributes:
        late: Whether it was killed because the time for an answer was over.
    """

    def __init__(self, memory: int | None, threads: int, stage: bytes):
        self.late = False
        self._ready = False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # -P: never from the working directory, which may be a folder of photos. What else this process
        # finds modules in, the child does too, be it from a Ray runtime environment.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        # Also when nobody closes it: by garbage collection or at the end of this process.
        self.close = weakref.finalize(self, _end, self._process, self._stderr)
        with suppress(OSError):  # it died at once, as `wait_ready` will find
            pickle.dump((memory, threads, stage), self._requests, protocol=5)
            self._requests.flush()

    @property
    def alive(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status, -N after signal N; None while it is running."""
        return self._process.returncode

    def wait_ready(self) -> bool:
        """Waits until it can take items; False when it died before.

        Raises:
            FacetError: It says why it never will.
        """
        if not self._ready:
            answer = self.ask(None, START_SECONDS)
            if isinstance(answer, FacetError):
                raise answer
            self._ready = answer is None
        return self._ready

    def ask(self, message: Any, seconds: float | None) -> Any:
        """Sends a message and waits for the answer.

        Args:
            message: What to send; None: nothing, an answer comes of itself.
            seconds: Time for the answer, after which the process is killed; None: any.

        Returns:
            The answer, or `DIED`; the process has ended then.
        """
        timer = threading.Timer(seconds, self._kill_late) if seconds is not None else None
        try:
            if timer:
                timer.daemon = True
                timer.start()
            if message is not None:
                pickle.dump(message, self._requests, protocol=5)
                self._requests.flush()
            return pickle.load(self._answers)  # noqa: S301 - made by our own child
        except (EOFError, OSError, pickle.UnpicklingError):
            self._wait_for_end()
            return DIED
        except BaseException:
            self.close()  # the answer that is still to come would be taken for the next item's
            raise
        finally:
            if timer and timer.ident is not None:  # an interrupt may come before it has begun
                timer.cancel()
                timer.join()  # from here on nothing kills the process any more

    def ending(self) -> str:
        """Returns how the process ended, in words."""
        status = self.returncode
        if status is None:
            return "running"
        if status >= 0:
            return f"exit status {status}"
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal {-status}"

    def last_words(self) -> list[str]:
        """Returns the last lines that it wrote to stderr."""
        size = os.fstat(self._stderr.fileno()).st_size
        text = os.pread(self._stderr.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]

    def _wait_for_end(self) -> None:
        try:
            self._process.wait(ENDING_SECONDS)  # its pipes close a little earlier
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _kill_late(self) -> None:
        self.late = True
        self._process.kill()


class _Died:
    """Stands for the answer of a process that gave none."""


DIED = _Died()


def _end(process: Any, stderr: Any) -> None:
    process.kill()
    process.wait()
    for file in (process.stdin, process.stdout, stderr):
        with suppress(OSError):  # what was not sent yet cannot be any more
            file.close()
