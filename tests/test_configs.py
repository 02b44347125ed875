"""Configuration files and overrides; the configurations that come with Facet are valid."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Section, dump_config, load_config
from pipeline.errors import ConfigError
from pipeline.recipes.details import DetailsRun
from pipeline.recipes.normals import NormalsRun

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_the_reference_holds_every_field_with_its_default():
    assert load_config(NormalsRun, CONFIGS / "normals.yaml") == NormalsRun()
    text = (CONFIGS / "normals.yaml").read_text()
    for section in NormalsRun.model_fields.values():
        for field in section.annotation.model_fields:
            assert f"  {field}:" in text


def test_the_configuration_of_heads_holds_its_defaults():
    assert load_config(DetailsRun, CONFIGS / "details.yaml") == DetailsRun()


def test_the_cluster_configuration_is_valid():
    assert load_config(NormalsRun, CONFIGS / "cluster.yaml").engine.name == "ray"


def test_a_configuration_that_comes_with_facet_goes_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "details").mkdir()  # as a checkout has a folder cluster/
    assert load_config(DetailsRun, "details") == DetailsRun()
    assert load_config(NormalsRun, "cluster") == load_config(NormalsRun, CONFIGS / "cluster.yaml")
    with pytest.raises(ConfigError, match=r"no such file\. Did you mean cluster\? .*by name: cluster, det"):
        load_config(NormalsRun, "clusters")
    (tmp_path / "cluster").write_text("plan: {shard_size: 3}")  # a file of one's own comes first
    assert load_config(NormalsRun, "cluster").plan.shard_size == 3


def test_a_command_line_override_wins():
    config = load_config(NormalsRun, CONFIGS / "cluster.yaml", ["plan.shard_size=7", "detect.faces=largest"])
    assert (config.plan.shard_size, config.detect.faces) == (7, "largest")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("detect.mood=fast", r"Did you mean mode\? Known here: mode"),
        ("detect.mode=slow", "detect.mode"),
        ("nonsense", "section.field=value"),
        ("detect..mode=fast", "section.field=value"),
        ("detect=fast", "detect: "),
        ("detect.mode.more=1", "detect.mode: "),
        ("detect.mode=[", "detect.mode is not valid"),
        ("detect.mode=@hog", "detect.mode is not valid: found character"),
        ("detect.mode={a: 1, a: 2}", "a stands twice"),
    ],
)
def test_a_wrong_override_is_named(override, said):
    with pytest.raises(ConfigError, match=said):
        load_config(NormalsRun, None, [override])


def test_a_broken_override_does_not_show_its_value():
    with pytest.raises(ConfigError) as caught:
        load_config(NormalsRun, None, ["read.storage.secret=%hush"])
    assert "read.storage.secret" in str(caught.value)
    assert "hush" not in str(caught.value)


class Inner(Section):
    """A section of the tests."""

    value: Any = "default"
    other: int = 1
    rate: float = 0.5


class Outer(Section):
    """A configuration of the tests."""

    inner: Inner = Inner()
    steps: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("null", None),
        ("~", None),
        ("true", True),
        ("7", 7),
        ("1.5", 1.5),
        ("'7'", "7"),
        ('"a: b # c"', "a: b # c"),
        ("a=b", "a=b"),
        ("5%", "5%"),
        ("${HOME}", "${HOME}"),
        ("s3://bucket/a key/", "s3://bucket/a key/"),
        ("http://host:9000", "http://host:9000"),
        ("[1, two, null]", [1, "two", None]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
    ],
)
def test_values_are_read_as_yaml(tmp_path, text, value):
    assert load_config(Outer, None, [f"inner.value={text}"]).inner.value == value
    (tmp_path / "file.yaml").write_text(f"inner:\n  value: {text}\n")
    assert load_config(Outer, tmp_path / "file.yaml").inner.value == value


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3", ".1E-2"])
def test_numbers_may_have_exponents(text):
    assert load_config(Outer, None, [f"inner.rate={text}"]).inner.rate == 0.001


def test_the_later_wins_and_leaves_the_rest(tmp_path):
    (tmp_path / "file.yaml").write_text("inner: {value: {a: 1, b: 2}}\nsteps: [{other: 2}, {other: 3}]\n")
    base = {"inner": {"other": 5, "value": {"c": 3}}}
    config = load_config(Outer, tmp_path / "file.yaml", ["inner.value.b=7", "inner.value.b=8"], base)
    assert config.inner.other == 5
    assert config.inner.value == {"a": 1, "b": 8, "c": 3}
    assert [step.other for step in config.steps] == [2, 3]
    assert base == {"inner": {"other": 5, "value": {"c": 3}}}
    replaced = load_config(Outer, tmp_path / "file.yaml", ["steps=[{other: 9}]", "inner={other: 4}"])
    assert [step.other for step in replaced.steps] == [9]
    assert replaced.inner == Inner(value={"a": 1, "b": 2}, other=4)


def test_what_is_dumped_is_read_back(tmp_path):
    config = Outer(inner=Inner(value={"a": ["1", "2024-01-02", None, "a: b"], "b": 1e-7}), steps=(Inner(),))
    (tmp_path / "file.yaml").write_text(dump_config(config))
    assert load_config(Outer, tmp_path / "file.yaml") == config


def test_an_empty_file_holds_the_defaults(tmp_path):
    (tmp_path / "file.yaml").write_text("# nothing\n")
    assert load_config(Outer, tmp_path / "file.yaml") == Outer()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a list", "at its top level"),
        ("false", "at its top level"),
        ("detect: {mode: [", r"wrong\.yaml.* line 1"),
        ("detect: fast", "detect: "),
        ("detect: {}\ndetect: {}", "detect stands twice .*line 2"),
        ("7: {}", "7: "),
        ("detect: {mode: !!int x}", "not valid"),
        ("detect: {mode: !!python/object/apply:os.getcwd []}", "could not determine a constructor"),
        (b"detect: {mode: \xff}", "Cannot read"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, said):
    (tmp_path / "wrong.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=said):
        load_config(NormalsRun, tmp_path / "wrong.yaml")


def test_a_missing_file_is_refused():
    with pytest.raises(ConfigError, match="Cannot read"):
        load_config(NormalsRun, "missing.yaml")
