"""The process in which an isolated stage works; see `pipeline.run.isolate`.

    python -P -m pipeline.run.isolate_child

On stdin it gets pickled messages: (memory, threads, stage), then (seconds, item) one after the other. It
answers with one on stdout: None or the reason why it cannot start, then (item, error, trace) for every item.
It ends when stdin does, that is, with its parent.
"""

import faulthandler
import os
import pickle
import resource
import signal
import traceback
from contextlib import suppress
from typing import Any, BinaryIO

from pipeline.errors import FacetError, portable_error

NO_MEMORY_STATUS = 77
"""Exit status when there is not even enough memory for saying so."""

PLAIN = (int, float, str)

GRACE_SECONDS = 30
"""Seconds beyond the time limit of an item after which a child ends itself: its parent must be gone."""


def main() -> None:
    """Serves items until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent handles it
    requests, answers = _take_pipes()
    faulthandler.enable()
    try:
        _serve(requests, answers)
    except MemoryError:
        os._exit(NO_MEMORY_STATUS)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError):
        os._exit(0)  # the parent is gone


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    # What libraries print must not get among the messages, and theirs is not to read from them.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return requests, answers


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    memory, threads, stage = pickle.load(requests)  # noqa: S301 - made by our own parent
    _limit(memory)
    import cv2

    cv2.setNumThreads(threads)
    try:
        make, arguments = pickle.loads(stage)  # noqa: S301
        run = make(*arguments)
    except FacetError as error:
        _send(answers, error)
        return
    _send(answers, None)
    while True:
        seconds, item = pickle.load(requests)  # noqa: S301
        _empty_stderr()
        _alarm(seconds)
        before = item.record.copy()
        reason, trace = None, ""
        try:
            run(item)
        except Exception as error:
            reason = portable_error(error)
            if reason is not error:
                trace = "".join(traceback.format_exception(error))
        for photo in item.photos:
            photo.data = None
        try:
            _send(answers, (item, reason, trace))
        except (AttributeError, TypeError, pickle.PicklingError) as error:  # of a detector of the user's
            plain = {name: value for name, value in item.record.items() if isinstance(value, PLAIN)}
            item.record, item.handed_on = before | plain, None
            _send(answers, (item, portable_error(error), ""))
        _alarm(None)


def _send(answers: BinaryIO, message: Any) -> None:
    answers.write(pickle.dumps(message, protocol=5))
    answers.flush()


def _limit(memory_bytes: int | None) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if memory_bytes is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        soft = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        with suppress(ValueError, OSError):  # macOS refuses it
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    # When the machine itself runs out of memory, an item goes before a worker, and that before the driver.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _alarm(seconds: float | None) -> None:
    # The parent keeps the time, but where it is gone while native code loops, nobody would. The kernel's
    # own action for this signal ends the process.
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE_SECONDS if seconds else 0)


def _empty_stderr() -> None:
    # It goes to a file that the parent reads after a crash: no more in it than is about the last item.
    with suppress(OSError):
        if os.fstat(2).st_size:
            os.ftruncate(2, 0)


if __name__ == "__main__":
    main()
