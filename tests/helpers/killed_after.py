"""A run in a process that is killed by SIGKILL once some chunks are written."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

RUN = """
import importlib, os, signal, sys
from pipeline.config import load_config
from pipeline.run.folder import RunRequest
from pipeline.run.job import run

chunks, module, source, out, *options = sys.argv[1:]
recipe = importlib.import_module(module).RECIPE
seen = []
def watch(counts):
    seen.append(counts)
    if len(seen) == int(chunks):
        os.kill(os.getpid(), signal.SIGKILL)

run(RunRequest(recipe, source, out, load_config(recipe.config, None, options)), watch=watch)
"""


def kill_after(chunks: int, module: str, source: Path, out: Path, options: Sequence[str]) -> None:
    """Runs the recipe of a module, and checks that it was killed."""
    command = [sys.executable, "-c", RUN, str(chunks), module, str(source), str(out), *options]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
