"""Workers: how many there is room for, pools of them, and that processes end with the one above."""

import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.util import get_temp_dir
from typing import Any, TypeVar

R = TypeVar("R")
T = TypeVar("T")


def available_cpus() -> int:
    """Returns the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_ahead(submit: Callable[[T], Future[R]], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Yields results in order, `ahead` items in advance; `Executor.map` would take in everything at once."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(submit(item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


@contextmanager
def worker_pool(
    workers: int, make: Callable[..., Callable[..., R]], *arguments: Any, preload: Sequence[str] = ()
) -> Iterator[Callable[..., Future[R]]]:
    """Opens a pool of processes of one thread each, which leave Ctrl-C to this process and end with it.

    `make` is called once in every worker; what it returns does the tasks. An error of it is raised by the
    tasks: from a worker that is starting it would look like its death. `preload` names modules to import once
    for all workers.

    Yields:
        A function that hands a task's arguments to a worker and returns the future result, which raises
        `BrokenProcessPool` where workers have died. After an error in the block they are ended at once.
    """
    # Not plain fork: this process may have threads. The fork server imports modules once for all workers.
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        context.set_forkserver_preload(list(preload))
    get_temp_dir()  # made now, so that every worker knows it
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _start_worker, (make, arguments))
    try:
        yield partial(pool.submit, _work)
    except BaseException:
        # What the workers still do is of no use to anyone.
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_function: Callable[..., Any] | Exception | None = None
"""What does the tasks of this worker, or why there is nothing."""


def _start_worker(make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    global _function  # noqa: PLW0603 - the process's own, made once
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent handles it
    end_with_parent()
    # One process per core: further threads would only wait for each other.
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of what is imported later
    try:
        _function = make(*arguments)
    except Exception as error:
        _function = error


def _work(*arguments: Any) -> Any:
    if isinstance(_function, Exception):
        raise _function
    assert _function is not None
    return _function(*arguments)


class _NoPandas:
    @staticmethod
    def find_spec(name: str, *_: Any) -> None:
        if name == "pandas":
            raise ImportError


def leave_out_pandas() -> None:
    """Keeps pyarrow from importing pandas in this process to make its first array.

    That takes half a second and 50 MB. For programs of our own: a pandas.Series is no array to pyarrow then.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([0])  # pyarrow looks once
    finally:
        sys.meta_path.remove(_NoPandas)


def end_with_parent() -> None:
    """Ends this process as soon as its parent is gone; the first thing that a worker calls.

    A parent that was killed can no longer stop its workers: they would work on, or wait for ever. Nor can it
    remove its temporary folder, which a worker therefore does.
    """
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # The folder of the sockets between them, which a process that ends by itself removes.
        shutil.rmtree(get_temp_dir(), ignore_errors=True)
        os._exit(1)
