"""Two runs on one folder at once: the records are those of one run, whatever becomes of the other."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from bad_images import encode, portrait
from faulty_detector import REFERENCE, mark
from normals_run import count_rows, make_plan, run_normals, work_in, write_rows
from PIL import Image
from run_folder import failed

from pipeline.config import load_config
from pipeline.errors import OutputError
from pipeline.images.sources import list_input
from pipeline.recipes.normals import RECIPE, NormalsRun
from pipeline.run import job
from pipeline.run.job import Result
from pipeline.run.markers import committed_shards
from pipeline.run.shards import commit_shard
from pipeline.run.validate import validate_run
from pipeline.storage.store import Store

PHOTOS = Path(__file__).parents[1] / "photos"
SETTINGS = [
    "plan.shard_size=1",
    "engine.name=local",
    "engine.cpus=1",
    "output.report=false",
    "detect.mode=custom",
    f"detect.detector={REFERENCE}",
    "limits.photo_seconds=600",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Folder of a few photos, the last of which waits when a test says so, and files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("rendered_1.jpg", "rendered_2.jpg"):
        with Image.open(PHOTOS / name) as photo:
            photo.resize((256, 256 * photo.height // photo.width)).save(folder / name)
    (folder / "waits.png").write_bytes(encode(mark(portrait(200), "wait"), "PNG"))
    (folder / "long.jpg").write_bytes(bytes(1000))
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture
def run(random_weights, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def start(source: Path, out: Path, watch=None) -> Result:
        settings = [*SETTINGS, f"normals.weights={random_weights}"]
        config = load_config(NormalsRun, None, settings)
        return run_normals(str(source), str(out), config, say=lambda _: None, watch=watch)

    return start


@pytest.fixture(scope="module")
def alone(photos, random_weights, tmp_path_factory) -> dict[str, bytes]:
    """Files of records of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("alone") / "out"
    settings = [*SETTINGS, f"normals.weights={random_weights}"]
    run_normals(str(photos), str(out), load_config(NormalsRun, None, settings), say=lambda _: None)
    return shard_bytes(out)


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "records").iterdir()}


def check(out: Path, alone: dict[str, bytes], source: Path) -> None:
    """Checks that a folder is that of one run that is complete."""
    assert shard_bytes(out) == alone
    assert len(committed_shards(Store(str(out)))) == len(alone)
    assert json.loads((out / "run.json").read_text())["status"] == "complete"
    assert sorted(path.name for path in out.iterdir()) == ["_done", "plan", "records", "run.json"]
    assert len(list((out / "plan").iterdir())) == 2
    uris = ds.dataset(f"{out}/records").to_table(columns=["uri"])["uri"].to_pylist()
    assert sorted(uris) == sorted(file.uri for file in list_input(str(source)))


@pytest.fixture
def flag(tmp_path) -> Path:
    return tmp_path / "wait"


@pytest.fixture
def start(photos, random_weights, flag):
    """Starts `facet normals` as a process."""
    processes = []
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    environment = os.environ | {"PYTHONPATH": paths, "FACET_TEST_WAIT": str(flag)}

    def start(out: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "jobs.normals", str(photos), str(out), "--log-json"]
        for setting in [*SETTINGS, f"normals.weights={random_weights}"]:
            command += ["--set", setting]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def events(stderr: str) -> list[str]:
    return [json.loads(line)["event"] for line in stderr.splitlines()]


@pytest.mark.slow
def test_two_processes_started_at_once(start, photos, tmp_path, alone):
    out = tmp_path / "out"
    processes = [start(out), start(out)]
    for process in processes:
        stdout, stderr = process.communicate(timeout=240)
        assert process.returncode == 0, stderr
        assert stdout.startswith("6 photos: ")
        said = events(stderr)
        assert (said.count("run_started"), said.count("run_ended")) == (1, 1)
    check(out, alone, photos)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_end_of_one_does_not_harm_the_other(start, photos, tmp_path, alone, run, flag, number):
    out = tmp_path / "out"
    flag.touch()
    one, other = start(out), start(out)
    while len(committed_shards(Store(str(out)))) < len(alone) - 1:
        assert (one.poll(), other.poll()) == (None, None), other.communicate()
        time.sleep(0.01)
    one.send_signal(number)
    one.communicate(timeout=240)
    assert one.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    flag.unlink()
    _, stderr = other.communicate(timeout=240)
    assert other.returncode == 0, stderr
    run(photos, out)  # removes what a killed process has left
    check(out, alone, photos)


def test_other_run_ends_first_and_tidies_up(photos, tmp_path, alone, run):
    """In the middle of the first run a second does everything and removes all scratch files."""
    out = tmp_path / "out"
    seen = []

    def interrupted(counts):
        seen.append(counts)
        if len(seen) == 1:
            assert list((out / "_work").iterdir())
            run(photos, out)
            assert not (out / "_work").exists()

    assert run(photos, out, interrupted).counts.images == 6
    check(out, alone, photos)


def test_failure_when_all_is_done_is_none(photos, tmp_path, alone, run):
    out = tmp_path / "out"

    def overtaken(counts):
        run(photos, out)
        raise OutputError("Cannot write a part.")

    assert run(photos, out, overtaken).counts.images == 6
    check(out, alone, photos)


def test_failure_before_all_is_done_is_one(photos, tmp_path, alone, run):
    out = tmp_path / "out"

    def failing(counts):
        raise OutputError("Cannot write a part.")

    with pytest.raises(OutputError, match="a part"):
        run(photos, out, failing)
    assert json.loads((out / "run.json").read_text())["status"] == "failed"
    run(photos, out)
    check(out, alone, photos)


def test_stopped_run_removes_its_own_scratch_files_alone(photos, tmp_path, alone, run):
    out = tmp_path / "out"
    store = Store(str(out))

    def stop(counts):
        store.write("_work/other/00000/0000.parquet", b"of a session that is alive")
        raise KeyboardInterrupt

    with pytest.raises(job.Stopped):
        run(photos, out, stop)
    assert store.names("_work") == ["other"]
    run(photos, out)
    check(out, alone, photos)


def test_extension_while_a_run_goes_on(photos, tmp_path, random_weights, run):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = sorted(path.name for path in photos.iterdir())
    for name in names[:2]:
        shutil.copy(photos / name, source)
    config = load_config(NormalsRun, None, [*SETTINGS, f"normals.weights={random_weights}"])
    seen = []

    def extended(counts):
        seen.append(counts)
        if len(seen) == 1:
            for name in names[2:]:
                shutil.copy(photos / name, source)
            assert make_plan(str(source), str(out), config, extend=True).new == 4

    assert run(source, out, extended).counts.images == 6
    state = json.loads((out / "run.json").read_text())
    assert (state["status"], state["plan"]["extensions"]) == ("complete", 1)
    uris = ds.dataset(f"{out}/records").to_table(columns=["uri"])["uri"].to_pylist()
    assert sorted(uris) == sorted(str(source / name) for name in names)


def test_extension_that_was_being_written_when_a_run_began(photos, tmp_path, random_weights, run):
    source, later, out, other = (tmp_path / name for name in ("in", "later", "out", "other"))
    source.mkdir()
    later.mkdir()
    names = sorted(path.name for path in photos.iterdir())
    for name in names[:2]:
        shutil.copy(photos / name, source)
    config = load_config(NormalsRun, None, [*SETTINGS, f"normals.weights={random_weights}"])
    make_plan(str(source), str(out), config)
    shutil.copytree(out, other)
    for name in names[2:]:
        shutil.copy(photos / name, source)
    make_plan(str(source), str(other), config, extend=True)
    for path in (other / "plan").iterdir():
        if path.name != "plan.json":
            shutil.copy(path, out / "plan")
    for name in names[2:]:
        (source / name).rename(later / name)

    def planned(counts):
        for path in later.iterdir():  # none from the second time on
            path.rename(source / path.name)
        shutil.copy(other / "plan" / "plan.json", out / "plan")

    assert run(source, out, planned).counts.images == 6
    found = validate_run(RECIPE, str(out), workers=1)
    assert (found.sound, found.open, found.leftovers) == (True, [], [])


@pytest.mark.parametrize("name", ["_work/facet-0123", "writable"])
def test_run_that_was_killed_as_it_began_is_no_hindrance(photos, tmp_path, alone, run, name):
    out = tmp_path / "out"
    path = out / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    run(photos, out)
    check(out, alone, photos)
    assert not path.exists()


def test_work_folder_of_somebody_else_is_no_run(photos, tmp_path, run):
    path = tmp_path / "out" / "_work" / "thesis.tex"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="something else"):
        run(photos, tmp_path / "out")
    assert path.exists()


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
def test_folder_that_others_remove_is_made_again(tmp_path, monkeypatch, error):
    def lost(self, *arguments, **options):
        monkeypatch.undo()
        raise error(str(self))

    monkeypatch.setattr(Path, "mkdir", lost)
    store = Store(str(tmp_path / "out")).of_session("s")
    store.write("a", b"content")
    assert Path.mkdir is not lost
    assert store.read("a") == b"content"


def test_what_others_remove_at_the_same_time_is_removed(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    store.write("a", b"content")
    rm = store.filesystem.rm

    def second(path, recursive):
        monkeypatch.undo()
        rm(path, recursive)
        raise FileNotFoundError(path)

    monkeypatch.setattr(store.filesystem, "rm", second)
    store.remove("a")
    assert store.filesystem.rm is not second
    assert store.names() == []


def test_parts_of_a_shard_that_is_committed_are_dropped(tmp_path):
    store = Store(str(tmp_path))
    markers = []
    for session, code in (("first", "timeout"), ("second", "truncated")):
        rows, work = [failed(1, "/1.jpg", code, "")], work_in(store, session, chunks=1)
        write_rows(work, 7, 0, rows)
        markers.append(commit_shard(work, 7, count_rows(rows)))
    assert markers[0] == markers[1]
    assert ds.dataset(f"{tmp_path}/records").to_table()["error_code"].to_pylist() == ["timeout"]
    assert store.names("_work/first") == store.names("_work/second") == []
