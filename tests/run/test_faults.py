"""Photos that break the process that works on them, and processes that are killed in the middle of a run.

Every run here is over the same photos, some of which crash, hang or eat memory, and must end with the same
bytes as `undisturbed`: one record per photo, whatever was killed meanwhile, however often.
"""

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pyarrow.dataset as ds
import pytest
from bad_images import encode, portrait
from faulty_detector import CODES, mark
from normals_run import run_normals

from pipeline.config import load_config
from pipeline.recipes.normals import NormalsRun
from pipeline.run.counts import Counts
from pipeline.storage.places import local_path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

HELPERS = Path(__file__).resolve().parents[1] / "helpers"

PHOTOS = 60
BAD = {3: "segfault", 10: "abort", 17: "memory", 26: "hang"}
"""Number of a photo -> its fault."""

LINGERING = 48
"""From this photo on, in the last two shards, each takes some seconds, until all that is to be killed was."""

SHARDS = 8

PATIENCE = 600.0
"""Seconds that anything may take on a busy machine."""


def settings(weights: Path, *options: str) -> list[str]:
    return [
        f"normals.weights={weights}",
        "plan.shard_size=8",
        "plan.chunk_size=2",
        "output.report=false",
        "detect.mode=custom",
        "detect.detector=faulty_detector:make_slow",
        "limits.photo_seconds=15",
        "limits.photo_memory_mb=768",
        "limits.attempts=1",  # a hang takes long enough once
        *options,
    ]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    for number in range(PHOTOS):
        pixels = portrait(200).copy()
        pixels[-2:, -2:] = number  # or their bytes were the same
        if fault := BAD.get(number, "linger" if number >= LINGERING else ""):
            pixels = mark(pixels, fault)
        (folder / f"{number:02}.png").write_bytes(encode(pixels, "PNG"))
    return folder


@pytest.fixture(scope="module")
def undisturbed(photos, random_weights, tmp_path_factory) -> Path:
    """Run folder over the photos, all stages in one process."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    options = settings(random_weights, "engine.name=local", "engine.cpus=1")
    run_normals(str(photos), str(out), load_config(NormalsRun, None, options), say=lambda line: None)
    return out


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "records").iterdir()}


def rows_of(out: Path) -> list[dict]:
    return ds.dataset(f"{out}/records").to_table().sort_by("uri").to_pylist()


def markers(out: Path) -> int:
    return len(list((out / "_done").glob("*.json")))


def check_same(out: Path, undisturbed: Path) -> None:
    assert shard_bytes(out) == shard_bytes(undisturbed)
    state = json.loads((out / "run.json").read_text())
    assert (state["status"], state["counts"]["images"]) == ("complete", PHOTOS)
    assert markers(out) == SHARDS
    assert not (out / "_work").exists()


def test_bad_photos_cost_one_record_each_and_nothing_else(photos, undisturbed, random_weights, tmp_path):
    rows = rows_of(undisturbed)
    assert [local_path(row["uri"]) for row in rows] == [str(path) for path in sorted(photos.iterdir())]
    codes = {number: row["error_code"] for number, row in enumerate(rows) if row["status"] != "ok"}
    assert codes == {number: CODES[fault] for number, fault in BAD.items()}
    # The same detector on the same photos, of which none is bad in its eyes.
    options = [f"normals.weights={random_weights}", "plan.shard_size=8", "plan.chunk_size=2"]
    options += ["output.report=false", "engine.name=local", "engine.cpus=1", "detect.mode=dlib"]
    run_normals(str(photos), str(tmp_path), load_config(NormalsRun, None, options), say=lambda line: None)
    good = [number for number in range(PHOTOS) if number not in BAD]
    harmless = rows_of(tmp_path)
    for row in (*rows, *harmless):
        for face in row["faces"]:
            del face["detector"]  # its name
    assert [rows[number] for number in good] == [harmless[number] for number in good]


def test_workers_of_this_machine_are_killed(photos, undisturbed, random_weights, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    luck = random.Random(5)
    last = [luck.randrange(2, 6), luck.randrange(10, 20), luck.randrange(35, 50)]
    killed, done = [], Counts()

    def kill_now_and_then(counts):
        done.images += counts.images
        if last and done.images >= last[0]:
            last.pop(0)
            worker = luck.choice([child for child in multiprocessing.active_children() if child.pid])
            os.kill(worker.pid, signal.SIGKILL)
            killed.append(worker.pid)

    options = settings(random_weights, "engine.name=local", "engine.cpus=2")
    config = load_config(NormalsRun, None, options)
    run_normals(str(photos), str(tmp_path), config, say=lambda line: None, watch=kill_now_and_then)
    assert len(killed) == 3
    check_same(tmp_path, undisturbed)


class Run:
    """A run as a process of its own, which can be killed and started again."""

    def __init__(self, photos: Path, out: Path, weights: Path, *options: str):
        self.out = out
        self.log = out.parent / "log"
        self.flag = out.parent / "linger"
        self.flag.touch()
        self._command = [sys.executable, "-m", "jobs.normals", str(photos), str(out)]
        for setting in settings(weights, *options):
            self._command += ["--set", setting]
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        environment = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"PYTHONPATH": str(HELPERS), "RAY_worker_niceness": "0"}
        environment["FACET_TEST_WAIT"] = str(self.flag)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self._process.poll() is None, self.report()
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.05)

    def finish(self) -> None:
        self.flag.unlink()
        assert self._process.wait(PATIENCE) == 1, self.report()  # complete, but some photos crashed

    def kill(self) -> None:
        """Kills the driver, and waits until nothing is left of it."""
        others = self.descendants()
        self._process.kill()
        self._process.wait()
        _, alive = psutil.wait_procs(others, timeout=PATIENCE)
        assert not alive

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)

    def stop(self) -> None:
        if self._process.poll() is None:
            others = self.descendants()
            self._process.kill()
            self._process.wait()
            for process in others:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def report(self) -> str:
        return self.log.read_text(errors="replace")[-5000:]


@pytest.fixture
def started(photos, random_weights, tmp_path):
    """Makes a `Run`."""
    runs = []

    def make(*options: str) -> Run:
        runs.append(Run(photos, tmp_path / "out", random_weights, *options))
        return runs[-1]

    yield make
    for run in runs:
        run.stop()


def test_driver_is_killed(started, undisturbed):
    run = started("engine.name=local", "engine.cpus=2")
    luck = random.Random(7)
    run.start()
    run.wait_until((run.out / "run.json").exists)
    run.kill()
    for enough in (1, luck.randrange(2, 5)):
        run.start()
        run.wait_until(lambda: markers(run.out) >= enough)  # noqa: B023
        run.kill()
    assert 0 < markers(run.out) < SHARDS
    run.start()
    run.finish()
    check_same(run.out, undisturbed)


def actors(run: Run, name: str) -> list[psutil.Process]:
    """Ray's processes of a kind."""
    found = []
    for process in run.descendants():
        with suppress(psutil.NoSuchProcess):
            if re.match(rf"ray::{name}\b", " ".join(process.cmdline())):
                found.append(process)
    return found


def kill_one(run: Run, name: str, enough: int, luck: random.Random) -> bool:
    """Kills one of Ray's processes of a kind once so many shards are committed; returns whether it did."""
    found = actors(run, name)
    if markers(run.out) < enough or not found:
        return False
    with suppress(psutil.NoSuchProcess):
        luck.choice(found).kill()
        return True
    return False


@pytest.mark.ray
@pytest.mark.timeout(3000)
def test_actors_and_driver_on_ray_are_killed(started, undisturbed):
    run = started("engine.name=ray", "engine.cpus=2")
    luck = random.Random(11)
    run.start()
    for enough in (1, 2, 3):
        run.wait_until(lambda: kill_one(run, "ChunkWorker", enough, luck))  # noqa: B023
    run.wait_until(lambda: markers(run.out) >= 4)
    run.kill()
    run.start()
    run.wait_until(lambda: markers(run.out) >= 5)
    for process in actors(run, "Crop"):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run.finish()
    log = run.log.read_text()
    assert "Lost a worker (ActorDiedError); another does its work" in log
    assert "A worker died" not in log  # Ray's own paragraph
    check_same(run.out, undisturbed)
