"""What `facet multiview` says of photos that are not those of one person, each once and upright."""

import shutil
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from PIL import Image

from pipeline.config import load_config
from pipeline.recipes.multiview import RECIPE, MultiviewRun
from pipeline.run.folder import RunRequest, make_plan
from pipeline.run.job import run
from pipeline.run.validate import validate_run
from pipeline.storage.store import Store

PHOTOS = Path(__file__).resolve().parents[1] / "photos"
MARKUP = "<img src=x onerror=alert(1)>"
MANY = 200
OPTIONS = [
    "details.texture_size=512",
    "details.fit.photometric_steps=1",
    "person.most_photos=2",
    "plan.shard_size=2",
    "engine.name=local",
    "engine.cpus=1",
]

pytestmark = pytest.mark.timeout(900)  # seventy photos on a busy core


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    people = folder / "people"
    for name in (MARKUP, "gone", "going", "many", "two", "upside"):
        (people / name).mkdir(parents=True)
    for name in ("rendered_1.jpg", "rendered_2.jpg"):
        shutil.copy(PHOTOS / name, people / "two")
    shutil.copy(PHOTOS / "person/1.jpg", people / MARKUP)
    for name in ("gone", "going"):
        shutil.copy(PHOTOS / "person/1.jpg", people / name)
        shutil.copy(PHOTOS / "person/2.jpg", people / name)
    photo = Image.open(PHOTOS / "person/2.jpg")
    small = photo.resize((100, 100), Image.Resampling.LANCZOS)
    for k in range(MANY):
        small.rotate((k + 6) / 6).save(people / f"many/{k:03}.jpg", quality=95)
    shutil.copy(PHOTOS / "person/1.jpg", people / "upside/1.jpg")
    photo.rotate(180).save(people / "upside/2.jpg", quality=95)
    settings = load_config(MultiviewRun, None, OPTIONS)
    make_plan(RunRequest(RECIPE, str(people), Store(str(folder / "out")), settings))
    shutil.rmtree(people / "gone")
    (people / "going/2.jpg").unlink()
    run(RunRequest(RECIPE, str(people), str(folder / "out"), settings))
    return folder / "out"


@pytest.fixture(scope="module")
def rows(done) -> dict[str, dict]:
    found = ds.dataset(done / "records").to_table().to_pylist()
    return {row["uri"].rpartition("/")[2]: row for row in found}


def test_all_of_it_is_sound(done):
    assert validate_run(RECIPE, str(done)).sound


def test_one_photo_gives_a_head_without_a_comparison(rows):
    assert rows[MARKUP]["status"] == "ok"
    assert len(rows[MARKUP]["faces"]) == 1
    assert [cost["stage"] for cost in rows[MARKUP]["costs"]] == ["mean", "points", "normals"]


def test_names_with_markup_are_shown_as_names(done):
    page = (done / "report/heads.html").read_text("utf-8")
    assert MARKUP not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_of_many_photos_some_are_read_and_those_that_differ_are_used(rows):
    photos = rows["many"]["photos"]
    said = [photo["status"] for photo in photos]
    assert len(photos) == MANY
    assert said.count("ok") == len(rows["many"]["faces"]) == 2
    assert set(said) == {"ok", "left_out"}
    assert {photo["reason"] for photo in photos} == {
        None,
        "of so many photos 60 are read",
        "2 photos are taken, those that differ most",
    }
    assert said[0] != "left_out" or photos[0]["reason"].startswith("2")


def test_a_photo_of_somebody_else_is_left_out_with_how_unlike_it_is(rows):
    photos = rows["two"]["photos"]
    assert sorted(photo["status"] for photo in photos) == ["ok", "rejected"]
    (stranger,) = (photo for photo in photos if photo["status"] == "rejected")
    assert stranger["likeness"] < 0.2
    assert stranger["reason"] == f"it shows another head: likeness {stranger['likeness']:.2f}"
    assert all(photo["likeness"] > 0.2 for photo in rows["upside"]["photos"])
    assert rows[MARKUP]["photos"][0]["likeness"] is None


def test_a_photo_upside_down_is_used(rows):
    (first, second) = (face["head"]["rotation"] for face in rows["upside"]["faces"])
    assert first[4] > 0.8
    assert second[4] < -0.8


def test_who_is_gone_since_the_plan_was_made_has_a_record(rows):
    assert (rows["gone"]["status"], rows["gone"]["error_code"]) == ("failed", "not_found")
    assert rows["going"]["status"] == "ok"
    assert [photo["status"] for photo in rows["going"]["photos"]] == ["ok", "not_found"]
