"""The cluster of cluster/README.md on this machine: a job is submitted to it, and nodes come and go."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow.dataset
import pytest
from bad_images import encode, portrait
from faulty_detector import REFERENCE, mark
from normals_run import run_normals
from ports import free_ports

from pipeline.config import load_config
from pipeline.recipes.normals import NormalsRun

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = ROOT / "tests" / "photos"

COPIES = 10
"""Of each of the test photos."""

PATIENCE = 600.0
"""Seconds that anything may take on a busy machine."""

SETTINGS = [
    "plan.shard_size=16",
    "output.report=false",
    "detect.mode=custom",
    f"detect.detector={REFERENCE}",
    "limits.photo_seconds=600",
]


class Cluster:
    """Raylets of this machine as nodes of a Ray cluster of its own.

    Args:
        folder: Of its log.
        flag: While there is this file, the last photo is not done.
    """

    def __init__(self, folder: Path, flag: Path):
        self.gcs, self.dashboard, self.client, self.agent = free_ports(4)
        self.log = folder / "cluster.log"
        # Short, since it holds sockets, whose paths have a limit.
        self._temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._others: list[subprocess.Popen[bytes]] = []
        self._environment = {
            name: text for name, text in os.environ.items() if not name.startswith("RAY_")
        } | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_worker_niceness": "0",  # a busy machine would starve the workers
            "PYTHONPATH": str(ROOT / "tests" / "helpers"),
            "FACET_TEST_WAIT": str(flag),
        }

    def start_head(self) -> None:
        self._start(
            "--head",
            "--num-cpus=0",
            f"--port={self.gcs}",
            f"--dashboard-port={self.dashboard}",
            f"--dashboard-agent-listen-port={self.agent}",
            f"--ray-client-server-port={self.client}",
        )
        wait_for(lambda: "Ray runtime started" in self.log.read_text(), self.report)

    def add_worker(self, *options: str) -> int:
        """Returns the number of the new node."""
        self._start(f"--address=127.0.0.1:{self.gcs}", *options)
        return len(self._nodes) - 1

    def kill(self, node: int) -> None:
        """Kills the raylet of a node, which is how a spot machine goes."""
        [raylet] = [child for child in self._children(self._nodes[node]) if child.name() == "raylet"]
        raylet.kill()

    def submit(self, *command: str) -> subprocess.Popen[bytes]:
        """Returns the process that submits a job, waits for it and exits as it does."""
        address = f"http://127.0.0.1:{self.dashboard}"
        job = self._run("ray", "job", "submit", "--address", address, "--working-dir", ".", "--", *command)
        self._others.append(job)
        return job

    def report(self) -> str:
        return self.log.read_text(errors="replace")[-5000:]

    def stop(self) -> None:
        processes = [child for node in self._nodes for child in self._children(node)]
        # A process whose parent is gone is known by the folder of the cluster alone.
        for process in psutil.process_iter(["cmdline"]):
            if any(self._temporary in argument for argument in process.info["cmdline"] or ()):
                processes.append(process)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for started in (*self._nodes, *self._others):
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        psutil.wait_procs(processes, timeout=60)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _start(self, *options: str) -> None:
        # A folder of its own, as a machine of its own would have: a node unpacks the job's files there.
        folder = f"--temp-dir={self._temporary}/{len(self._nodes)}"
        ports = ("--min-worker-port=0", "--max-worker-port=0")  # any that are free
        limits = ("--block", "--disable-usage-stats", f"--object-store-memory={150 << 20}")
        self._nodes.append(self._run("ray", "start", *limits, folder, *ports, *options))

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, env=self._environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def _children(self, node: subprocess.Popen[bytes]) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(node.pid).children(recursive=True)
        return []


def wait_for(condition: Callable[[], bool], report: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, report()
        time.sleep(0.2)


@pytest.fixture
def flag(tmp_path) -> Path:
    (tmp_path / "wait").touch()
    return tmp_path / "wait"


@pytest.fixture
def cluster(tmp_path, flag):
    cluster = Cluster(tmp_path, flag)
    try:
        cluster.start_head()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in PHOTOS.glob("*.jpg"):
        for copy in range(COPIES):
            # Other bytes, or all but one would be computed once and referred to.
            (folder / f"{photo.stem}-{copy}.jpg").write_bytes(photo.read_bytes() + bytes([copy]))
    (folder / "z.png").write_bytes(encode(mark(portrait(200), "wait"), "PNG"))
    return folder


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_submitted_job_outlives_its_nodes(cluster, photos, tmp_path, flag):
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    worker = ("--num-cpus=1", "--num-gpus=1")  # a pretended GPU: the network runs on the CPU
    first = cluster.add_worker(*worker)
    settings = [*SETTINGS, "engine.request_cpus=2", "engine.request_gpus=2"]
    options = [option for setting in settings for option in ("--set", setting)]
    job = cluster.submit(
        "python", "-m", "jobs.normals", str(photos), str(out), "--config", "configs/cluster.yaml", *options
    )

    def happens(condition: Callable[[], bool]) -> None:
        wait_for(lambda: condition() or job.poll() is not None, cluster.report)
        assert job.poll() is None, cluster.report()

    happens(lambda: "Waiting for 2 CPUs and 2 GPUs" in cluster.log.read_text())
    cluster.add_worker(*worker)
    happens(lambda: any((out / "_done").glob("*.json")))
    cluster.add_worker(*worker)
    cluster.kill(first)
    done = len(list((out / "_done").glob("*.json")))
    flag.unlink()
    wait_for(lambda: job.poll() is not None, cluster.report)
    assert job.returncode == 0, cluster.report()
    assert done < len(list((out / "_done").glob("*.json")))

    uris = pyarrow.dataset.dataset(out / "records").to_table(columns=["uri"])["uri"].to_pylist()
    assert sorted(uris) == sorted(map(str, photos.iterdir()))
    config = load_config(NormalsRun, None, [*SETTINGS, "engine.name=local", "engine.cpus=1"])
    run_normals(str(photos), str(undisturbed), config, say=lambda line: None)
    for shard in (undisturbed / "records").iterdir():
        assert shard.read_bytes() == (out / "records" / shard.name).read_bytes()
