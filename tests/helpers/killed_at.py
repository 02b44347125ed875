"""Runs a command line that dies by SIGKILL as it is about to make a file under some name.

python -m killed_at records/shard-00002.parquet jobs.normals photos out --engine local
"""

import os
import re
import runpy
import signal
import subprocess
import sys

EVENTS = {"os.rename": 1, "os.link": 1}
"""What gives a finished file its name (see `pipeline.storage.store`), and which argument is the name."""


def kill_at(name: str, *command: str) -> None:
    """Runs a module with arguments as a process of its own that is killed at a file.

    Args:
        name: Regular expression that is searched in the path of the file that is about to appear.
        command: The module and its arguments.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-m", "killed_at", name, *command],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def _main() -> None:
    name, module, *sys.argv[1:] = sys.argv[1:]

    def before(event: str, arguments: tuple) -> None:
        if event in EVENTS and re.search(name, os.fspath(arguments[EVENTS[event]])):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(before)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
