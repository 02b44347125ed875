"""A run from its beginning to its end: photos in, records out, resumable.

Several processes may work on one folder at the same time. Each has scratch files of its own, a shard
belongs to whoever commits it first, and what a process fails at does not matter once all shards are
committed. All of them end with the same records; what they have both worked on was done twice.
"""

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from pipeline.errors import FacetError
from pipeline.ray_cluster import has_cluster
from pipeline.run import heartbeat, logs
from pipeline.run.config import EngineConfig, RunConfig
from pipeline.run.counts import Counts
from pipeline.run.failures import check_failures
from pipeline.run.folder import (
    OnExisting,
    RunFolder,
    RunRequest,
    Say,
    begin_session,
    check_input,
    check_space,
    open_run,
    pending_shards,
    plan_run,
)
from pipeline.run.markers import add_up, check_files, committed_shards, read_markers
from pipeline.run.pace import Pace
from pipeline.run.plan import file_names, leftovers, read_plan
from pipeline.run.progress import Progress
from pipeline.run.recipe import PAGE, Recipe
from pipeline.run.state import finished, read_state, write_state
from pipeline.run.work import Work
from pipeline.storage.store import RETRY, SCRATCH, Store, drop_scratch
from pipeline.words import quantity

Watch = Callable[[Counts], None]


class Stopped(Exception):
    """A run was stopped by Ctrl-C or SIGTERM; what is committed is valid.

    Attributes:
        counts: What is committed.
    """

    def __init__(self, counts: Counts):
        super().__init__()
        self.counts = counts


@dataclass(frozen=True)
class Result:
    """A run that is complete.

    Attributes:
        counts: What its records add up to.
        seconds: Time of this session.
        session: What this session has done of it.
        notes: What the listing left out, one line each.
        report: Path of the page to look at, None when none was asked for.
    """

    counts: Counts
    seconds: float
    session: Counts
    notes: list[str]
    report: str | None


def run(
    request: RunRequest,
    on_existing: OnExisting = "resume",
    *,
    say: Say = logs.say,
    watch: Watch | None = None,
) -> Result:
    """Carries a run out to its end, or goes on with one that was planned or stopped.

    `watch` is called with the counts of every chunk as it is written; what it raises ends the run.

    Raises:
        FacetError: The run cannot begin or cannot go on.
        Stopped: It was stopped.
    """
    session = Session(open_run(request, on_existing), say, watch)
    try:
        with stoppable(), session.heartbeat:
            session.prepare()
            counts = session.complete_before()
            if counts is None:
                try:
                    session.work()
                except FacetError as error:
                    with suppress(FacetError):  # the storage may be what failed
                        session.end("failed", error)
                    raise
                counts = session.end("complete")
            session.tidy()
            return session.result(counts, session.report())
    except (KeyboardInterrupt, SystemExit):
        counts = session.end("stopped")
        session.drop_scratch()
        raise Stopped(counts) from None


class Session:
    """One process's work on a run."""

    def __init__(self, run: RunFolder, say: Say, watch: Watch | None = None):
        self.run = run
        self._say = say
        self._watch = watch
        self._id = uuid.uuid4().hex[:8]
        self._started = time.monotonic()
        self._done = Counts()
        self.heartbeat = heartbeat.Heartbeat(run.store, self._id)
        self._leftovers: list[str] = []

    def prepare(self) -> None:
        """Plans the run, or checks that the plan is still that of the input."""
        run = self.run
        if run.plan is None:
            plan = plan_run(run)
        else:
            plan = run.plan
            check_input(run, self._say)
        for note in run.state["notes"]:
            self._say(note)
        # But for that of a retry, which may be alive, and which the markers do not tell that it is done.
        names = [name for name in run.store.names(SCRATCH) if not name.startswith(RETRY)]
        scratch = [f"{SCRATCH}/{name}" for name in names]
        self._leftovers = [*scratch, *leftovers(run.store, plan)]

    def complete_before(self) -> Counts | None:
        """Returns what the run adds up to where an earlier session has ended it, and nothing came after."""
        run = self.run
        if run.earlier != "complete" or run.plan is None or pending_shards(run.store, run.plan):
            return None
        done = read_markers(run.store, set(range(run.plan.shards)))
        check_files(run.store, done)
        return add_up(done)

    def work(self) -> None:
        """Does all shards that are not committed, also those that are planned meanwhile."""
        run, store = self.run, self.run.store
        run.state.update(_changed_meanwhile(store))
        begin_session(run, self._say)
        while run.plan:
            plan, pending = run.plan, pending_shards(store, run.plan)
            done = read_markers(store, set(range(plan.shards)) - set(pending))
            check_files(store, done)
            before = add_up(done)
            if before.images and pending:
                self._say(f"{before.images:,} of {plan.images:,} photos are done; going on with the others.")
            left = plan.images - before.images
            check_space(store, left * run.request.recipe.record.bytes_per_photo, self._say)
            run.state["engine"] = choose_engine(run.request.config.engine, left)
            self._save()
            logs.event(
                "run_started",
                f"Working on {len(pending):,} of {quantity(plan.shards, 'shard')}{plan.cut}: {store.url}.",
                session=self._id,
                engine=run.state["engine"],
                shards=plan.shards,
                pending=len(pending),
                images=plan.images,
                done=before.images,
            )
            try:
                if pending:
                    recipe, config = run.request.recipe, run.request.config
                    work = Work(store.of_session(self._id), self._id, plan, recipe, config)
                    self.heartbeat.enter(heartbeat.STARTING)
                    work_off(work, pending, before, run.state["engine"], self._note)
            except FacetError:
                if pending_shards(store, plan):
                    raise
            later = read_plan(store)
            if later is None or later.shards <= plan.shards:
                return
            run.plan = later

    def _note(self, counts: Counts, pace: Pace | None) -> None:
        if not self._done.images:
            began = datetime.now(UTC) - timedelta(seconds=sum(counts.seconds.values()))
            self.run.state["session_at_work"] = began.isoformat(timespec="milliseconds")
        self._done += counts
        self.heartbeat.add(counts.images, pace)
        if self._watch:
            self._watch(counts)

    def report(self) -> str | None:
        """Writes the page of the run, where it does not show all that is done yet; returns where it is."""
        store, config = self.run.store, self.run.request.config
        if not config.output.report:
            return None
        folder, _, name = PAGE.rpartition("/")
        if (read_state(store) or {}).get("reported") and name in store.names(folder):
            return store.place(PAGE)
        self.heartbeat.enter(heartbeat.REPORTING)
        logs.event("report_started", "Writing the report.", session=self._id)
        return refresh_report(self.run.request.recipe, store, config)

    def result(self, counts: Counts, report: str | None) -> Result:
        """Returns what the session came to."""
        seconds = time.monotonic() - self._started
        return Result(counts, seconds, self._done, self.run.state["notes"], report)

    def end(self, status: str, error: FacetError | None = None) -> Counts:
        """Notes in run.json how the session ended; returns what is committed."""
        run = self.run
        counts = total(run.store, committed_shards(run.store))
        if run.plan and not pending_shards(run.store, run.plan):
            status = "complete"
        run.state = finished(run.state, status, run.plan, counts, time.monotonic() - self._started)
        self._save()
        logs.event(
            "run_ended",
            f"The run is {status}, {quantity(counts.images, 'photo')} done.",
            session=self._id,
            status=status,
            error=error and error.code,
            seconds=run.state["seconds"],
            **logs.counted(counts),
        )
        return counts

    def _save(self) -> None:
        """Writes run.json, with what other commands have changed in it since the session began."""
        self.run.state.update(_changed_meanwhile(self.run.store))
        write_state(self.run.store, self.run.state)

    def tidy(self) -> None:
        """Removes this session's scratch files, and what was there before it began.

        A session that is still alive and was there before this one may lose its scratch files by that; it
        finds all shards committed then.
        """
        with suppress(FacetError):
            plan = read_plan(self.run.store)  # what a planner was still writing may be a part of it by now
            for name in set(self._leftovers) - set(file_names(plan) if plan else ()):
                self.run.store.remove(name)
        self.drop_scratch()

    def drop_scratch(self) -> None:
        """Removes this session's scratch files."""
        with suppress(FacetError):
            drop_scratch(self.run.store, self._id)


def choose_engine(config: EngineConfig, images: int) -> Literal["local", "ray"]:
    """Returns the engine for so many photos."""
    if config.name != "auto":
        return config.name
    return "ray" if has_cluster(config.address) or images > config.local_up_to else "local"


def work_off(
    work: Work, pending: list[int], before: Counts, engine: str, note: Callable[[Counts, Pace | None], None]
) -> None:
    """Carries out some shards of a run, and shows how far it is.

    `before` is what the run adds up to without the pending shards; `note` gets the counts of every chunk
    as it is written, and the pace up to it.

    Raises:
        FacetError: The run cannot go on; committed shards stay valid.
    """
    check_failures(before, work.config.engine)
    with Progress(work.plan.images, before) as progress:

        def on_chunk(counts: Counts) -> None:
            progress.add(counts)
            note(counts, progress.pace)
            logs.unexpected_failures(counts)
            check_failures(progress.counts, work.config.engine)

        if engine == "ray":  # imported here, since Ray takes a second
            from pipeline.run.engines.ray_engine import run_ray

            run_ray(work, pending, on_chunk, on_workers=progress.workers)
        else:
            from pipeline.run.engines.local import run_local

            run_local(work, pending, on_chunk)


def total(store: Store, shards: set[int]) -> Counts:
    """Returns what some committed shards add up to."""
    return add_up(read_markers(store, shards))


@contextmanager
def stoppable() -> Iterator[None]:
    """Makes SIGTERM, which schedulers and spot machines send, end the block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    active = True

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    def again() -> None:
        if active:
            os.kill(os.getpid(), signal.SIGTERM)

    def swallowed(unraisable: "sys.UnraisableHookArgs") -> None:
        # Python drops what is raised while it cleans up, a signal's exception too.
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(0.1, again).start()
        else:
            hook(unraisable)

    before, hook = signal.signal(signal.SIGTERM, stop), sys.unraisablehook
    sys.unraisablehook = swallowed
    try:
        yield
    finally:
        active = False
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)


def _changed_meanwhile(store: Store) -> dict[str, object]:
    """What `facet plan --extend` and `facet retry` may have changed in run.json since the session began."""
    current = read_state(store) or {}
    return {name: current[name] for name in ("limit", "notes", "retries") if name in current}


def refresh_report(recipe: Recipe, store: Store, config: RunConfig) -> str | None:
    """Writes the page anew, and returns where it is; None when there is none or none is asked for."""
    if not recipe.report or not config.output.report:
        return None
    page = recipe.report(store, config)
    if state := read_state(store):
        write_state(store, state | {"reported": True})
    return page
