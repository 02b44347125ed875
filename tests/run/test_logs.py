"""Log lines, and the limit on failures that ends a run with its reasons."""

import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs import entry
from jobs.normals import command
from pipeline.config import load_config
from pipeline.errors import ConfigError, FailureLimitError
from pipeline.recipes.normals import NormalsRun
from pipeline.run import logs
from pipeline.run.config import EngineConfig
from pipeline.run.counts import Counts
from pipeline.run.failures import check_failures
from pipeline.run.progress import ListingProgress, Progress


@pytest.fixture(autouse=True)
def restored():
    yield
    for handler in [handler for handler in logs.ROOT.handlers if isinstance(handler, logs.StderrHandler)]:
        logs.ROOT.removeHandler(handler)
    logs.ROOT.setLevel(logging.NOTSET)


ROOT = Path(__file__).resolve().parents[2]
HOSTILE = '/photos/\x1b[2J\n{"event": "run_ended"}\u2028é.jpg'


def faults(code: str = "internal_error", uri: str = HOSTILE) -> Counts:
    counts = Counts(images=1, error_codes=Counter({code: 1}))
    counts.examples[code] = [(uri, "ValueError: \x07")]
    return counts


class TestLines:
    def test_json(self, capsys):
        logs.set_up(as_json=True)
        assert logs.writes_json()
        logs.shard_committed(7, Counts(images=3, found=Counter(faces=4)))
        logs.unexpected_failures(faults())
        logs.unexpected_failures(faults("truncated"))
        logs.unexpected_failures(faults(uri="https://host/a.jpg"))
        logs.say("A note.")
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            logging.getLogger("pipeline.run.stages").exception("Photo %d failed", 5)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.isascii()
        shard, photo, web, note, other = map(json.loads, captured.err.splitlines())
        assert (shard["event"], shard["shard"], shard["images"], shard["faces"]) == (
            "shard_committed",
            7,
            3,
            4,
        )
        assert (photo["event"], photo["level"], photo["uri"]) == ("photo_failed", "error", HOSTILE)
        assert photo["error_code"] == "internal_error"
        assert isinstance(photo["id"], int)
        assert web["id"] is None
        assert (note["event"], note["message"]) == ("note", "A note.")
        assert (other["event"], other["message"]) == ("log", "Photo 5 failed")
        assert "ZeroDivisionError" in other["exception"]
        assert all(line["time"].endswith("+00:00") for line in (shard, photo, note, other))

    def test_id_is_that_of_the_records(self, capsys, tmp_path):
        from pipeline.images.sources import list_input

        (tmp_path / "a.jpg").write_bytes(b"x")
        (listed,) = list_input(str(tmp_path))
        logs.set_up(as_json=True)
        logs.unexpected_failures(faults("crashed", listed.uri))
        assert json.loads(capsys.readouterr().err)["id"] == listed.id

    def test_text(self, capsys):
        logs.set_up()
        assert not logs.writes_json()
        logs.shard_committed(7, Counts(images=1000, found=Counter(faces=1)))
        logs.unexpected_failures(faults())
        logs.say("A note.\x1b[2J")
        shard, photo, note = capsys.readouterr().err.split("\n")[:3]
        assert shard.endswith(" Shard 7: 1,000 photos, 1 face, 0 failed.")
        assert "\x1b" not in photo
        assert note == "A note.?[2J"

    def test_terminal_shows_warnings_alone(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        logs.set_up()
        logs.shard_committed(7, Counts())
        logs.event("x", "A warning.", logging.WARNING)
        assert capsys.readouterr().err.endswith(" A warning.\n")

    def test_setting_up_again_replaces(self, capsys):
        logs.set_up()
        logs.set_up(as_json=True)
        logs.event("x", "Once.")
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_progress_is_an_event(self, caplog):
        logs.set_up(as_json=True)
        caplog.set_level(logging.INFO)
        with Progress(10, Counts(images=4), interval=0.001), ListingProgress(interval=0.001):
            while {getattr(record, "event", "") for record in caplog.records} < {"progress", "listing"}:
                pass
        fields = {record.event: record.fields for record in caplog.records}
        assert (fields["progress"]["images"], fields["progress"]["total"]) == (4, 10)
        assert fields["progress"]["seconds_left"] is None
        assert fields["listing"] == {"images": 0, "bytes": 0}


class TestLimit:
    @pytest.mark.parametrize(
        ("limit", "images", "failures", "exceeded"),
        [
            (None, 10**6, 10**6, False),
            ("5%", 999, 999, False),
            ("5%", 1000, 50, False),
            ("5%", 1000, 51, True),
            ("0.1%", 10**6, 1001, True),
            ("0%", 1000, 1, True),
            ("200", 200, 200, False),
            ("200", 201, 201, True),
            ("0", 5, 1, True),
            ("0", 5, 0, False),
        ],
    )
    def test_share_and_number(self, limit, images, failures, exceeded):
        counts = Counts(records=images, error_codes=Counter(timeout=failures))
        config = EngineConfig(max_failures=limit)
        if not exceeded:
            check_failures(counts, config)
            return
        with pytest.raises(FailureLimitError, match=f"{failures:,} of {images:,}") as caught:
            check_failures(counts, config)
        assert (caught.value.code, caught.value.counts) == ("too_many_failures", counts)

    @pytest.mark.parametrize("value", ["5 %", "-1", "x", "100%", "1.5", "%", "true", "٣"])
    def test_what_is_no_limit(self, value):
        with pytest.raises(ConfigError, match=r"engine\.max_failures"):
            load_config(NormalsRun, None, [f"engine.max_failures={value}"])

    def test_run_that_goes_wrong_is_stopped_with_the_reasons(
        self, tmp_path, random_weights, monkeypatch, capsys
    ):
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        (tmp_path / "in").mkdir()
        for number in range(6):
            (tmp_path / "in" / f"{number}.jpg").write_bytes(b"" if number % 2 else b"no image")

        def facet(*options: str) -> tuple[int, list[str], str]:
            arguments = [str(tmp_path / "in"), str(tmp_path / "out"), *options]
            settings = [f"normals.weights={random_weights}", "plan.shard_size=2", "engine.cpus=1"]
            for setting in [*settings, "output.report=false"]:
                arguments += ["--set", setting]
            try:
                entry.run(command, arguments)
            except SystemExit as ended:
                captured = capsys.readouterr()
                return int(ended.code or 0), captured.err.splitlines(), captured.out
            raise AssertionError

        code, lines, _ = facet("--max-failures", "3")
        assert code == 2
        assert lines[-1].startswith("facet: 4 of 4 failed, and engine.max_failures is 3.")
        assert lines[-1].endswith("[too_many_failures]")
        table = [line.strip() for line in lines[-7:-1]]
        assert {"unsupported_format: 2", "empty_file: 2"} < set(table)
        assert any(line.startswith(f"{tmp_path}/in/0.jpg: ") for line in table)
        state = json.loads((tmp_path / "out" / "run.json").read_text())
        assert (state["status"], state["counts"]["images"]) == ("failed", 2)

        code, lines, _ = facet("--max-failures", "1", "--log-json")
        events = [json.loads(line) for line in lines]
        assert code == 2
        assert (events[-1]["event"], events[-1]["code"]) == ("error", "too_many_failures")
        ended = next(event for event in events if event["event"] == "run_ended")
        assert (ended["status"], ended["error"], ended["failed"]) == ("failed", "too_many_failures", 2)

        code, lines, out = facet("--max-failures", "6", "--log-json")
        assert code == 1
        assert json.loads(lines[-1])["message"] == "Every photo failed: 3 unsupported_format, 3 empty_file."
        assert out.startswith("6 photos: ")
        names = Counter(json.loads(line)["event"] for line in lines)
        assert names == {"note": 1, "run_started": 1, "shard_committed": 2, "run_ended": 1, "error": 1}


def test_options_of_the_command_line_reach_the_configuration(tmp_path: Path):
    done = CliRunner().invoke(command, [str(tmp_path), str(tmp_path / "out"), "--max-failures", "much"])
    assert isinstance(done.exception, ConfigError)


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_command_works_with_closed_streams(tmp_path, closed):
    """As services and cron jobs start it; with a wrong number a message would land in a file of the run."""
    program = "from jobs.cli import main; main()"
    command = f'exec {sys.executable} -c "{program}" plan tests/photos {tmp_path}/out {closed}'
    done = subprocess.run(["sh", "-c", command], check=False, cwd=ROOT)
    assert done.returncode == 0
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "planned"
