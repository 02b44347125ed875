"""Whatever the recipe: plan, kill, resume, retry, validate, status and report, on both engines."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
import thumbnails
from killed_after import kill_after
from PIL import Image
from thumbnails import RECIPE

from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.run.config import RunConfig
from pipeline.run.folder import RunRequest, make_plan
from pipeline.run.job import run
from pipeline.run.retry import retry_run
from pipeline.run.status import run_status
from pipeline.run.validate import validate_run
from pipeline.storage.store import Store

FOLDERS = 12
BROKEN, BLACK, SAME = 4, 7, 2
"""A folder without a PNG, one of black photos, and one with the bytes of folder 0."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # Ray's own


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Folders of one to three photos, each with a file that is none."""
    root = tmp_path_factory.mktemp("people")
    for number in range(FOLDERS):
        folder = root / f"{number:02}"
        folder.mkdir()
        (folder / "notes.jpg").write_bytes(b"no photo")
        for photo in range(1 if number in (0, SAME) else 1 + number % 3):
            shade = {BLACK: 0, SAME: 1}.get(number, 1 + 10 * number + photo)
            (folder / f"{photo}.png").write_bytes(b"later" if number == BROKEN else png(shade))
    return root


def request(people: Path, out: Path, engine: str) -> RunRequest:
    return RunRequest(RECIPE, str(people), str(out), load_config(RunConfig, None, options(engine)))


def options(engine: str) -> list[str]:
    return [
        "plan.shard_size=4",
        "plan.chunk_size=1",
        "output.files=tar",
        "engine.cpus=1",
        f"engine.name={engine}",
    ]


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("[rf]*/shard-*")}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def test_folder_of_photos_to_one_record(people, tmp_path, monkeypatch, engine):
    path = [str(Path(thumbnails.__file__).parent), os.getcwd()]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve the workers
    alone, out = tmp_path / "alone", tmp_path / "out"
    run(request(people, alone, "local"))

    planned = make_plan(request(people, out, engine)).plan
    assert (planned.items, planned.images, planned.shards) == (FOLDERS, 34, 3)
    store = Store(str(out))
    kill_after(3, "thumbnails", people, out, options(engine))
    assert run_status(store).status in ("starting", "running")  # a sign of life is up to 10 s old

    done = run(request(people, out, engine))
    assert shard_bytes(out) == shard_bytes(alone)
    assert (done.counts.records, done.counts.images, done.counts.duplicates) == (FOLDERS, 34, 1)
    assert done.counts.statuses == {"ok": FOLDERS - 2, "no_light": 1, "failed": 1}
    assert (done.counts.error_codes, done.counts.found["thumbnails"]) == ({"decode_failed": 1}, 18)
    assert Path(done.report).read_text() == "<p>Thumbnails</p>"
    status = run_status(store)
    assert (status.status, status.images_done, status.shards_done) == ("complete", 34, 3)
    assert validate_run(RECIPE, str(out)).sound

    (people / f"{BROKEN:02}" / "0.png").write_bytes(png(200))
    tried = retry_run(RECIPE, str(out), ["decode_failed"])
    (people / f"{BROKEN:02}" / "0.png").write_bytes(b"later")
    assert (tried.tried, tried.ok, tried.shards) == ({"decode_failed": 1}, 1, 1)
    assert validate_run(RECIPE, str(out)).sound
    rows = ds.dataset(f"{out}/records").to_table().sort_by("uri").to_pylist()
    assert [Path(row["uri"]).name for row in rows] == [f"{number:02}" for number in range(FOLDERS)]
    assert rows[BROKEN]["colour"] == [200, 200, 200]
    assert rows[SAME]["duplicate_of"] == rows[0]["id"]


def test_photo_count_and_new_photos_of_a_folder(people, tmp_path):
    for folder in people.iterdir():
        (tmp_path / "in" / folder.name).mkdir(parents=True)
        for path in folder.iterdir():
            (tmp_path / "in" / folder.name / path.name).write_bytes(path.read_bytes())
    asked = request(tmp_path / "in", tmp_path / "out", "local")
    run(asked)
    (tmp_path / "in" / "03" / "9.png").write_bytes(png(9))
    (tmp_path / "in" / "99").mkdir()
    (tmp_path / "in" / "99" / "0.png").write_bytes(png(9))
    planned = make_plan(asked, extend=True)
    assert (planned.new, planned.changed, planned.vanished, planned.images_left) == (1, 1, 0, 1)
    assert run(asked).counts.records == FOLDERS + 1


def test_workers_of_unknown_stages_are_refused(people, tmp_path):
    config = load_config(RunConfig, None, ["engine.workers.crop=3"])
    with pytest.raises(ConfigError, match=r"no stage crop.*there are shrink, mean"):
        run(RunRequest(RECIPE, str(people), str(tmp_path), config))
