"""How far a run is, from its folder alone: from any machine, also while others work on it."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.errors import OutputError
from pipeline.run.counts import Counts
from pipeline.run.heartbeat import REPORTING, STARTING, Sign, read_signs
from pipeline.run.logs import found_text
from pipeline.run.markers import add_up, committed_shards, read_markers
from pipeline.run.pace import Pace
from pipeline.run.plan import read_plan
from pipeline.run.state import read_state
from pipeline.run.summary import failure_table
from pipeline.storage.store import RETRY, Store
from pipeline.words import clock, printable, quantity

QUIET = timedelta(minutes=10)
"""After so long without a commit a running run may have been killed."""


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        url: The folder.
        status: planning, planned, running, complete, stopped or failed, see `pipeline.run.state`; starting,
            while no photo is done, and reporting, while the report is written; retrying, while `facet retry`
            works; stalled: no session gives signs of life, so it was killed or its machine stands still.
        shards: Shards of the plan; None: there is no plan yet.
        shards_done: Shards that are committed.
        images: Photos of the plan; None: there is no plan yet.
        images_done: Photos in committed shards.
        counts: What they add up to; None: not asked for.
        pace: How quickly it goes, as those who work on it say; None: nobody does, or no photo is done yet.
        idle: Seconds since they last had a photo done.
        seconds_left: None: not known, or nothing to wait for.
        last_commit: When a shard was last committed; None: not known.
        seconds_since_commit: None: not known.
        quiet: The run should be going on, but nothing was committed lately.
        sessions: The last signs of those who work on it, or were killed, the newest first.
        time: When all this was so.
    """

    url: str
    status: str
    shards: int | None
    shards_done: int
    images: int | None
    images_done: int
    counts: Counts | None
    pace: Pace | None
    idle: float
    seconds_left: float | None
    last_commit: datetime | None
    seconds_since_commit: float | None
    quiet: bool
    sessions: list[Sign]
    time: datetime

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        values = dict(vars(self))
        values["counts"] = self.counts and self.counts.to_json()
        values["pace"] = self.pace and asdict(self.pace)
        values["sessions"] = [asdict(sign) for sign in self.sessions]
        values["time"] = self.time.isoformat(timespec="seconds")
        values["last_commit"] = self.last_commit and self.last_commit.isoformat(timespec="seconds")
        return values


def run_status(store: Store, *, quick: bool = False, now: datetime | None = None) -> RunStatus:
    """Finds out how far a run is.

    Args:
        store: The run folder.
        quick: List the markers only and do not read them: no errors, and not what was found.
        now: The time; None: the clock's.

    Raises:
        OutputError: There is no run in the folder, or it cannot be read.
    """
    state = read_state(store)
    if state is None:
        raise OutputError(f"There is no run in {store.url}.")
    plan = read_plan(store)
    done = committed_shards(store)
    if plan:
        done &= set(range(plan.shards))
    markers = [] if quick else read_markers(store, done)
    counts = add_up(markers)
    images_done = plan.known_images(done) if plan else 0
    if images_done is None:
        from pipeline.run.plan_photos import count_images  # here, since pyarrow takes a moment

        assert plan
        images_done = count_images(store, plan, done)

    now = now or datetime.now(UTC)
    began = datetime.fromisoformat(state.get("session_started") or state["started"])
    # Markers of earlier versions hold no time.
    times = [datetime.fromisoformat(marker.committed) for marker in markers if marker.committed]
    last = max(times, default=None)
    complete = plan is not None and len(done) == plan.shards
    signs = read_signs(store)
    status = _alive_status(_status(state, last, complete), signs, now)
    running = status == "running"
    alive = [sign for sign in signs if sign.is_alive(now) and sign.pace]
    pace = Pace.together([sign.pace for sign in alive if sign.pace]) if running else None
    idle = min((sign.idle(now) for sign in alive), default=0.0)
    return RunStatus(
        url=store.url,
        status=status,
        shards=plan.shards if plan else None,
        shards_done=len(done),
        images=plan.images if plan else None,
        images_done=images_done,
        counts=None if quick else counts,
        pace=pace,
        idle=idle,
        seconds_left=pace.seconds_left(idle) if pace else None,
        last_commit=last,
        seconds_since_commit=max((now - last).total_seconds(), 0.0) if last else None,
        quiet=not quick and running and now - _last_work(signs, last, began) > QUIET,
        sessions=signs,
        time=now,
    )


def _alive_status(status: str, signs: list[Sign], now: datetime) -> str:
    """Returns the status by what the sessions said last; earlier versions said nothing."""
    alive = [sign for sign in signs if sign.is_alive(now)]
    if status in ("planning", "running") and signs and not alive:
        return "stalled"
    phases = {sign.phase for sign in alive}
    if status in ("complete", "stopped") and any(sign.session.startswith(RETRY) for sign in alive):
        return "retrying"
    if status == "running" and phases == {STARTING}:
        return "starting"
    return "reporting" if status == "complete" and phases == {REPORTING} else status


def _last_work(signs: list[Sign], last: datetime | None, began: datetime) -> datetime:
    return max([began, *([last] if last else []), *(datetime.fromisoformat(sign.worked) for sign in signs)])


def describe_status(found: RunStatus) -> str:
    """Returns the status as lines for the user."""
    if found.images is None or found.shards is None:
        lines = [f"{found.status}; there is no plan yet."]
        if found.status == "stalled":
            lines = ["stalled: it was killed while it listed the input. The same command begins anew."]
        return "\n".join([*lines, *_sessions(found)])
    share = 100 * found.images_done / found.images if found.images else 100
    lines = [
        f"{found.status}: {found.images_done:,} of {found.images:,} photos ({share:.1f} %), "
        f"{found.shards_done:,} of {found.shards:,} shards."
    ]
    if found.counts is not None and found.shards_done:
        lines.append(f"{found_text(found.counts)}{found.counts.failures:,} failed.")
    pace: list[str] = []
    if found.pace:
        pace += found.pace.words(found.idle)
    if found.seconds_since_commit is not None and found.status != "complete":
        pace.append(f"the last shard committed {clock(found.seconds_since_commit)} ago")
    if pace:
        text = ", ".join(pace)
        lines.append(f"{text[0].upper()}{text[1:]}.")
    if found.status == "stalled":
        lines.append(
            "Nobody works on it: it was killed, or its machine stands still. The same command goes on."
        )
    elif found.quiet:
        lines.append("No photo was done lately: it hangs, or was killed. The same command goes on.")
    lines += _sessions(found)
    if found.counts is not None:
        lines += failure_table(found.counts)
    return "\n".join(lines)


def _sessions(found: RunStatus) -> list[str]:
    lines = []
    for sign in found.sessions:
        seen = "" if sign.is_alive(found.time) else "last seen "
        lines.append(
            f"  {seen}{sign.phase}, {quantity(sign.images, 'photo')} done, process {sign.pid} on "
            f"{printable(sign.host)}, {clock(max(0.0, sign.age(found.time)))} ago"
        )
    return lines


def _status(state: dict[str, Any], last: datetime | None, complete: bool) -> str:
    """Returns the status, where several processes write run.json and a killed one does not."""
    status = state["status"]
    if complete:
        # The report may be under way, or a process may have been killed on its last steps.
        return "complete"
    if status == "complete":
        return "stopped"  # markers were cleared, to have their shards done again
    ended = state.get("ended")
    if status in ("stopped", "failed") and last and ended and last > datetime.fromisoformat(ended):
        return "running"  # another process goes on
    return status
