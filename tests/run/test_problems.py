"""Photos without a result, listed."""

import csv
import json
import shutil

import pytest
from click.testing import CliRunner
from normals_run import run_normals
from report_files import RUN
from run_folder import face, failed, no_face, ok, write_run

from jobs.errors import command
from jobs.report import command as report
from jobs.status import command as status
from pipeline.config import load_config
from pipeline.errors import ConfigError, OutputError
from pipeline.recipes.normals import NormalsRun


@pytest.fixture(scope="module")
def run_of_two_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    cut = [failed(n, f"/p/{n}.jpg", "truncated", "cut") for n in range(5)]
    shards = [
        [[ok(10, "/p/a.jpg", [face()]), no_face(11, "/p/b.jpg")], cut],
        [[failed(12, "https://u:secret@h/c?key=1", "not_found", "not there"), no_face(13, "/p/d,.jpg")]],
    ]
    write_run(folder, shards, RUN | {"kind": "facet normals"})
    return folder


def invoke(*arguments):
    return CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)


def test_counts_by_code_with_examples(run_of_two_shards):
    lines = invoke(run_of_two_shards).output.splitlines()
    assert lines[0] == "8 of 9 records without faces."
    assert lines[1:5] == ["  truncated: 5", *(f"    /p/{n}.jpg: cut" for n in range(3))]
    assert lines[5:8] == [
        "  no_face: 2",
        *(f"    /p/{name}: No face was found." for name in ("b.jpg", "d,.jpg")),
    ]
    assert lines[8:] == ["  not_found: 1", "    https://h/c: not there"]


@pytest.mark.parametrize(
    ("codes", "names"),
    [("no_face", ["/p/b.jpg", "/p/d,.jpg"]), ("truncated,no_face", None), ("all", None), ("timeout", [])],
)
def test_only_the_codes_that_are_named(run_of_two_shards, codes, names):
    output = invoke(run_of_two_shards, "--codes", codes).output
    number = {"truncated,no_face": 7, "all": 6, "timeout": 0, "no_face": 2}[codes]
    assert output.startswith(f"{number} of 9 records")
    assert ("no_face" in output) == ("no_face" in codes)
    for name in names or ():
        assert name in output


@pytest.mark.parametrize("content", [None, b"PAR1 cut"])
def test_records_that_cannot_be_read_are_one_line(run_of_two_shards, tmp_path, content):
    out = shutil.copytree(run_of_two_shards, tmp_path / "out")
    records = out / "records/shard-00001.parquet"
    records.unlink()
    if content:
        records.write_bytes(content)
    with pytest.raises(OutputError, match=r"Shard 1 of .* clear it with `facet validate --repair`"):
        invoke(out)


@pytest.mark.parametrize("command", [status, report])
@pytest.mark.parametrize("kind", ["facet normals", "facet of later"])
def test_a_run_that_says_nothing_of_itself_is_one_line(tmp_path, command, kind):
    (tmp_path / "run.json").write_text(json.dumps({"kind": kind}))
    with pytest.raises(OutputError, match=r"run\.json is damaged"):
        CliRunner().invoke(command, [str(tmp_path)], catch_exceptions=False)


def test_the_table_has_every_one_and_is_a_list_of_photos(run_of_two_shards, tmp_path):
    file = tmp_path / "failed.csv"
    said = invoke(run_of_two_shards, "--csv", file).output
    assert "8 rows written to" in said
    with open(file, encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 8
    assert rows[-1] == {
        "uri": "/p/d,.jpg",
        "error_code": "no_face",
        "error_message": "No face was found.",
        "id": "13",
        "records": "records/shard-00001.parquet",
    }
    assert rows[-2]["uri"] == "https://u:secret@h/c?key=1"
    config = load_config(NormalsRun, None, ["engine.name=local"])
    only = invoke(run_of_two_shards, "--codes", "truncated", "--csv", "-").output
    assert only.splitlines()[0] == "uri,error_code,error_message,id,records"
    (tmp_path / "again.csv").write_text(only)
    again = run_normals(str(tmp_path / "again.csv"), str(tmp_path / "out"), config)
    assert (again.counts.images, dict(again.counts.error_codes)) == (5, {"not_found": 5})


def test_a_code_that_is_none(run_of_two_shards):
    with pytest.raises(
        ConfigError, match=r"no error code 'trunkated'\. Did you mean truncated\? Known are: all, "
    ):
        invoke(run_of_two_shards, "--codes", "trunkated")
