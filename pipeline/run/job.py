"""The main job: photos in, records of normals out, resumable."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from pipeline.errors import FacetError, OutputError
from pipeline.images.decode import decode_image
from pipeline.images.read import PhotoReader
from pipeline.images.sources import ListedFile, list_input
from pipeline.report.write import write_report
from pipeline.run.config import EngineConfig, RunConfig
from pipeline.run.counts import Counts
from pipeline.run.plan import Plan, all_photos, read_plan, write_plan
from pipeline.run.progress import Progress
from pipeline.run.shards import committed_shards, read_markers
from pipeline.run.stages import Work
from pipeline.run.state import OWN_NAMES, differences, finished, new_state, read_state, write_state
from pipeline.run.store import SCRATCH, Store
from pipeline.storage import shown_uri
from pipeline.weights import load_weights

OnExisting = Literal["resume", "fail", "overwrite"]

LEAST_FREE_BYTES = 64 << 20
"""A disk with less room than this is full."""

BYTES_PER_PHOTO = 200_000
"""Records of a photo with one face, about."""

RELISTED_PHOTOS = 100_000
"""The whole input of a resumed run is listed again, to find new photos, unless it is larger than this."""


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
        seconds: Time of this and earlier sessions.
        notes: What the listing left out, one line each.
        report: Path of the page to look at, None when none was asked for.
    """

    counts: Counts
    seconds: float
    notes: list[str]
    report: str | None


def run_normals(
    source: str,
    output: str,
    config: RunConfig,
    *,
    limit: int | None = None,
    on_existing: OnExisting = "resume",
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Result:
    """Runs the main job to its end, or goes on with one that was stopped.

    Args:
        source: The photos; see `pipeline.images.sources`.
        output: The run folder, local or any URL that fsspec writes to.
        config: The configuration.
        limit: Take the first so many photos only.
        on_existing: What to do when the folder holds a run already.
        say: Takes lines for the user.

    Raises:
        FacetError: The run cannot begin or cannot go on.
        Stopped: It was stopped.
    """
    started = time.monotonic()
    weights = load_weights(config.normals.weights).entry
    store = Store(output, config.read.storage)
    state = new_state(source, store.url, limit, config, weights)
    listing = list_input(source, config.read.storage, skip=store.url)
    plan = _open_folder(store, state, on_existing)
    if plan is None:
        write_state(store, state)
        store.remove("plan")  # what is left of one that was not finished
        plan = write_plan(store, islice(listing, limit), config.plan)
        state["notes"] = listing.notes.lines()
    elif limit is None and plan.images <= RELISTED_PHOTOS:
        _check_input(store, plan, listing)
    _check_space(store, plan, say)
    for note in state["notes"]:
        say(note)

    done = committed_shards(store)
    pending = [shard for shard in range(plan.shards) if shard not in done]
    before = _total(store, done)
    if done and pending:
        say(f"{before.images:,} of {plan.images:,} photos are done; going on with the others.")
    state["engine"] = choose_engine(config.engine, plan.images - before.images)
    write_state(store, state)

    def finish(status: str) -> Counts:
        counts = _total(store, committed_shards(store))
        state.update(finished(state, status, plan, counts, time.monotonic() - started))
        write_state(store, state)
        return counts

    try:
        with _stoppable():
            if pending:
                _work_off(Work(store, uuid.uuid4().hex[:8], plan, config), pending, before, state["engine"])
    except (KeyboardInterrupt, SystemExit):
        raise Stopped(finish("stopped")) from None
    except FacetError:
        with suppress(FacetError):  # the storage may be what failed
            finish("failed")
        raise
    counts = finish("complete")
    store.remove(SCRATCH)
    return Result(counts, state["seconds"], state["notes"], _report(store, config))


def choose_engine(config: EngineConfig, images: int) -> Literal["local", "ray"]:
    """Returns the engine for so many photos."""
    if config.name != "auto":
        return config.name
    # Ray is not imported for this question.
    cluster = config.address or os.environ.get("RAY_ADDRESS") or _ray_is_running()
    return "ray" if cluster or images > config.local_up_to else "local"


def _ray_is_running() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _work_off(work: Work, pending: list[int], before: Counts, engine: str) -> None:
    # Here, since Ray takes a second to import.
    if engine == "ray":
        from pipeline.run.ray_engine import run_ray as run
    else:
        from pipeline.run.local import run_local as run
    with Progress(work.plan.images, before) as progress:
        run(work, pending, progress.add)


def _report(store: Store, config: RunConfig) -> str | None:
    if not config.output.report:
        return None
    reader = PhotoReader(config.read)
    return write_report(
        store, lambda uris: list(reader(uris)), lambda data: decode_image(data, config.decode)
    )


def _open_folder(store: Store, state: dict[str, Any], on_existing: OnExisting) -> Plan | None:
    """Returns the plan of the run to resume, whose past enters `state`; None when a new run begins."""
    earlier = read_state(store)
    if earlier and on_existing == "fail":
        raise OutputError(f"{store.url} holds a run already.")
    if earlier and on_existing == "overwrite":
        for name in OWN_NAMES:
            store.remove(name)
    plan = read_plan(store)
    if earlier and plan:
        if changed := differences(earlier, state):
            raise OutputError(
                f"{store.url} holds another run ({'; '.join(changed)}): give another output folder, or "
                "--on-existing overwrite."
            )
        state.update({name: earlier[name] for name in ("started", "seconds", "notes")})
    store.write("writable", b"")  # better now than after an hour
    store.remove("writable")
    return plan


def _check_input(store: Store, plan: Plan, listed: Iterable[ListedFile]) -> None:
    known = {photo.id for photo in all_photos(store, plan)}
    new = [photo.uri for photo in listed if photo.id not in known]
    if new:
        raise OutputError(
            f"The run in {store.url} was not planned for {shown_uri(new[0])} and {len(new) - 1:,} other new "
            "photos: give another output folder, or --on-existing overwrite."
        )


def _check_space(store: Store, plan: Plan, say: Callable[[str], None]) -> None:
    free = store.free_bytes()
    if free is None:
        return
    if free < LEAST_FREE_BYTES:
        raise OutputError(f"There is no space left for {store.url}: {free >> 20} MB are free.")
    if free < plan.images * BYTES_PER_PHOTO:
        say(
            f"The output may take about {plan.images * BYTES_PER_PHOTO / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free."
        )


def _total(store: Store, shards: set[int]) -> Counts:
    total = Counts()
    for marker in read_markers(store, shards):
        total += marker.counts
    return total


@contextmanager
def _stoppable() -> Iterator[None]:
    """Lets SIGTERM, which spot machines and schedulers send, end the block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
