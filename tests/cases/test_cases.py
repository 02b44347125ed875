"""Cases from the field that are commands, as they were typed: what they print and how they end."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset
import pytest
from bad_images import encode, portrait
from spheres import sphere_row, write_rows

ROOT = Path(__file__).resolve().parents[2]
FACET = [sys.executable, "-c", "from jobs.cli import main; main()"]


def facet(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command of `facet` as a process of its own."""
    return subprocess.run(
        [*FACET, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
    )


def said_in_one_line(done: subprocess.CompletedProcess[str], word: str) -> None:
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("facet: ")
    assert word in last
    assert "Traceback" not in done.stderr + done.stdout


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> str:
    """Three labelled rows: fewer than a batch."""
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.parquet", [sphere_row(i, 32) for i in range(3)])


@pytest.mark.parametrize(("command", "device"), [("evaluate", "gpu"), ("train", "cuda:9")])
def test_a_device_that_is_not_there(rows, tmp_path, command, device):
    if command == "evaluate":
        done = facet("evaluate", "compact", rows, "--device", device)
    else:
        options = ("--set", f"device={device}", "--set", "steps=1")
        done = facet("train", "--local", "--data", rows, "--out", tmp_path / "out", *options)
    said_in_one_line(done, device)


def test_fewer_rows_than_a_batch(rows, tmp_path):
    options = ("--set", "steps=2", "--set", "stages=[{share: 1.0, size: 32, batch_size: 16}]")
    done = facet("train", "--local", "--data", rows, "--out", tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out/weights").glob("*.safetensors"))


@pytest.mark.parametrize("closed", [("2>&-", "--log-json"), ("<&- >&- 2>&-",)])
def test_a_run_with_closed_streams(random_weights, tmp_path, closed):
    """As services and cron jobs start it. No face is looked for: it is the streams that count."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(encode(portrait(64), "PNG"))
    streams, *options = closed
    options += ["--engine", "local", "--weights", str(random_weights), "--set", "output.report=false"]
    words = " ".join(f"'{word}'" for word in [*FACET, "normals", f"{tmp_path}/photos", f"{tmp_path}/out"])
    command = f"exec {words} {' '.join(options)} {streams}"
    assert subprocess.run(["sh", "-c", command], check=False, cwd=ROOT).returncode == 0
    assert list((tmp_path / "out/_done").iterdir())
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "complete"


@pytest.mark.parametrize("files", ["folder", "tar"])
def test_no_name_of_an_output_is_taken_for_an_option(random_weights, tmp_path, files):
    (tmp_path / "photos").mkdir()
    for name in ("-rf.png", "a b.png", "--help.png"):
        (tmp_path / "photos" / name).write_bytes(encode(portrait(200), "PNG"))
    options = ("--engine", "local", "--weights", random_weights, "--files", files)
    done = facet("normals", tmp_path / "photos", tmp_path / "out", *options, "--set", "output.report=false")
    assert done.returncode == 0, done.stderr
    assert pyarrow.dataset.dataset(tmp_path / "out/records").count_rows() == 3
    names = [path.name for path in (tmp_path / "out").rglob("*")]
    if files == "tar":
        (tar,) = (tmp_path / "out/files").glob("*.tar")
        names += subprocess.run(["tar", "tf", tar], capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )
    assert sum(name.endswith(".png") for name in names) == 9
    assert not [name for name in names if name.startswith("-")]


@pytest.mark.parametrize("name", ["one.xyz", "table.csv"])
def test_an_input_that_yields_no_photo_is_no_success(tmp_path, name):
    (tmp_path / name).write_text("name,age\nanna,7\n")
    done = facet("normals", tmp_path / name, tmp_path / "out", "--engine", "local")
    said_in_one_line(done, name)
