"""`facet multiview`: one head for the photos of each person."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from click.testing import CliRunner
from killed_after import kill_after
from PIL import Image

from jobs.report import command as report
from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.recipes.head_export import export_run
from pipeline.recipes.multiview import RECIPE, MultiviewRun
from pipeline.recipes.person_record import SCHEMA, check_person
from pipeline.run.folder import RunRequest
from pipeline.run.job import run
from pipeline.run.status import run_status
from pipeline.run.validate import validate_run
from pipeline.storage.store import Store

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
OPTIONS = [
    "details.texture_size=512",
    "plan.shard_size=1",
    "plan.chunk_size=1",
    "engine.name=local",
    "engine.cpus=1",
    "output.files=folder",
    "output.report=false",
]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Anna in three photos, one of them twice and one no photo; Bert in one; a folder without a face."""
    folder = tmp_path_factory.mktemp("people")
    for person in ("anna", "bert", "nobody", "broken"):
        (folder / person).mkdir()
    photo = Image.open(PHOTOS / "rendered_2.jpg")
    photo.save(folder / "anna/1.png")
    photo.rotate(8, Image.Resampling.BICUBIC).save(folder / "anna/2.jpg", quality=92)
    shutil.copy(folder / "anna/1.png", folder / "anna/3.png")
    (folder / "anna/4.jpg").write_bytes(b"no photo")
    shutil.copy(PHOTOS / "rendered_1.jpg", folder / "bert")
    Image.new("RGB", (200, 150), "grey").save(folder / "nobody/1.png")
    (folder / "broken/1.jpg").write_bytes(b"no photo")
    return folder


@pytest.fixture(scope="module")
def done(people, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    run(RunRequest(RECIPE, str(people), str(out), load_config(MultiviewRun, None, OPTIONS)))
    return out


def rows_of(out: Path) -> dict[str, dict]:
    rows = ds.dataset(out / "records").to_table().to_pylist()
    return {row["uri"].rpartition("/")[2]: row for row in rows}


def test_every_person_has_one_shape_and_a_head_in_every_photo(done):
    rows = rows_of(done)
    anna = rows["anna"]
    assert [photo["status"] for photo in anna["photos"]] == ["ok", "ok", "left_out", "unsupported_format"]
    assert anna["photos"][2]["reason"] == "the same file as 1.png"
    first, second = (face["head"] for face in anna["faces"])
    assert first["identity"] == second["identity"]
    turn = np.reshape(second["rotation"], (3, 3)) @ np.reshape(first["rotation"], (3, 3)).T
    assert abs(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])) - 8) < 3
    assert [cost["stage"] for cost in anna["costs"]] == ["mean", "points", "normals", "photometric"]
    assert all((cost["after"] < cost["before"]) == (cost["refused"] is None) for cost in anna["costs"])
    assert len(rows["bert"]["faces"]) == 1


def test_who_cannot_be_reconstructed_has_a_record_that_says_why(done):
    rows = rows_of(done)
    assert (rows["nobody"]["status"], rows["nobody"]["faces"]) == ("no_face", [])
    assert rows["broken"]["error_code"] == "unsupported_format"
    assert rows["broken"]["photos"][0]["status"] == "unsupported_format"


def test_what_is_written_is_sound(done):
    assert validate_run(RECIPE, str(done)).sound
    assert run_status(Store(str(done))).status == "complete"
    names = [path.name for path in (done / "files").rglob("*.*")]
    assert sorted(name.partition("-")[0] for name in names if name.endswith("-0-texture.jpg")) == [
        "1",
        "2",
        "rendered_1",
    ]
    assert ds.dataset(done / "records").to_table().schema.names == SCHEMA.names


def test_the_report_shows_the_faces_of_all_people(done, people):
    state = json.loads((done / "run.json").read_text())
    page = Path(RECIPE.report(Store(str(done)), MultiviewRun(**state["config"]))).read_text("utf-8")
    assert "<h1>3 faces of 4 people</h1>" in page
    for name in ("anna / 1.png", "anna / 2.jpg", "bert / rendered_1.jpg"):
        assert f'alt="{name}"' in page
        assert f'alt="Normals of face 1 of {name}"' in page
    assert "People without a result" in page
    assert 'href="heads.html"' in page
    assert (done / "report/heads.html").exists()


@pytest.mark.parametrize(
    ("where", "title"),
    [
        (["uri=*/anna", "size>10", "disagree>=0"], "2 faces of 1 person"),
        (["normals_off>500"], "0 faces of 0 people"),
    ],
)
def test_a_sheet_of_people(done, tmp_path, where, title):
    file = tmp_path / "sheet.html"
    conditions = [part for condition in where for part in ("--where", condition)]
    drawn = CliRunner().invoke(report, [str(done), "--to", str(file), *conditions])
    assert drawn.exit_code == 0, drawn.output
    assert f"<h1>{title}</h1>" in file.read_text("utf-8")


def test_a_condition_that_people_do_not_have_is_one_line(done, tmp_path):
    command = [str(done), "--to", str(tmp_path / "sheet.html"), "--where", "width>5"]
    with pytest.raises(ConfigError, match="have no width"):
        CliRunner().invoke(report, command, catch_exceptions=False)


def test_heads_are_exported_photo_by_photo_with_the_same_vertices(done, tmp_path):
    folders = list(export_run(Store(str(done)), Store(str(tmp_path)), formats=["obj"]))
    assert [folder.rpartition("-")[0] for folder in folders] == ["anna-1", "anna-2", "bert-rendered_1"]
    counts = {
        sum(line.startswith("v ") for line in (tmp_path / folder / "proxy.obj").read_text().splitlines())
        for folder in folders
    }
    assert len(counts) == 1


def test_records_that_contradict_themselves_are_found(done):
    anna = rows_of(done)["anna"]
    config = load_config(MultiviewRun, None, OPTIONS)
    assert list(check_person(anna, config, True)) == []
    assert "say" in next(check_person(anna | {"faces": anna["faces"][:1]}, config, True))
    assert "no photos" in next(check_person(anna | {"photos": []}, config, True))
    assert not list(check_person(anna | {"status": "failed", "faces": []}, config, True))


def test_a_person_whom_no_head_fits_is_a_sound_record(people, tmp_path):
    shutil.copytree(people / "bert", tmp_path / "people/bert")
    settings = load_config(MultiviewRun, None, [*OPTIONS, "person.most_angle=0.1"])
    run(RunRequest(RECIPE, str(tmp_path / "people"), str(tmp_path / "out"), settings))
    bert = rows_of(tmp_path / "out")["bert"]
    assert (bert["status"], bert["error_code"], bert["faces"]) == ("failed", "fit_failed", [])
    assert "contradict" in bert["error_message"]
    assert validate_run(RECIPE, str(tmp_path / "out")).sound


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # Ray's own
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_killed_run_goes_on_and_ends_with_the_same(people, done, tmp_path, monkeypatch, engine):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve the workers
    out, options = tmp_path / "out", [*OPTIONS, f"engine.name={engine}"]
    kill_after(1, "pipeline.recipes.multiview", people, out, options)
    run(RunRequest(RECIPE, str(people), str(out), load_config(MultiviewRun, None, options)))
    assert rows_of(out) == rows_of(done)
