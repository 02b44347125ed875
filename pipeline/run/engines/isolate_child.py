"""The process in which photos are decoded and faces are found; see `pipeline.run.engines.isolate`.

    python -P -m pipeline.run.engines.isolate_child

On stdin it gets pickled messages: a `Setup`, then (URI, content) of one photo after the other. To each it
answers with one on stdout: None or the reason why it cannot start, then a `Found` for every photo. It ends
when stdin does, that is, with its parent.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.errors import FacetError

if TYPE_CHECKING:
    from pipeline.faces.detect import DetectConfig
    from pipeline.images.decode import DecodeConfig
    from pipeline.storage.places import StorageConfig

NO_MEMORY_STATUS = 77
"""Exit status when there is not even enough memory for saying so."""

GRACE_SECONDS = 30
"""A child that works on a photo for so much longer than it may ends itself: its parent is gone."""


@dataclass(frozen=True)
class Setup:
    """What the process is to do.

    Attributes:
        decode: How to decode.
        detect: How to find faces.
        threads: Threads of OpenCV.
        photo_seconds: After how long the parent gives a photo up; None: never.
        memory_bytes: Memory that the process may take; None: any.
        storage: How remote landmark files are reached.
    """

    decode: DecodeConfig
    detect: DetectConfig
    threads: int
    photo_seconds: float | None
    memory_bytes: int | None
    storage: StorageConfig | None = None


def main() -> None:
    """Serves photos until stdin ends."""
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
    setup: Setup = pickle.load(requests)  # noqa: S301 - made by our own parent
    _limit(setup.memory_bytes)
    import cv2

    from pipeline.faces.detect import FaceFinder
    from pipeline.run.photo import Found, crop_photo, portable_error

    cv2.setNumThreads(setup.threads)
    try:
        find_faces = FaceFinder(setup.detect, storage=setup.storage)
    except FacetError as error:
        _send(answers, error)
        return
    _send(answers, None)
    while True:
        uri, data = pickle.load(requests)  # noqa: S301
        _empty_stderr()
        _alarm(setup.photo_seconds)
        found = crop_photo(uri, data, setup.decode, find_faces)
        del data
        try:
            _send(answers, found)
        except (AttributeError, TypeError, pickle.PicklingError) as error:  # of a detector of the user's
            _send(answers, Found(found.width, found.height, error=portable_error(error)))
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
    # When the machine itself runs out of memory, a photo goes before a worker, and that before the driver.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _alarm(photo_seconds: float | None) -> None:
    # The parent keeps the time, but where it is gone while native code loops, nobody would. The kernel's
    # own action for this signal ends the process.
    signal.setitimer(signal.ITIMER_REAL, photo_seconds + GRACE_SECONDS if photo_seconds else 0)


def _empty_stderr() -> None:
    # It goes to a file that the parent reads after a crash: no more in it than is about the last photo.
    with suppress(OSError):
        if os.fstat(2).st_size:
            os.ftruncate(2, 0)


if __name__ == "__main__":
    # `Setup` is pickled by that name.
    sys.modules["pipeline.run.engines.isolate_child"] = sys.modules["__main__"]
    main()
