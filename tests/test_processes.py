"""The pool of worker processes."""

import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import psutil
import pytest

from pipeline.processes import worker_pool

PARENT = """
import sys, time
sys.path.insert(0, {folder!r})
from pipeline.processes import worker_pool
import test_processes

if __name__ == "__main__":
    with worker_pool(2, test_processes.make_counter, 0) as submit:
        print(submit(1).result()[1], flush=True)
        time.sleep(600)
"""


def make_counter(start):
    """Returns a function that adds up what it is given, and says in which process."""
    total = [start]

    def add(number):
        total[0] += number
        return total[0], os.getpid()

    return add


def refuse():
    raise LookupError("no model here")


def die():
    signal.raise_signal(signal.SIGKILL)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    return "still here"


def test_a_worker_is_made_once_and_keeps_what_it_has():
    with worker_pool(1, make_counter, 10) as submit:
        found = [submit(number).result() for number in (1, 2, 3)]
    assert [total for total, _ in found] == [11, 13, 16]
    assert len({process for _, process in found} - {os.getpid()}) == 1


def test_what_cannot_be_made_is_told_by_the_tasks():
    with worker_pool(1, refuse) as submit, pytest.raises(LookupError, match="no model"):
        submit().result()


def test_a_worker_that_dies_breaks_the_pool():
    with worker_pool(1, partial, die) as submit, pytest.raises(BrokenProcessPool):
        submit().result()


def test_workers_leave_ctrl_c_to_their_parent():
    with worker_pool(1, partial, interrupt) as submit:
        assert submit().result() == "still here"


def test_an_error_in_the_block_ends_workers_that_are_at_work():
    def leave():
        with worker_pool(1, partial, signal.pause) as submit:
            submit()
            raise KeyError

    with pytest.raises(KeyError):
        leave()


def test_workers_end_with_a_parent_that_is_killed_and_leave_no_file(tmp_path):
    command = [sys.executable, "-c", PARENT.format(folder=os.path.dirname(__file__))]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        assert list(tmp_path.iterdir())
        parent.kill()
        worker.wait(60)
    assert list(tmp_path.iterdir()) == []
