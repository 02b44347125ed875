"""Heads of rendered people, scored by stage and number of photos."""

import json

from click.testing import CliRunner

from jobs.evaluate import command as evaluate
from jobs.synth import command as synth


def test_people_are_rendered_and_scored(tmp_path, ict_facekit):
    sets, out = tmp_path / "sets", tmp_path / "score"
    options = ["--multiview", "--config", "configs/people.yaml", "--count", "1", "--size", "200"]
    options += ["--model", str(ict_facekit), "--set", "multiview.views=2", "--device", "cpu"]
    assert CliRunner().invoke(synth, [str(sets), *options], catch_exceptions=False).exit_code == 0
    options = ["compact", str(sets), "--people", "--out", str(out)]
    done = CliRunner().invoke(evaluate, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "Of 1 people 0 have" in done.stdout
    rows = [json.loads(line) for line in (out / "people.jsonl").read_text().splitlines()]
    stages = [(row["photos"], row["stage"]) for row in rows]
    assert stages[:4] == [(1, stage) for stage in ("mean", "points", "normals", "answer")]
    assert (2, "photometric") in stages
    assert all(0.3 < row["mm"] < 4 and 2 < row["degrees"] < 25 for row in rows)
    assert all(row["rotation"] < 20 for row in rows if row["photos"] == 2)


def test_data_that_are_no_people_are_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no data")
    done = CliRunner().invoke(evaluate, ["compact", str(tmp_path), "--people"])
    assert done.exit_code != 0
