"""Peak memory of a command and of all processes that it starts, on Linux."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PlanError

INTERVAL_S = 0.25


def peak_memory(command: Sequence[str]) -> int:
    """Runs a command and returns the largest memory that its process tree held at one time, in bytes.

    Memory is the proportional set size: pages that processes share, such as Ray's object store, count once.

    Raises:
        PlanError: The command failed, or the system is not Linux.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise PlanError("Memory is measured on Linux only.")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(INTERVAL_S):
            peak = max(peak, tree_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        output, _ = process.communicate()
    finally:
        process.kill()
        done.set()
        watcher.join()
    if process.returncode:
        raise PlanError(f"`{' '.join(command)}` ended with {process.returncode}: {output.strip()[-500:]}")
    return peak


def tree_memory(root: int) -> int:
    """Returns the proportional set size in bytes of a process and all its descendants."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The command's name, in parentheses, may itself hold spaces and parentheses.
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
    tree = {root}
    while True:
        grown = tree | {pid for pid, parent in parents.items() if parent in tree}
        if grown == tree:
            return sum(map(_process_memory, tree))
        tree = grown


def _process_memory(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:  # ended meanwhile, or another user's
        pass
    return 0
