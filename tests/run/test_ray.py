"""The main job on Ray: the same rows as without it, on the smallest machines."""

import json
from pathlib import Path

import pytest
from normals_run import run_normals

from pipeline.config import load_config
from pipeline.errors import OutputError, PlanError
from pipeline.recipes.normals import NormalsRun
from pipeline.run import job

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def run(random_weights, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve the workers

    def start(source: Path, out: Path, cpus: int, *options: str, watch=None) -> job.Result:
        settings = [f"normals.weights={random_weights}", "plan.shard_size=16", "output.report=false"]
        settings += ["engine.name=ray", f"engine.cpus={cpus}", *options]
        config = load_config(NormalsRun, None, settings)
        return run_normals(str(source), str(out), config, say=lambda line: None, watch=watch)

    return start


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "records").iterdir()}


@pytest.mark.parametrize("cpus", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ray_and_local_write_the_same_bytes(mixed_photos, mixed_run, tmp_path, run, cpus):
    result = run(mixed_photos[0], tmp_path, cpus)
    assert result.counts.images == len(mixed_photos[1])
    assert shard_bytes(tmp_path) == shard_bytes(mixed_run)
    state = json.loads((tmp_path / "run.json").read_text())
    assert (state["engine"], state["status"]) == ("ray", "complete")
    assert all(state["counts"]["stage_seconds"].values())
    assert not (tmp_path / "_work").exists()


@pytest.mark.slow
def test_failing_and_stopped_runs_end_and_go_on(mixed_photos, mixed_run, tmp_path, run):
    import ray

    photos, out = mixed_photos[0], tmp_path / "out"
    with pytest.raises(PlanError, match="the cluster has 1"):
        run(photos, out, 1, "engine.workers.crop=9")
    assert not ray.is_initialized()
    (out / "records").mkdir()
    (out / "records" / "shard-00001.parquet").mkdir()  # where a file is to be
    with pytest.raises(OutputError, match=r"Cannot write .*shard-00001\.parquet"):
        run(photos, out, 2)
    assert json.loads((out / "run.json").read_text())["status"] == "failed"
    (out / "records" / "shard-00001.parquet").rmdir()

    def stop(counts):
        raise KeyboardInterrupt

    with pytest.raises(job.Stopped):
        run(photos, out, 2, watch=stop)
    assert not ray.is_initialized()
    run(photos, out, 2)
    assert shard_bytes(out) == shard_bytes(mixed_run)


def test_missing_cluster_is_said(mixed_photos, tmp_path, run):
    with pytest.raises(PlanError, match="no Ray cluster at 127"):
        run(mixed_photos[0], tmp_path, 1, "engine.address=127.0.0.1:1")
