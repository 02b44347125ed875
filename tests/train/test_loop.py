import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from spheres import sphere_row, write_rows

from jobs import train as train_job
from pipeline.config import load_config
from pipeline.errors import ConfigError, DataError, TrainingError
from pipeline.normals import checkpoints
from pipeline.normals.architectures import build_network, load_weights
from pipeline.storage.store import Store
from pipeline.train import optimise
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import OptimiserConfig, TrainConfig, TrainingStage
from pipeline.train.local import initial_parameters, train_local
from pipeline.train.loop import Trainer
from pipeline.weights import save_weights

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("rows")
    data = [sphere_row(i, 32) for i in range(24)]
    data[3] |= {"normal": None, "regions": None}
    data[5]["image"] = None
    data[1]["image"] = b"broken"
    write_rows(folder / "spheres.parquet", data)
    return str(folder)


def config_of(*overrides: str, steps: int = 4) -> TrainConfig:
    return load_config(
        TrainConfig,
        None,
        [
            f"steps={steps}",
            "stages=[{size: 32, batch_size: 2}]",
            "precision=fp32",
            "optimiser.warmup_steps=2",
            "data.threads=1",
            "data.validation=0.2",
            # Nothing by the clock, so that a busy machine gives the same run.
            "output.log_seconds=1e6",
            "output.validate_minutes=1e6",
            "output.checkpoint_minutes=1e6",
            "passes.image_to_image=2",
            "passes.normals_to_normals=2",
            *overrides,
        ],
    )


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_weights(out / "weights" / "compact.safetensors").network.state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def lines_of(out: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


@pytest.fixture(scope="module")
def finished(rows, tmp_path_factory) -> Path:
    """The folder of a run of four steps."""
    out = tmp_path_factory.mktemp("finished")
    train_local(config_of(), [rows], str(out))
    return out


def test_a_run_leaves_logs_sheets_checkpoints_and_weights(finished):
    (line,) = lines_of(finished, "train")
    assert line["step"] == 4
    assert line["bad_rows"] == 1
    assert {"total", "learning_rate", "images_per_second", "image_to_normals/cosine"} <= set(line)
    assert lines_of(finished, "validation")[-1]["mean"] > 0
    assert list((finished / "tensorboard").iterdir())
    assert [path.name for path in (finished / "sheets").iterdir()] == ["step-000000004.png"]
    assert [path.name for path in (finished / "checkpoints").iterdir()] == ["step-000000004.pt"]
    stored = load_config(TrainConfig, finished / "config.yaml")
    assert stored == config_of()
    assert load_weights(finished / "weights" / "compact.safetensors").entry.architecture == "compact"


def test_same_seed_same_weights(rows, finished, tmp_path):
    train_local(config_of(), [rows], str(tmp_path / "again"))
    assert same(weights_of(tmp_path / "again"), weights_of(finished))
    train_local(config_of("seed=1"), [rows], str(tmp_path / "other"))
    assert not same(weights_of(tmp_path / "other"), weights_of(finished))


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(rows, finished, tmp_path, monkeypatch):
    config = config_of("output.checkpoint_minutes=1e-9", "output.keep=10")

    class Killed(Exception):
        pass

    def stop(self, *args):
        if self.step == 2:
            raise Killed
        return train_step(self, *args)

    train_step = Trainer._train_step
    monkeypatch.setattr(Trainer, "_train_step", stop)
    with pytest.raises(Killed):
        train_local(config, [rows], str(tmp_path))
    monkeypatch.undo()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    train_local(config, [rows], str(tmp_path))
    assert same(weights_of(tmp_path), weights_of(finished))


@pytest.mark.slow
def test_a_killed_process_resumes(rows, tmp_path):
    command = [sys.executable, "-m", "jobs.train", "--local", "--data", rows, "--out", str(tmp_path)]
    common = ["stages=[{size: 32, batch_size: 2}]", "threads=1", "output.checkpoint_minutes=1e-9"]
    settings = [part for value in common for part in ("--set", value)]
    with subprocess.Popen([*command, *settings, "--set", "steps=100000"], cwd=REPOSITORY) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("checkpoints/*.pt")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    reached = CheckpointStore(Store(str(tmp_path)), 3).load()["step"]
    steps = ["--set", f"steps={reached + 2}"]
    result = subprocess.run(
        [*command, *settings, *steps], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert f"Resumed at step {reached}" in result.stderr
    assert lines_of(tmp_path, "train")[-1]["step"] == reached + 2


def test_training_learns(rows, tmp_path):
    config = config_of("optimiser.learning_rate=2e-3", "optimiser.ema=0.5", steps=40)
    before = train_local(config_of(steps=1), [rows], str(tmp_path / "one"))
    after = train_local(config, [rows], str(tmp_path / "many"))
    assert after["mean"] < 0.8 * before["mean"]


def test_stages_change_size_and_keep_positions(rows, tmp_path):
    stages = "{share: 0.5, size: 32, batch_size: 2}, {share: 0.5, size: 64, batch_size: 1}"
    config = config_of(f"stages=[{stages}]")
    train_local(config, [rows], str(tmp_path))
    state = checkpoints.read(str(tmp_path / "checkpoints" / "step-000000004.pt"))
    assert state["positions"] == {"image_to_normals": 6, "image_to_image": 3, "normals_to_normals": 3}


def test_a_run_can_end_by_the_clock(rows, tmp_path):
    config = config_of("duration_minutes=0.0001", "steps=null")
    train_local(config, [rows], str(tmp_path))
    assert lines_of(tmp_path, "train")[-1]["step"] == 1


@pytest.mark.parametrize(
    ("kept", "names"),
    [("image", {"image_to_image"}), ("normal", {"normals_to_normals"})],
)
def test_unpaired_rows_alone_train_their_pass(tmp_path, kept, names):
    empty = {name: None for name in ("image", "normal", "regions") if name != kept}
    path = write_rows(tmp_path / "a.parquet", [sphere_row(i, 32, **empty) for i in range(4)])
    train_local(config_of(steps=3), [path], str(tmp_path / "out"))
    (line,) = lines_of(tmp_path / "out", "train")
    assert {name.split("/")[0] for name in line if "/" in name} == names


@pytest.mark.slow
def test_heads_rendered_as_training_goes_need_no_stored_rows(ict_facekit, tmp_path, monkeypatch):
    monkeypatch.setenv("FACET_ASSETS", str(ict_facekit))
    train_local(config_of("data.render_seed=5", steps=3), [], str(tmp_path))
    (line,) = lines_of(tmp_path, "train")
    passes = {"image_to_normals", "image_to_image", "normals_to_normals"}
    assert {name.split("/")[0] for name in line if "/" in name} == passes


def test_nan_ends_the_run_with_a_clear_error(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pipeline.train.losses.image_term", lambda output, image: output.mean() * float("nan")
    )
    with pytest.raises(TrainingError, match=r"not finite at step 1 .*image nan"):
        train_local(config_of(), [rows], str(tmp_path))
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_checkpoint_of_another_architecture_is_refused(rows, finished):
    with pytest.raises(TrainingError, match="of a compact network, the run trains resnet_unet"):
        train_local(config_of("architecture=resnet_unet"), [rows], str(finished))


def test_nothing_to_train_on_is_an_error(rows, tmp_path):
    with pytest.raises(ConfigError, match="nothing to train on"):
        train_local(config_of(), [], str(tmp_path))
    off = [f"passes.{name}=0" for name in ("image_to_normals", "image_to_image", "normals_to_normals")]
    with pytest.raises(DataError, match="No pass finds rows"):
        train_local(config_of(*off), [rows], str(tmp_path))


def test_a_set_of_bad_rows_only_is_an_error(tmp_path):
    path = write_rows(tmp_path / "a.parquet", [sphere_row(i, 32, image=b"broken") for i in range(4)])
    with pytest.raises(DataError, match="Not one row"):
        train_local(config_of("data.validation=0"), [path], str(tmp_path / "out"))


def test_runs_start_from_weights_and_checkpoints(finished, tmp_path):
    parameters = initial_parameters(str(finished / "checkpoints" / "step-000000004.pt"), "compact")
    exported = initial_parameters(str(finished / "weights" / "compact.safetensors"), "compact")
    assert same(parameters, exported)
    with pytest.raises(TrainingError, match="compact"):
        initial_parameters(str(finished / "weights" / "compact.safetensors"), "resnet_unet")


@pytest.mark.slow
def test_published_weights_without_mask_can_be_trained_on(rows, tmp_path):
    torch.manual_seed(3)
    published = build_network("resnet_unet")
    save_weights(published, tmp_path / "published.safetensors")
    config = config_of("architecture=resnet_unet", "optimiser.learning_rate=1e-9", steps=1)
    train_local(config, [rows], str(tmp_path), init=str(tmp_path / "published.safetensors"))
    trained = load_weights(tmp_path / "weights" / "resnet_unet.safetensors").network.state_dict()
    assert torch.allclose(trained["conv_last.weight"], published.state_dict()["conv_last.weight"], atol=1e-6)


def test_remote_folders_get_everything(rows):
    filesystem = fsspec.filesystem("memory")
    train_local(config_of(steps=2), [rows], "memory://runs/one")
    train_local(config_of(steps=3), [rows], "memory://runs/one")
    found = {path.removeprefix("/runs/one/").split("/")[0] for path in filesystem.find("/runs/one")}
    assert found == {"checkpoints", "config.yaml", "log.jsonl", "sheets", "tensorboard", "weights"}
    assert filesystem.cat_file("/runs/one/log.jsonl").count(b'"kind": "train"') == 2


def test_store_keeps_the_newest_and_passes_over_broken_ones(tmp_path, caplog):
    store = CheckpointStore(Store(str(tmp_path)), keep=2)
    assert store.load() is None
    for step in (9, 10, 200):
        store.save({"step": step, "architecture": "compact"})
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000010.pt", "step-000000200.pt"]
    assert store.load()["step"] == 200
    (tmp_path / "checkpoints" / names[1]).write_bytes(b"torn")
    assert store.load()["step"] == 10
    assert "Passed over" in caplog.text


def test_checkpoints_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    torch.save({"format": checkpoints.FORMAT, "step": Evil()}, tmp_path / "step-000000001.pt")
    with pytest.raises(TrainingError, match="cannot be read"):
        checkpoints.read(str(tmp_path / "step-000000001.pt"))
    assert not (tmp_path / "hacked").exists()
    torch.save({"step": 1}, tmp_path / "other.pt")
    with pytest.raises(TrainingError, match="not a checkpoint"):
        checkpoints.read(str(tmp_path / "other.pt"))


def test_learning_rate_warms_up_and_decays():
    config = OptimiserConfig(learning_rate=1.0, warmup_steps=10)
    assert optimise.learning_rate(config, 0, 0) == pytest.approx(0.1)
    assert optimise.learning_rate(config, 9, 0) == pytest.approx(1.0)
    assert optimise.learning_rate(config, 100, 0.5) == pytest.approx(0.5, abs=0.01)
    assert 0 < optimise.learning_rate(config, 100, 1.0) < 0.01


def test_progress_and_stages():
    by_steps = config_of(steps=100)
    by_clock = TrainConfig(duration_minutes=10)
    assert optimise.progress(by_steps, 50, 1e9) == 0.5
    assert optimise.progress(by_clock, 10**9, 300) == 0.5
    stages = [TrainingStage(share=0.25), TrainingStage(share=0.75)]
    found = [optimise.stage_at(stages, done) for done in (0, 0.2, 0.25, 1)]
    assert found == [0, 0, 1, 1]


def test_moving_average_follows_parameters_and_buffers():
    torch.manual_seed(0)
    source, copy = build_network("compact"), build_network("compact")
    average = optimise.MovingAverage(copy, 0.9)
    name, buffer = "head.weight", "image_encoder.stages.0.1.running_mean"
    start = copy.state_dict()[name].clone()
    with torch.no_grad():
        source.state_dict()[buffer].fill_(5.0)
    average.update(source, step=10**6)
    expected = 0.9 * start + 0.1 * source.state_dict()[name]
    assert torch.allclose(copy.state_dict()[name], expected, atol=1e-7)
    assert torch.allclose(copy.state_dict()[buffer], torch.tensor(0.5))
    average.update(source, step=0)
    # Early on the average is short: after the first step it holds 90 per cent of the new parameters.
    expected = 0.1 * expected + 0.9 * source.state_dict()[name]
    assert torch.allclose(copy.state_dict()[name], expected, atol=1e-7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steps=1", "duration_minutes=1"], "one of steps and duration_minutes"),
        (["steps=1", "stages=[{share: 0.5}]"], "add up to 1"),
        (["steps=1", "stages=[{size: 100}]"], "multiple of 32"),
        (["steps=1", "stages=[{size: 32, batch_size: 1}]"], "too small"),
        (["steps=1", "architecture=vgg"], "architecture"),
    ],
)
def test_wrong_configurations_are_explained(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(TrainConfig, None, overrides)


@pytest.mark.parametrize("name", ["train.yaml", "train_gpu.yaml", "train_cluster.yaml"])
def test_shipped_configurations_are_valid(name):
    load_config(TrainConfig, REPOSITORY / "configs" / name)


def test_command_takes_data_in_both_forms(rows, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("pipeline.train.local.train_local", lambda *arguments: seen.append(arguments))
    arguments = ["--local", "--data", "a", "b", "--data", "c", "--out", "o", "--set", "steps=1"]
    result = CliRunner().invoke(train_job.command, arguments)
    assert result.exit_code == 0, result.output
    assert seen[0][1] == ("a", "c", "b")
    assert seen[0][2] == "o"


def test_validation_sheet_shows_what_is_known(finished):
    from pipeline.images.png import decode_png

    picture = decode_png((finished / "sheets" / "step-000000004.png").read_bytes())
    assert picture.shape[1] == 2 * 4 * 32
    truth = picture[:32, 32:64]
    assert (truth[0, 0] == 128).all()
    assert np.ptp(truth.reshape(-1, 3), axis=0).min() > 100
