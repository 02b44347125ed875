"""Trying photos again: what failed for a passing reason is done, and nothing else changes."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from bad_images import encode, portrait
from click.testing import CliRunner
from faulty_store import FaultyStore
from killed_at import kill_at
from normals_run import run_normals

from jobs.retry import command
from pipeline.config import load_config
from pipeline.errors import ConfigError, OutputError
from pipeline.images.png import decode_png
from pipeline.recipes.normals import RECIPE, NormalsRun
from pipeline.run.counts import Counts
from pipeline.run.problems import having
from pipeline.run.retry import compare, describe_retry, retry_run
from pipeline.run.validate import validate_run
from pipeline.storage.store import Store

OPTIONS = ["plan.shard_size=4", "plan.chunk_size=2", "engine.name=local", "engine.cpus=1"]
LATE = (1, 3, 8)
"""Photos that are not there at first: two of shard 0 and one of shard 2. Photo 3 has the bytes of photo 0."""


@pytest.fixture(scope="session")
def listed_photos(tmp_path_factory) -> tuple[Path, dict[int, bytes]]:
    """A list of ten photos, of which number 5 is empty, and number 4 has no face; and their contents."""
    folder = tmp_path_factory.mktemp("photos")
    contents = {}
    for number in range(10):
        pixels = portrait(160).copy()
        pixels[:2, :2] = number
        contents[number] = encode(pixels, "PNG")
    contents[3] = contents[0]
    contents[4] = encode(portrait(160)[:40], "PNG")
    contents[5] = b""
    listing = folder / "list.txt"
    listing.write_text("".join(f"{number}.png\n" for number in contents))
    return listing, contents


@pytest.fixture
def start(listed_photos, random_weights, monkeypatch) -> Callable[..., None]:
    """Runs `facet normals` over the list, with some photos missing."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    listing, contents = listed_photos

    def run(out: Path, *options: str, missing: tuple[int, ...] = ()) -> None:
        for number, content in contents.items():
            path = listing.with_name(f"{number}.png")
            path.unlink(missing_ok=True)
            if number not in missing:
                path.write_bytes(content)
        settings = [*OPTIONS, f"normals.weights={random_weights}", "output.report=false", *options]
        run_normals(str(listing), str(out), load_config(NormalsRun, None, settings), say=lambda line: None)
        for number, content in contents.items():
            listing.with_name(f"{number}.png").write_bytes(content)

    return run


@pytest.fixture(scope="session")
def _made() -> dict[str, Path]:
    return {}


@pytest.fixture
def whole(start, _made, tmp_path_factory) -> Path:
    """Folder of a run in which all photos were there from the beginning."""
    if "whole" not in _made:
        _made["whole"] = tmp_path_factory.mktemp("whole") / "out"
        start(_made["whole"])
    return _made["whole"]


@pytest.fixture
def lacking(start, _made, tmp_path_factory, tmp_path) -> Path:
    """Folder of a run that lacked some photos, which are there by now."""
    if "lacking" not in _made:
        _made["lacking"] = tmp_path_factory.mktemp("lacking") / "out"
        start(_made["lacking"], missing=LATE)
    return Path(shutil.copytree(_made["lacking"], tmp_path / "out"))


def content_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def retry(out: Path | Store, codes: str, *options: str):
    lines: list[str] = []
    out = out if isinstance(out, Store) else str(out)
    return retry_run(RECIPE, out, codes.split(","), None, options, lines.append)


def statuses(out: Path) -> list[tuple[str, str | None]]:
    table = ds.dataset(f"{out}/records").to_table(columns=["uri", "status", "error_code"])
    rows = sorted(table.to_pylist(), key=lambda row: row["uri"])
    return [(row["status"], row["error_code"]) for row in rows]


def assert_same(out: Path, whole: Path) -> None:
    """Asserts that two runs have the same records, but for the rounding of the normals.

    Alone in its batch a crop's normals may come out different in their last bit, on a CPU that computes in
    fp32.
    """
    ours, theirs = (ds.dataset(f"{folder}/records").to_table().to_pylist() for folder in (out, whole))
    for row in (*ours, *theirs):
        for face in row["faces"]:
            face["normal_png"] = decode_png(face["normal_png"])
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        for our_face, their_face in zip(our["faces"], their["faces"], strict=True):
            assert np.allclose(our_face.pop("normal_png"), their_face.pop("normal_png"), atol=1)
    assert ours == theirs


class TestRecovered:
    def test_what_was_missing_is_there_and_all_else_as_it_was(self, lacking, whole):
        before = {path: path.stat().st_mtime_ns for path in lacking.rglob("*-00001*")}
        seconds = json.loads((lacking / "run.json").read_text())["seconds"]
        assert Counter(code for _, code in statuses(lacking))["not_found"] == 3
        done = retry(lacking, "not_found", "output.report=true")
        assert_same(lacking, whole)
        assert {path: path.stat().st_mtime_ns for path in lacking.rglob("*-00001*")} == before
        assert (done.tried, done.ok, done.empty, done.failed) == ({"not_found": 3}, 3, 0, {})
        assert (done.shards, done.open, done.counts.images) == (2, 0, 10)
        assert validate_run(RECIPE, str(lacking), workers=1).sound
        assert not (lacking / "_work").exists()
        state = json.loads((lacking / "run.json").read_text())
        assert state["status"] == "complete"
        assert state["counts"] == json.loads(json.dumps(done.counts.to_json()))
        assert state["counts"]["error_code"] == {"empty_file": 1}
        assert state["counts"]["duplicates"] == 1
        assert state["seconds"] > seconds
        assert state["config"]["output"]["report"] is False, "the run's configuration stays"
        (entry,) = state["retries"]
        assert (entry["codes"], entry["tried"], entry["failed"]) == (["not_found"], {"not_found": 3}, {})
        page = Path(done.report).read_text("utf-8")
        assert "not_found" not in page
        assert "1 photo with the same bytes" in page

    def test_processes(self, lacking, whole):
        done = retry(lacking, "all", "engine.cpus=2", "engine.in_process_up_to=0")
        assert_same(lacking, whole)
        assert describe_retry(done, RECIPE) == (
            "Tried again: 4 photos (not_found: 3, empty_file: 1); 3 shards written anew.\n"
            "  3 have faces now, 0 have none, 1 failed again (empty_file: 1)."
        )

    @pytest.mark.slow
    @pytest.mark.ray
    @pytest.mark.timeout(900)
    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
    def test_ray(self, lacking, whole, monkeypatch):
        monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve the workers
        assert retry(lacking, "not_found", "engine.name=ray", "engine.cpus=2").shards == 2
        assert_same(lacking, whole)

    def test_photos_that_fail_again_keep_their_record(self, lacking):
        before = content_of(lacking / "records")
        done = CliRunner().invoke(command, [str(lacking), "--codes", "empty_file, no_face"])
        assert done.exit_code == 0, done.output
        assert done.stdout == (
            "Tried again: 2 photos (empty_file: 1, no_face: 1); 1 shard written anew.\n"
            "  0 have faces now, 1 have none, 1 failed again (empty_file: 1).\n"
        )
        assert content_of(lacking / "records") == before

    def test_the_exit_code_tells_when_all_failed_again(self, lacking):
        done = CliRunner().invoke(command, [str(lacking), "--codes", "empty_file"])
        assert done.exit_code == 1
        assert "Every photo failed again: empty_file: 1. [run_failed]" in done.stderr
        assert not (lacking / "_work").exists()

    def test_limits_may_be_raised(self, start, tmp_path):
        start(tmp_path, "decode.max_pixels=10000")
        assert Counter(code for _, code in statuses(tmp_path))["too_many_pixels"] == 8
        done = retry(tmp_path, "too_many_pixels", "decode.max_pixels=1000000")
        assert (done.ok, done.failed) == (8, {})
        (entry,) = json.loads((tmp_path / "run.json").read_text())["retries"]
        assert entry["changed"] == ["decode.max_pixels: 10000 -> 1000000"]


class TestRefused:
    def test_nothing_to_try(self, lacking):
        state = (lacking / "run.json").read_bytes()
        done = retry(lacking, "timeout,crashed")
        assert describe_retry(done, RECIPE) == "There is no photo to try again."
        assert done.counts.images == 10
        assert (lacking / "run.json").read_bytes() == state

    @pytest.mark.parametrize("codes", ["typo", "timeout,typo", "all,timeout", "ok"])
    def test_unknown_codes(self, lacking, codes):
        with pytest.raises(ConfigError, match=r"There is no error code .* Known are: all, .*timeout"):
            retry(lacking, codes)

    @pytest.mark.parametrize("option", ["detect.mode=paper", "output.bits=16", "normals.mirror=true"])
    def test_what_would_change_the_records_of_good_photos(self, lacking, option):
        with pytest.raises(ConfigError, match=rf"cannot change {option.partition('=')[0]}: "):
            retry(lacking, "not_found", option)

    def test_folders_without_a_run(self, tmp_path):
        with pytest.raises(OutputError, match="holds no run"):
            retry(tmp_path, "all")
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(OutputError, match="something else"):
            retry(tmp_path, "all")

    @pytest.mark.parametrize("codes", [[], ["--codes", ","]])
    def test_codes_must_be_given(self, tmp_path, codes):
        done = CliRunner().invoke(command, [str(tmp_path), *codes])
        assert done.exit_code == 2
        assert "--codes" in done.stderr

    def test_damaged_shard_is_not_written_anew(self, lacking):
        path = lacking / "records" / "shard-00002.parquet"
        # Of what the reading stage looks at nothing is changed: the digest alone tells.
        content = path.read_bytes().replace(b"There is no such file", b"There is no such fuel")
        path.write_bytes(content)
        marker = (lacking / "_done" / "00002.json").read_bytes()
        with pytest.raises(OutputError, match=r"Shard 2 of .* `facet validate --repair`"):
            retry(lacking, "not_found")
        assert path.read_bytes() == content
        assert (lacking / "_done" / "00002.json").read_bytes() == marker


class TestInterrupted:
    def test_failing_before_the_commit_changes_nothing(self, lacking, whole):
        before = content_of(lacking / "records"), content_of(lacking / "_done")

        def full(name):
            if name.endswith("00000/0001.parquet"):
                raise OutputError("no space left")

        with pytest.raises(OutputError, match="no space"):
            retry(FaultyStore(str(lacking), full), "not_found")
        assert (content_of(lacking / "records"), content_of(lacking / "_done")) == before
        retry(lacking, "not_found")
        assert_same(lacking, whole)

    def test_failing_within_the_commit_leaves_a_shard_to_be_done(self, lacking, whole, start):
        def full(name):
            if name == "records/shard-00002.parquet":
                assert not (lacking / "_done" / "00002.json").exists(), "the marker goes first"
                raise OutputError("no space left")

        with pytest.raises(OutputError, match="no space"):
            retry(FaultyStore(str(lacking), full), "not_found")
        state = json.loads((lacking / "run.json").read_text())
        assert (state["status"], state["counts"]["images"]) == ("stopped", 8)
        (entry,) = state["retries"]
        assert entry["tried"] == {"not_found": 2}, "of the shard that was committed"
        found = validate_run(RECIPE, str(lacking), workers=1)
        assert (found.sound, found.open) == (True, [2])
        start(lacking)
        assert_same(lacking, whole)
        state = json.loads((lacking / "run.json").read_text())
        assert (state["status"], state["retries"]) == ("complete", [entry])

    def test_a_run_beside_it_leaves_its_work_alone(self, lacking, whole, start):
        begun = []

        def beside(name):
            if name.endswith("00000/0001.parquet") and not begun:
                begun.append(name)
                start(lacking)

        retry(FaultyStore(str(lacking), beside), "not_found")
        assert begun
        assert_same(lacking, whole)
        assert not (lacking / "_work").exists()

    def test_lost_work_costs_no_shard(self, lacking):
        def lose(name):
            if name.startswith("_work/"):
                shutil.rmtree(lacking / "_work", ignore_errors=True)

        before = content_of(lacking / "records"), content_of(lacking / "_done")
        with pytest.raises(OutputError, match="is gone"):
            retry(FaultyStore(str(lacking), lose, "open"), "not_found")
        assert (content_of(lacking / "records"), content_of(lacking / "_done")) == before

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "done_again"),
        [
            ("_work/.*/00000/0001.parquet", []),
            ("records/shard-00000.parquet", [0]),
            ("_done/00002.json", [2]),
        ],
    )
    def test_killed_retry_is_done_by_the_next(self, lacking, whole, start, name, done_again):
        kill_at(name, "jobs.retry", str(lacking), "--codes", "not_found")
        assert validate_run(RECIPE, str(lacking), workers=1).open == done_again
        if done_again:  # killed within the commit of a shard
            start(lacking)
        retry(lacking, "not_found")
        assert_same(lacking, whole)
        assert not (lacking / "_work").exists()


def test_what_became_of_the_photos_follows_from_the_sums():
    before = Counts(statuses=Counter(ok=5, no_face=2, failed=7), error_codes=Counter(timeout=4, crashed=3))
    after = Counts(statuses=Counter(ok=7, no_face=3, failed=4), error_codes=Counter(truncated=1, crashed=3))
    assert having(before, {"timeout", "no_face"}, "no_face") == {"timeout": 4, "no_face": 2}
    done = compare(before, after, {"timeout"}, "no_face")
    assert (done.tried, done.ok, done.empty, done.failed) == (
        {"timeout": 4},
        2,
        1,
        {"truncated": 1},
    )
