"""What a command and all processes below it take: wall time, CPU time and memory, on Linux."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PlanError

INTERVAL_S = 0.2

LOOKS_AT_MEMORY = 5
"""Memory is looked at every so many intervals, since the kernel takes milliseconds to add it up."""

RAYS_OWN = re.compile(rb"/ray/(core|_private|dashboard|autoscaler)/|^ray::IDLE")
"""Command lines of Ray's own processes: servers, agents, and workers that nobody has asked for yet."""


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        seconds: Wall time.
        cpu_s: CPU time of all processes.
        peak_bytes: Most memory of all processes at once, without Ray's own.
        rays_bytes: Memory of Ray's own processes at that time, its object store included.
        largest_bytes: Most memory of a single process but Ray's own.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    rays_bytes: int
    largest_bytes: int


def run_command(command: Sequence[str]) -> Usage:
    """Runs a command, with what it prints kept for the case that it fails.

    Raises:
        PlanError: It failed, or the system is not Linux.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise PlanError("What a command takes is measured on Linux only.")
    start = time.perf_counter()
    ticks: dict[int, int] = {}
    peak, rays, largest, looks = 0, 0, 0, 0
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        while process.poll() is None:
            tree = process_tree(process.pid)
            ticks.update(tree)
            if looks % LOOKS_AT_MEMORY == 0:
                ours, own = tree_memory(tree)
                if sum(ours) > peak:
                    peak, rays = sum(ours), own
                largest = max(largest, *ours, 0)
            looks += 1
            with suppress(subprocess.TimeoutExpired):
                process.wait(INTERVAL_S)
        if process.wait():
            output.seek(0)
            said = output.read().decode(errors="replace").strip()[-500:]
            raise PlanError(f"`{' '.join(command)}` ended with {process.returncode}: {said}")
        seconds = time.perf_counter() - start
    return Usage(seconds, sum(ticks.values()) / os.sysconf("SC_CLK_TCK"), peak, rays, largest)


def process_tree(root: int) -> dict[int, int]:
    """Returns process -> CPU time in clock ticks of a process and all its descendants."""
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            # The command's name, in parentheses, may itself hold spaces and parentheses.
            values = stat.read_text().rpartition(")")[2].split()
            pid = int(stat.parent.name)
            parents[pid], ticks[pid] = int(values[1]), int(values[11]) + int(values[12])

    def is_below(pid: int) -> bool:
        while pid not in (root, 0):
            pid = parents.get(pid, 0)
        return pid == root

    return {pid: ticks[pid] for pid in parents if is_below(pid)}


def tree_memory(pids: Iterable[int]) -> tuple[list[int], int]:
    """Returns the bytes of each process but Ray's own, and of these together.

    It is the proportional set size: pages that processes share count once.
    """
    ours, rays = [], 0
    for pid in pids:
        with suppress(OSError, ProcessLookupError):  # ended meanwhile, or another user's
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            size = sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
            if RAYS_OWN.search(Path(f"/proc/{pid}/cmdline").read_bytes()):
                rays += size
            else:
                ours.append(size)
    return ours, rays
