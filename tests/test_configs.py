"""The configurations that come with Facet are valid, and the reference one holds the defaults."""

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.recipes.normals import NormalsRun

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_the_reference_holds_every_field_with_its_default():
    assert load_config(NormalsRun, CONFIGS / "normals.yaml") == NormalsRun()
    text = (CONFIGS / "normals.yaml").read_text()
    for section in NormalsRun.model_fields.values():
        for field in section.annotation.model_fields:
            assert f"  {field}:" in text


def test_the_cluster_configuration_is_valid():
    assert load_config(NormalsRun, CONFIGS / "cluster.yaml").engine.name == "ray"


def test_a_command_line_override_wins():
    config = load_config(NormalsRun, CONFIGS / "cluster.yaml", ["plan.shard_size=7", "detect.faces=largest"])
    assert (config.plan.shard_size, config.detect.faces) == (7, "largest")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("detect.mood=fast", "known here: mode"),
        ("detect.mode=slow", "detect.mode"),
        ("nonsense", "section.field=value"),
        ("detect.mode=[", "not valid"),
    ],
)
def test_a_wrong_override_is_named(override, said):
    with pytest.raises(ConfigError, match=said):
        load_config(NormalsRun, None, [override])


@pytest.mark.parametrize("text", ["- a list", "detect: {mode: [", "detect: fast"])
def test_a_wrong_file_is_refused(tmp_path, text):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(NormalsRun, tmp_path / "wrong.yaml")


def test_a_missing_file_is_refused():
    with pytest.raises(ConfigError, match="Cannot read"):
        load_config(NormalsRun, "missing.yaml")
