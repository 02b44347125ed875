"""Worker processes: how many there is room for, and that they end with the process which started them."""

from __future__ import annotations

import multiprocessing
import os
import threading


def available_cpus() -> int:
    """Returns the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Ends this process as soon as its parent is gone; the first thing that a worker calls.

    A parent that was killed can no longer stop its workers: they would work on, or wait for ever.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
