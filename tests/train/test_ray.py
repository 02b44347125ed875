import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from spheres import sphere_row, write_rows

from pipeline.errors import PlanError, TrainingError
from pipeline.normals import checkpoints
from pipeline.normals.architectures import load_weights
from pipeline.train.config import WorkerConfig

REPOSITORY = Path(__file__).resolve().parents[2]
STARTED = re.compile(r"pid=(\d+)\) world_rank=1")


def command_of(rows: str, out: Path, steps: int) -> list[str]:
    settings = [
        f"steps={steps}",
        # At 32 pixels and two rows batch norm would see two values per channel, and gradients explode.
        "stages=[{size: 64, batch_size: 4}]",
        "threads=1",
        "data.threads=1",
        "data.validation_limit=1",
        "output.checkpoint_minutes=0.01",
        "output.log_seconds=0.5",
        "workers.num_workers=2",
        "workers.cpus_per_worker=0.5",
    ]
    flags = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-m", "jobs.train", "--data", rows, "--out", str(out), *flags]


def wait_until(condition: Callable[[], object], log: Path, process: subprocess.Popen | None = None) -> None:
    """Polls until a condition holds; fails, showing the log, when the process ends or the time is over."""
    deadline = time.monotonic() + 240
    while not condition():
        assert process is None or process.poll() is None, log.read_text()[-5000:]
        assert time.monotonic() < deadline, log.read_text()[-5000:]
        time.sleep(0.2)


def last_step(out: Path) -> int:
    """The step of the newest whole checkpoint, 0 without any."""
    steps = [0]
    for path in out.glob("checkpoint_*/state.pt"):
        try:
            steps.append(checkpoints.read(str(path))["step"])
        except TrainingError:
            continue  # being written or being removed
    return max(steps)


def noted_step(out: Path) -> int:
    """The step of the newest checkpoint that Ray knows of, 0 without any; some time after it is written."""
    try:
        noted = json.loads((out / "checkpoint_manager_snapshot.json").read_text())
        return noted["latest_checkpoint_result"]["metrics"]["step"]
    except (OSError, ValueError, TypeError):
        return 0  # none yet, or being written


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_survive_a_killed_worker_and_a_killed_driver(tmp_path):
    rows = write_rows(tmp_path / "rows.parquet", [sphere_row(i, 32) for i in range(16)], group=4)
    out, log = tmp_path / "run", tmp_path / "driver.log"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["RAY_worker_niceness"] = "0"  # a busy machine would starve the workers
    with (
        open(log, "wb") as stream,
        subprocess.Popen(
            command_of(rows, out, 10**6),
            cwd=REPOSITORY,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        ) as driver,
    ):
        try:
            wait_until(lambda: noted_step(out) > 1, log, driver)
            (worker,) = STARTED.findall(log.read_text())
            noted = noted_step(out)
            os.kill(int(worker), signal.SIGKILL)
            # A second group of workers starts and goes on behind the last checkpoint.
            wait_until(lambda: len(STARTED.findall(log.read_text())) == 2, log, driver)
            wait_until(lambda: "Resumed at step" in log.read_text(), log, driver)
            resumed = [int(step) for step in re.findall(r"Resumed at step (\d+)", log.read_text())]
            assert len(resumed) == 1
            assert resumed[0] >= noted
            wait_until(lambda: noted_step(out) > resumed[0], log, driver)
        finally:
            driver.kill()
    workers = [int(pid) for pid in re.findall(r"pid=(\d+)\) world_rank=", log.read_text())]
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in workers), log)
    reached = last_step(out)
    result = subprocess.run(
        command_of(rows, out, reached + 3),
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (again,) = (int(step) for step in re.findall(r"Resumed at step (\d+)", result.stdout + result.stderr))
    assert resumed[0] < again <= reached
    assert last_step(out) == reached + 3
    state = checkpoints.read(str(max(out.glob("checkpoint_*/state.pt"), key=os.path.getmtime)))
    assert state["positions"]["image_to_normals"] == 4 * (reached + 3)
    steps = {int(found["step"]) for found in state["optimiser"]["state"].values()}
    assert max(steps) == reached + 3
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == reached + 3
    assert load_weights(out / "weights" / "compact.safetensors").entry.architecture == "compact"


@pytest.mark.parametrize(
    ("workers", "cluster", "kind"),
    [
        (WorkerConfig(num_workers=3), {"CPU": 2.0}, "CPU"),
        (WorkerConfig(num_workers=2, gpus=True), {"CPU": 8.0}, "GPU"),
    ],
)
def test_a_plan_that_would_wait_for_ever_is_refused(workers, cluster, kind):
    from pipeline.train.distributed import check_resources

    with pytest.raises(PlanError, match=f"{kind}s, the cluster has"):
        check_resources(workers, cluster)
    check_resources(workers, {"CPU": 8.0, "GPU": 2.0})
