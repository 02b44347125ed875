"""Registry, checks at load, saving, import of the published weights, `facet weights`."""

import copy
import importlib
import os
import pickle
import re
import shlex
from pathlib import Path

import click
import pytest
import safetensors.torch
import torch
import yaml
from click.testing import CliRunner

from jobs import weights as job
from pipeline import weights
from pipeline.config import load_config
from pipeline.errors import DataError, TrainingError, WeightsError
from pipeline.normals import published as published_form
from pipeline.normals.architectures import build_network, load_weights
from pipeline.normals.checkpoints import load_mean
from pipeline.normals.published import import_published
from pipeline.train.config import TrainConfig

CARD = Path(__file__).resolve().parents[2] / "weights" / "README.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's folder of weights, empty; nothing is shipped."""
    monkeypatch.setattr(weights, "shipped_folder", lambda: tmp_path / "shipped")
    monkeypatch.setenv("FACET_WEIGHTS", str(tmp_path / "user"))
    return tmp_path / "user"


@pytest.fixture(scope="module")
def compact():
    torch.manual_seed(0)
    return build_network("compact").eval()


@pytest.fixture(scope="module")
def published():
    """A state dict in the published 404-key form; the doubled image encoder shares its tensors."""
    torch.manual_seed(1)
    own = build_network("resnet_unet").state_dict()
    state = {}
    for name, shape in published_form.published_shapes().items():
        if name in own:
            state[name] = own[name]
        elif name in published_form._UNUSED_SHAPES:
            state[name] = torch.zeros(shape)
    for old, new in published_form._base_model_names(own).items():
        state[f"base_model.{old}"] = own[new]
    return state


def register(network, name="mine", **options):
    return weights.export_weights(network, name, licence="Apache-2.0", trained_how="not", **options)


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def card_lines() -> list[str]:
    """The `facet` lines of the model card, continuation lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", CARD.read_text("utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("facet ")]


@pytest.mark.parametrize("line", card_lines())
def test_commands_of_the_model_card_can_be_parsed(line):
    words = shlex.split(line, comments=True)[1:]
    command, arguments = importlib.import_module(f"jobs.{words[0]}").command, words[1:]
    while isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    options = command.make_context(words[0], arguments).params
    if words[0] == "train":
        load_config(TrainConfig, options["config"], options["overrides"])


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", CARD.read_text("utf-8")) or [""])
def test_pictures_of_the_model_card_are_there(picture):
    assert (CARD.parent / picture).exists()


def test_shipped_registry_is_valid_and_its_files_are_the_registered_ones():
    for entry in weights.read_registry(weights.shipped_folder()):
        weights.verify_weights(entry, weights.shipped_folder() / entry.file)


def test_exported_weights_come_back_by_name(folder, compact):
    entry = register(compact, scores={"heads": {"mean": 9.5}}, half=False)
    loaded = load_weights("mine")
    assert loaded.entry == entry
    assert entry.scores == {"heads": {"mean": 9.5}}
    assert same(loaded.network, compact)
    assert not loaded.network.training
    assert [path for _, path in weights.list_weights()] == [folder / "mine.safetensors"]


def test_half_precision_halves_the_file_and_loads_as_fp32(folder, compact):
    register(compact, half=True)
    register(compact, "whole", half=False)
    assert (folder / "mine.safetensors").stat().st_size < 0.51 * (folder / "whole.safetensors").stat().st_size
    network = load_weights("mine").network
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    torch.testing.assert_close(network.head.weight, compact.head.weight, rtol=1e-3, atol=1e-4)


def test_exporting_again_replaces_the_entry_and_keeps_the_others(folder, compact):
    register(compact, "first")
    register(compact, "second")
    register(compact, "first", scores={"heads": {"mean": 1.0}})
    names = [entry.name for entry, _ in weights.list_weights()]
    assert sorted(names) == ["first", "second"]
    assert weights.find_weights("first")[0].scores


def test_a_path_loads_without_a_registry(tmp_path, compact):
    path = tmp_path / "run 7.safetensors"
    digest = weights.save_weights(compact, path)
    for given in (path, str(path)):
        loaded = load_weights(given)
        assert same(loaded.network, compact)
        assert (loaded.entry.architecture, loaded.entry.sha256) == ("compact", digest)


def test_an_altered_file_is_refused(folder, compact):
    register(compact)
    path = folder / "mine.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="not the registered ones") as caught:
        load_weights("mine")
    assert caught.value.code == "weights_checksum"


def test_a_missing_file_is_named(folder, compact):
    register(compact)
    (folder / "mine.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"mine\.safetensors") as caught:
        load_weights("mine")
    assert caught.value.code == "weights_missing"


def test_an_unknown_name_lists_the_known_ones(folder, compact):
    register(compact, "one")
    register(compact, "two")
    with pytest.raises(WeightsError, match="known: one, two") as caught:
        load_weights("three")
    assert caught.value.code == "weights_unknown"


def test_shipped_names_cannot_be_taken(folder, compact):
    weights.export_weights(
        compact, "compact", weights.shipped_folder(), licence="Apache-2.0", trained_how="not"
    )
    with pytest.raises(WeightsError, match="shipped"):
        register(compact, "compact")
    assert not folder.exists()


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden"])
def test_names_stay_within_the_folder(folder, compact, name):
    with pytest.raises(WeightsError, match="cannot name weights"):
        register(compact, name)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, compact):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="Cannot write"):
        weights.save_weights(compact, tmp_path / "file" / "a.safetensors")


@pytest.mark.parametrize(
    "text",
    [
        "weights: [{name: a}]",
        "weights: 3",
        "- a",
        "weights: [",
        "weights: [{name: a, architecture: compact, file: ../a.safetensors, sha256: " + "0" * 64 + "}]",
    ],
)
def test_a_broken_registry_is_named(folder, text):
    folder.mkdir()
    (folder / "registry.yaml").write_text(text)
    with pytest.raises(WeightsError, match=r"registry\.yaml"):
        weights.list_weights()


def test_weights_of_another_architecture_are_refused(folder, compact):
    register(compact)
    registry = yaml.safe_load((folder / "registry.yaml").read_text())
    registry["weights"][0]["architecture"] = "resnet_unet"
    (folder / "registry.yaml").write_text(yaml.safe_dump(registry))
    with pytest.raises(WeightsError, match="does not hold weights of the architecture 'resnet_unet'"):
        load_weights("mine")


def test_entries_that_the_architecture_does_not_have_are_named(tmp_path, compact):
    path = tmp_path / "a.safetensors"
    tensors = {**compact.state_dict(), "extra_head.weight": torch.zeros(1)}
    safetensors.torch.save_file(tensors, path, {"architecture": "compact"})
    with pytest.raises(WeightsError, match=r"unexpected: extra_head\.weight"):
        load_weights(path)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1", b"\xff" * 64])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="no safetensors file"):
        load_weights(path)


def test_values_that_are_not_finite_are_not_written(tmp_path):
    network = build_network("compact")
    with torch.no_grad():
        network.head.bias[0] = 1e6  # fits into fp32, not into fp16
    weights.save_weights(network, tmp_path / "whole.safetensors")
    with pytest.raises(WeightsError, match=r"head\.bias is not finite"):
        weights.save_weights(network, tmp_path / "half.safetensors", half=True)
    assert not (tmp_path / "half.safetensors").exists()


def test_the_head_for_mask_and_confidence_is_rebuilt(tmp_path):
    network = build_network("resnet_unet", extra_head=True)
    weights.save_weights(network, tmp_path / "a.safetensors", half=True)
    assert load_weights(tmp_path / "a.safetensors").network.extra_head is not None


@pytest.mark.parametrize("counters", [True, False], ids=["404 keys", "344 keys"])
def test_published_weights_are_imported(folder, tmp_path, published, counters):
    state = {k: v for k, v in published.items() if counters or not k.endswith("num_batches_tracked")}
    assert len(state) == (404 if counters else 344)
    torch.save(state, tmp_path / "model.pth")
    result = CliRunner().invoke(job.command, ["import", str(tmp_path / "model.pth")], catch_exceptions=False)
    assert "CC-BY-NC-4.0" in result.output
    loaded = load_weights("resnet_unet")
    assert loaded.entry.licence == "CC-BY-NC-4.0"
    for name, tensor in loaded.network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, published[name])


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_runs_code_is_refused(folder, tmp_path):
    torch.save({"conv_last.bias": Hostile(tmp_path / "harm")}, tmp_path / "model.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Hostile(tmp_path / "harm")))
    for name in ("model.pth", "plain.pth"):
        with pytest.raises(WeightsError, match="opened safely"):
            import_published(tmp_path / name)
    assert not (tmp_path / "harm").exists()
    assert not folder.exists()


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"a": "text"}, {}, {1: torch.zeros(1), "a": torch.zeros(1)}, {"a": torch.eye(2).to_sparse()}],
)
def test_a_file_that_is_no_state_dict_is_refused(folder, tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"state dict|missing"):
        import_published(tmp_path / "model.pth")


def test_a_pickle_is_not_loaded_as_weights(tmp_path):
    with pytest.raises(WeightsError, match="facet weights import"):
        load_weights(str(tmp_path / "model.pth"))


def test_command_line_lists_shows_and_verifies(folder, compact):
    run = CliRunner().invoke
    assert "No weights" in run(job.command, ["list"]).output
    entry = register(compact)
    line = run(job.command, ["list"]).output.splitlines()[1]
    assert line.split()[:3] == ["mine", "compact", "Apache-2.0"]
    shown = yaml.safe_load(run(job.command, ["show", "mine"]).output)
    assert shown["sha256"] == entry.sha256
    assert entry.sha256 in run(job.command, ["verify"]).output


def test_an_altered_file_ends_the_command_with_code_2(folder, compact, capsys):
    from jobs import entry

    register(compact)
    (folder / "mine.safetensors").write_bytes(b"other")
    with pytest.raises(SystemExit) as caught:
        entry.run(job.command, ["verify"])
    assert caught.value.code == 2
    assert "weights_checksum" in capsys.readouterr().err


def test_trained_weights_are_added_with_their_scores(folder, compact, tmp_path):
    weights.save_weights(compact, tmp_path / "trained.safetensors")
    (tmp_path / "evaluation.json").write_text('{"hull": {"all": {"mean": 9.123, "median": 7.5}}}')
    arguments = ["add", str(tmp_path / "trained.safetensors"), "--name", "mine", "--licence", "MIT"]
    arguments += ["--trained-how", "briefly", "--score", f"heads={tmp_path / 'evaluation.json'}"]
    CliRunner().invoke(job.command, arguments, catch_exceptions=False)
    entry, path = weights.find_weights("mine")
    assert (entry.licence, entry.trained_how) == ("MIT", "briefly")
    assert entry.scores == {"heads": {"mean_degrees": 9.12, "median_degrees": 7.5}}
    assert path == folder / "mine.safetensors"
    with pytest.raises(DataError, match="facet evaluate"):
        job.read_score("heads=missing.json")


def test_several_weights_become_their_mean(folder, compact, tmp_path):
    register(compact)
    moved = copy.deepcopy(compact)
    moved.load_state_dict({name: tensor + 0.5 for name, tensor in moved.state_dict().items()})
    weights.save_weights(moved, tmp_path / "moved.safetensors")
    arguments = ["add", "mine", str(tmp_path / "moved.safetensors"), "--name", "mean"]
    arguments += ["--licence", "MIT", "--trained-how", "briefly"]
    CliRunner().invoke(job.command, arguments, catch_exceptions=False)
    mean = load_weights("mean").network
    for of_one, of_mean in zip(compact.parameters(), mean.parameters(), strict=True):
        torch.testing.assert_close(of_mean, of_one + 0.25, atol=2e-3, rtol=0)  # stored as fp16
    weights.save_weights(build_network("resnet_unet"), tmp_path / "other.safetensors")
    with pytest.raises(TrainingError, match="not of one architecture"):
        load_mean(["mine", str(tmp_path / "other.safetensors")])


def test_a_home_that_may_not_be_read_is_left_out_with_a_warning(tmp_path, monkeypatch, caplog):
    """As of services and containers whose HOME is somebody else's."""
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "registry.yaml").write_text("weights: []")
    monkeypatch.setenv("FACET_WEIGHTS", str(locked))
    locked.chmod(0o000)
    if os.geteuid() == 0:  # whom no mode stops
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
        os.seteuid(65534)
    try:
        if not os.access(weights.shipped_folder() / "registry.yaml", os.R_OK, effective_ids=True):
            pytest.skip("nobody may read this checkout")
        names = [entry.name for entry, _ in weights.list_weights()]
        with pytest.raises(WeightsError, match="There are no weights 'mine'"):
            weights.find_weights("mine")
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        locked.chmod(0o755)
    assert "compact" in names
    assert "left out" in caplog.text


def test_a_user_without_a_home(monkeypatch):
    for name in ("HOME", "XDG_DATA_HOME", "FACET_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987_654)
    assert "compact" in [entry.name for entry, _ in weights.list_weights()]
