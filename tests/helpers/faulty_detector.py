"""A detector that meets photos which make native code crash, hang or eat memory.

It finds faces as the default one does, but for photos whose left upper corner has one of the colours of
`FAULTS`. Workers import it by its name: this folder has to be in PYTHONPATH.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import WeightsError
from pipeline.faces.detect import DetectConfig
from pipeline.faces.detectors import Detection, Detector, FastDetector

REFERENCE = "faulty_detector:make"


def segfault() -> None:
    ctypes.string_at(0)


def loop_for_ever() -> None:
    while True:
        pass


def hang_in_native_code() -> None:
    # With Python's global lock held: no thread of the process gets to run.
    ctypes.PyDLL(None).sleep(10**6)


def eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(np.empty(32 << 20, np.uint8))  # reserved: to touch it would take seconds


def end_badly() -> None:
    sys.exit(3)


def print_much() -> None:
    os.write(1, b"printed by native code " * 10_000)
    print("printed by Python " * 10_000)


def fail() -> None:
    raise ZeroDivisionError("odd")


def fail_for_all() -> None:
    raise WeightsError("gone")


FAULTS = {
    "segfault": segfault,
    "abort": os.abort,
    "loop": loop_for_ever,
    "hang": hang_in_native_code,
    "memory": eat_memory,
    "exit": end_badly,
    "print": print_much,
    "fail": fail,
    "fail_for_all": fail_for_all,
    "wait": lambda: wait_for_test(600),
    "linger": lambda: wait_for_test(5),
    "once": lambda: fail_once(Path(os.environ["FACET_TEST_ONCE"])),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the kernel does
}

CODES = {
    "segfault": "crashed",
    "abort": "crashed",
    "loop": "timeout",
    "hang": "timeout",
    "memory": "out_of_memory",
    "exit": "crashed",
    "fail": "detector_failed",
}
"""Fault -> error code of the photo's record."""


def wait_for_test(seconds: float) -> None:
    """Waits until the test removes its flag, but no longer than this."""
    flag = Path(os.environ.get("FACET_TEST_WAIT", "/nowhere"))
    end = time.monotonic() + seconds
    while flag.exists() and time.monotonic() < end:
        time.sleep(0.01)


def fail_once(flag: Path) -> None:
    if not flag.exists():
        flag.touch()
        os.abort()


def mark(image: np.ndarray, fault: str) -> np.ndarray:
    """Returns a photo with a fault's colour in its corner."""
    image = image.copy()
    image[:4, :4] = (255, 0, 100 + list(FAULTS).index(fault))
    return image


class Die:
    """A stage that kills the process that it is in."""

    def __call__(self, item: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def make() -> Detector:
    """The factory."""
    config = DetectConfig()
    detect = FastDetector(config.min_face_size, config.coarse_side, config.max_side, config.upsample_side)

    def find(image: np.ndarray) -> list[Detection]:
        red, green, blue = (int(value) for value in image[1, 1])
        number = blue - 100
        if (red, green) == (255, 0) and 0 <= number < len(FAULTS):
            list(FAULTS.values())[number]()
        return detect(image)

    return find


def make_slow() -> Detector:
    """A factory whose detector takes its time, so that there is some to end the processes of a run."""
    find = make()

    def find_slowly(image: np.ndarray) -> list[Detection]:
        time.sleep(0.15)
        return find(image)

    return find_slowly


def make_nothing() -> None:
    """A factory that returns no detector."""


def make_fault() -> Detector:
    """A factory that kills its process."""
    os.abort()
