"""What is told about a run from its folder alone, whoever works on it."""

import io
import json
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from faulty_store import FaultyStore
from normals_run import count_rows, write_rows
from run_folder import failed, no_face

from jobs.status import command
from pipeline.errors import OutputError
from pipeline.images.items import ListedFile, one_photo_each
from pipeline.recipes.normals import RECIPE, NormalsRun
from pipeline.run.config import PlanConfig
from pipeline.run.counts import Counts
from pipeline.run.heartbeat import (
    LISTING,
    PREFIX,
    REPORTING,
    STARTING,
    WORKING,
    Heartbeat,
    Sign,
    read_signs,
)
from pipeline.run.markers import marker_name
from pipeline.run.pace import Meter, Pace
from pipeline.run.plan import read_plan
from pipeline.run.plan_photos import extend_plan, write_plan
from pipeline.run.progress import Progress
from pipeline.run.shards import commit_shard
from pipeline.run.status import RunStatus, describe_status, run_status
from pipeline.run.work import Work
from pipeline.storage.store import Store

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PACE = Pace(images=3, found={"faces": 6}, per_second=0.05, left=6)


def after(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def make_run(folder: Path, photos: int = 10, status: str = "running", **state: Any) -> Store:
    """A run over photos of which each is a shard."""
    store = Store(str(folder))
    listed = [ListedFile(number, f"/{number}.jpg", 100) for number in range(photos)]
    write_plan(store, one_photo_each(listed), PlanConfig(shard_size=1))
    values = {"kind": "facet normals", "status": status, "started": BEGAN.isoformat(), "ended": None, **state}
    store.write("run.json", json.dumps(values).encode())
    return store


def give_sign(
    store: Store, seconds: float, phase: str = WORKING, session: str = "s", pace: Pace | None = PACE
):
    begun, time = BEGAN.isoformat(), after(seconds).isoformat()
    sign = Sign(session, "node-7", 42, phase, begun, 3, pace, begun, time)
    store.write(f"_work/{PREFIX}{session}.json", json.dumps(asdict(sign)).encode())


def commit(store: Store, shard: int, committed: datetime | None, code: str | None = None) -> None:
    uri = f"/{shard}.jpg"
    row = failed(shard, uri, code, "Cut.") if code else no_face(shard, uri)
    work = Work(store, "s", read_plan(store), RECIPE, NormalsRun())
    write_rows(work, shard, 0, [row])
    commit_shard(work, shard, count_rows([row]))
    marker = json.loads(store.read(marker_name(shard)))
    if committed is None:
        del marker["committed"]  # as earlier versions wrote them
    else:
        marker["committed"] = committed.isoformat()
    store.write(marker_name(shard), json.dumps(marker).encode())


def test_running_run(tmp_path):
    store = make_run(tmp_path)
    for shard in (0, 5, 7):
        commit(store, shard, after(10 * (shard + 1)), "truncated" if shard else None)
    give_sign(store, 95)
    found = run_status(store, now=after(100))
    assert (found.status, found.shards_done, found.shards) == ("running", 3, 10)
    assert (found.images_done, found.images) == (3, 10)
    assert found.pace == PACE
    assert found.seconds_left == 20
    assert found.last_commit == after(80)
    assert found.seconds_since_commit == 20
    assert not found.quiet
    assert found.counts is not None
    assert found.counts.error_codes == {"truncated": 2}
    assert describe_status(found).splitlines() == [
        "running: 3 of 10 photos (30.0 %), 3 of 10 shards.",
        "0 faces, 2 failed.",
        "0.05 photos and 0.1 faces a second, 0:20 left, the last shard committed 0:20 ago.",
        "  running, 3 photos done, process 42 on node-7, 0:05 ago",
        "  truncated: 2",
        "    /5.jpg: Cut.",
        "    /7.jpg: Cut.",
    ]


def test_quick_reads_no_marker(tmp_path):
    store = make_run(tmp_path)
    commit(store, 0, after(10))

    def guard(name: str) -> None:
        assert not name.startswith("_done/")

    found = run_status(FaultyStore(str(tmp_path), guard, "read"), quick=True)
    assert (found.images_done, found.counts) == (1, None)
    assert describe_status(found) == "running: 1 of 10 photos (10.0 %), 1 of 10 shards."


@pytest.mark.parametrize(
    ("state", "done", "status"),
    [
        ({"status": "planned"}, 0, "planned"),
        ({"status": "stopped", "ended": after(60).isoformat()}, 2, "stopped"),
        ({"status": "stopped", "ended": after(15).isoformat()}, 2, "running"),
        ({"status": "failed", "ended": after(15).isoformat()}, 1, "failed"),
        ({"status": "running"}, 10, "complete"),
        ({"status": "complete"}, 9, "stopped"),
    ],
)
def test_status_is_what_the_markers_say(tmp_path, state, done, status):
    """Of two processes the one that was stopped may have been the last to write run.json."""
    store = make_run(tmp_path, **state)
    for shard in range(done):
        commit(store, shard, after(10 * (shard + 1)))
    assert run_status(store, now=after(100)).status == status


def test_run_that_may_be_dead_is_told(tmp_path):
    store = make_run(tmp_path)
    assert not run_status(store, now=after(60)).quiet
    assert run_status(store, now=after(3600)).quiet
    commit(store, 0, after(3500))
    assert not run_status(store, now=after(3600)).quiet
    found = run_status(store, now=after(7200))
    assert found.quiet
    assert "or was killed" in describe_status(found)


def test_markers_without_times(tmp_path):
    store = make_run(tmp_path)
    commit(store, 0, None)
    found = run_status(store, now=after(60))
    assert (found.images_done, found.last_commit) == (1, None)


def test_rate_is_that_of_the_last_hour_of_the_session():
    now = 0.0
    meter = Meter(lambda: now)
    assert meter.pace(9) is None
    for second in range(10, 3601, 10):
        now = float(second)
        meter.add(1, {"faces": 2})
    assert meter.pace(9) == Pace(360, {"faces": 720}, 0.1, 9)
    for second in range(3610, 7201, 10):
        now = float(second)
        meter.add(10, {})
    assert meter.pace(9) == Pace(3960, {"faces": 720}, 1.0, 9)


def test_the_bar_and_the_status_say_the_same(tmp_path):
    store = make_run(tmp_path, photos=1000)
    now = 0.0
    bar = Progress(1000, Counts(images=200), stream=io.StringIO(), clock=lambda: now)
    now = 50.0
    bar.add(Counts(images=100, found=Counter(faces=150)))
    give_sign(store, 0, pace=bar.pace)
    said = "2 photos and 3 faces a second, {}5:50 left"
    assert said.format("150 faces, 0 failed, ") in bar.line()
    assert said.format("") in describe_status(run_status(store, now=BEGAN))


def test_rates_of_those_who_work_at_the_same_time_add_up(tmp_path):
    store = make_run(tmp_path)
    give_sign(store, 90)
    give_sign(store, 95, session="other", pace=replace(PACE, left=5))
    give_sign(store, 10, session="dead")
    found = run_status(store, now=after(100))
    assert found.pace == Pace(6, {"faces": 12}, 0.1, 5)


def test_extension_counts(tmp_path):
    store = make_run(tmp_path, photos=1, status="complete")
    commit(store, 0, after(10))
    assert run_status(store).status == "complete"
    plan = read_plan(store)
    assert plan is not None
    new = one_photo_each([ListedFile(7, "/7.jpg"), ListedFile(8, "/8.jpg")])
    extend_plan(store, plan, new, PlanConfig())
    found = run_status(store)
    assert (found.images_done, found.images, found.shards_done, found.shards) == (1, 3, 1, 2)


def test_run_without_a_plan_yet(tmp_path):
    store = make_run(tmp_path, status="planning")
    store.remove("plan")
    found = run_status(store)
    assert (found.status, found.images, found.shards) == ("planning", None, None)
    assert describe_status(found) == "planning; there is no plan yet."


def test_folder_without_a_run(tmp_path):
    with pytest.raises(OutputError, match="There is no run in"):
        run_status(Store(str(tmp_path / "nothing")))
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.tex"):
        run_status(Store(str(tmp_path)))


def test_command(tmp_path):
    commit(make_run(tmp_path), 3, after(10), "timeout")
    done = CliRunner().invoke(command, [str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) == set(RunStatus.__dataclass_fields__)
    assert (found["images_done"], found["counts"]["error_code"]) == (1, {"timeout": 1})
    assert found["last_commit"] == after(10).isoformat()
    assert "1 of 10 photos" in CliRunner().invoke(command, [str(tmp_path)]).stdout
    assert CliRunner().invoke(command, [str(tmp_path), "--quick"]).exit_code == 0


class TestSigns:
    @pytest.mark.parametrize(
        ("phase", "age", "status"),
        [
            (WORKING, 30, "running"),
            (WORKING, 50, "stalled"),
            (STARTING, 5, "starting"),
            (LISTING, 50, "stalled"),
        ],
    )
    def test_a_dead_run_is_told_from_a_living_one(self, tmp_path, phase, age, status):
        store = make_run(tmp_path)
        commit(store, 0, after(10))
        commit(store, 1, after(20))
        give_sign(store, 100, phase)
        found = run_status(store, now=after(100 + age))
        assert found.status == status
        assert (found.seconds_left is None) == (status != "running")
        text = describe_status(found)
        assert f"{phase}, 3 photos done, process 42 on node-7, 0:{age:02d} ago" in text
        assert ("Nobody works on it" in text) == (status == "stalled")
        json.dumps(found.to_json())

    def test_one_living_session_of_two_is_enough(self, tmp_path):
        store = make_run(tmp_path)
        give_sign(store, 10, session="dead")
        give_sign(store, 100, session="alive")
        found = run_status(store, now=after(110))
        assert found.status == "running"
        assert [sign.session for sign in found.sessions] == ["alive", "dead"]

    def test_a_living_session_that_does_nothing_is_told(self, tmp_path):
        store = make_run(tmp_path)
        give_sign(store, 3600)
        found = run_status(store, now=after(3601))
        assert (found.status, found.quiet) == ("running", True)
        assert "it hangs" in describe_status(found)

    def test_the_report_is_being_written(self, tmp_path):
        store = make_run(tmp_path, photos=1)
        commit(store, 0, after(10))
        give_sign(store, 20, REPORTING)
        assert run_status(store, now=after(25)).status == "reporting"
        assert run_status(store, now=after(99)).status == "complete"

    def test_a_retry_is_told(self, tmp_path):
        store = make_run(tmp_path, photos=1)
        commit(store, 0, after(10))
        give_sign(store, 20, session="retry-1")
        assert run_status(store, now=after(25)).status == "retrying"
        assert run_status(store, now=after(99)).status == "complete"

    def test_a_run_that_never_came_to_a_plan(self, tmp_path):
        store = Store(str(tmp_path))
        state = {"kind": "facet normals", "status": "planning", "started": BEGAN.isoformat()}
        store.write("run.json", json.dumps(state).encode())
        assert describe_status(run_status(store)) == "planning; there is no plan yet."
        give_sign(store, 10, LISTING)
        assert "killed while it listed the input" in describe_status(run_status(store, now=after(99)))

    def test_a_session_leaves_nothing_and_a_killed_one_its_last_sign(self, tmp_path):
        store = Store(str(tmp_path))
        with Heartbeat(store, "one", interval=0.01) as beat:
            beat.add(5, PACE)
            while not any(sign.images == 5 for sign in read_signs(store)):
                pass
            (sign,) = read_signs(store)
            assert (sign.session, sign.phase, sign.pace) == ("one", WORKING, PACE)
        assert list(tmp_path.iterdir()) == []
