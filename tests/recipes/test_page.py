"""The page on how to add a recipe: its example runs, and what it names is there."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from bad_images import encode

from pipeline.config import load_config
from pipeline.run.folder import RunRequest
from pipeline.run.job import run
from pipeline.run.validate import validate_run

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "pipeline" / "recipes" / "README.md"
TEXT = PAGE.read_text("utf-8")


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The recipe of the page, as a module in a folder of its own."""
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "palette.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    yield importlib.import_module("palette").RECIPE
    del sys.modules["palette"]


def test_the_example_runs(recipe, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    flag = np.full((32, 48, 3), (0, 0, 255), np.uint8)
    flag[:, 32:] = (255, 255, 0)
    (photos / "flag.png").write_bytes(encode(flag, "PNG"))
    (photos / "plain.png").write_bytes(encode(flag[:, :32], "PNG"))
    (photos / "notes.png").write_bytes(b"no photo")
    config = load_config(recipe.config, None, ["palette.number=2", "engine.name=local", "engine.cpus=1"])
    result = run(RunRequest(recipe, str(photos), str(out), config))
    assert (result.counts.records, result.counts.found["colours"]) == (3, 2)
    rows = {Path(row["uri"]).stem: row for row in ds.dataset(out / "records").to_table().to_pylist()}
    assert {name: row["error_code"] for name, row in rows.items()} == {
        "flag": None,
        "plain": "plain",
        "notes": "unsupported_format",
    }
    assert rows["flag"]["colours"] == ["#0000ff", "#ffff00"]
    assert validate_run(recipe, str(out)).sound


def test_what_the_page_names_is_there():
    paths = re.findall(r"`((?:pipeline|jobs)/[\w./]+)`", TEXT)
    assert len(paths) > 4
    for path in paths:
        assert (ROOT / path).exists() or path.endswith("palette.py")
    assert (PAGE.parent / "normals.py").exists()
    assert "NAMES = (" in (PAGE.parent / "__init__.py").read_text("utf-8")
    assert len(TEXT.splitlines()) <= 60
