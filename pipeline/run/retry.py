"""Tries items again that failed, within the shards in which they are, and leaves all else as it is.

They are found by the error codes of their records, and worked on with the configuration in run.json.
What may differ is whatever a run may be resumed with, and the limits in `RETRY_FIELDS` and those that the
recipe names: they decide which items fail, not what becomes of the others. Nothing else may: the records of
one run would follow two rules.

When all items of a shard have been tried, the shard is committed anew under its names: first its marker is
removed, then its file replaced, then a marker written. Killed before that, a retry has changed nothing.
Killed in the middle of it, it leaves the shard without a marker: the run itself, when it goes on, then does
the whole shard again, with its own limits.
"""

import time
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config import load_config
from pipeline.errors import ConfigError, FacetError, OutputError
from pipeline.run import heartbeat, logs
from pipeline.run.config import RunConfig
from pipeline.run.counts import OK, Counts
from pipeline.run.folder import Say, check_space, check_workers, pending_shards
from pipeline.run.job import Stopped, choose_engine, refresh_report, stoppable, total, work_off
from pipeline.run.markers import Marker, add_up, find_marker, read_markers
from pipeline.run.plan import Plan, read_plan
from pipeline.run.problems import choose_codes, having
from pipeline.run.recipe import Recipe
from pipeline.run.state import FREE_FIELDS, differences, finished, new_state, now, read_state, write_state
from pipeline.run.summary import verdict
from pipeline.run.work import Work
from pipeline.storage.store import RETRY, SCRATCH, Store, drop_scratch
from pipeline.words import quantity

RETRY_FIELDS = ("read.max_bytes",)
"""Fields that may differ beside those that a resumed run may have otherwise, and those of the recipe."""


@dataclass(frozen=True)
class Retried:
    """What came of trying photos again.

    Attributes:
        tried: Photos that were tried, by the error code they had.
        ok: How many of them are ok now.
        empty: How many of them were read and hold nothing.
        failed: Those that failed again, by error code.
        shards: Shards that were written anew.
        counts: What the whole run adds up to now.
        open: Shards of the run without a marker, which are still to be done as a whole.
        report: Path of the page to look at, None when none was asked for or nothing was tried.
    """

    tried: Counter[str]
    ok: int
    empty: int
    failed: Counter[str]
    shards: int
    counts: Counts
    open: int
    report: str | None


def retry_run(  # noqa: PLR0915, PLR0917
    recipe: Recipe,
    output: str | Store,
    codes: Sequence[str],
    config: str | None = None,
    overrides: Sequence[str] = (),
    say: Say = logs.say,
) -> Retried:
    """Processes the photos again whose records have certain error codes.

    Codes are error codes, that of nothing found among them, or "all"; `config` and `overrides` say what is to
    differ from the run's own configuration.

    Raises:
        ConfigError: A code is not known, or a field may not differ.
        FacetError: There is no run, or it cannot go on; what is committed stays valid.
        Stopped: It was stopped.
    """
    started = time.monotonic()
    storage = load_config(recipe.config, config, overrides).read.storage
    store = output if isinstance(output, Store) else Store(output, storage)
    state, plan = _open(store)
    settings, changed = _configure(recipe, store, state, config, overrides)
    committed = read_markers(store, set(range(plan.shards)) - set(pending_shards(store, plan)))
    empty = recipe.record.empty
    chosen = choose_codes(recipe.record, codes, add_up(committed))
    before = [marker for marker in committed if having(marker.counts, chosen, empty)]
    to_try = having(add_up(before), chosen, empty)
    session = f"{RETRY}{uuid.uuid4().hex[:8]}"
    killed = [name for name in store.names(SCRATCH) if name.startswith((RETRY, heartbeat.PREFIX + RETRY))]
    work = Work(store.of_session(session), session, plan, recipe, settings, chosen)

    def end() -> Retried:
        after = [marker for marker in (find_marker(store, old.shard) for old in before) if marker]
        written = {marker.shard: marker for marker in after if marker.session == work.session}
        earlier = add_up([marker for marker in before if marker.shard in written])
        outcome = compare(earlier, add_up(written.values()), chosen, empty)
        still_open = pending_shards(store, plan)
        counts = total(store, set(range(plan.shards)) - set(still_open))
        status = "stopped" if still_open else "complete"
        seconds = time.monotonic() - started
        entry = {
            "ended": now(),
            "codes": sorted(chosen),
            "changed": changed,
            "tried": dict(outcome.tried),
            "failed": dict(outcome.failed),
        }
        # The plan may have been extended meanwhile, and another retry have ended.
        current = read_state(store) or state
        fresh = finished(current, status, read_plan(store) or plan, counts, seconds)
        write_state(store, fresh | {"retries": [*current.get("retries", []), entry]})
        return replace(outcome, shards=len(written), counts=counts, open=len(still_open))

    if not before:
        for name in killed:
            drop_scratch(store, name)
        return replace(compare(Counts(), Counts(), chosen, empty), counts=add_up(committed))
    try:
        with stoppable(), heartbeat.Heartbeat(store, session) as alive:
            say(f"Trying {quantity(to_try.total(), 'photo')} again, in {quantity(len(before), 'shard')}.")
            check_space(store, to_try.total() * recipe.record.bytes_per_photo, say)
            engine = choose_engine(settings.engine, to_try.total())
            alive.enter(heartbeat.STARTING)
            shards = [marker.shard for marker in before]
            others = _others(committed, to_try)
            work_off(work, shards, others, engine, lambda done, pace: alive.add(done.images, pace))
            alive.enter(heartbeat.REPORTING)
            done = end()
            for name in killed:
                drop_scratch(store, name)
            return replace(done, report=refresh_report(recipe, store, settings))
    except (KeyboardInterrupt, SystemExit):
        raise Stopped(end().counts) from None
    except FacetError:
        with suppress(FacetError):  # the storage may be what failed
            end()
        raise
    finally:
        with suppress(FacetError):
            drop_scratch(work.store, work.session)


def compare(before: Counts, after: Counts, codes: Collection[str], empty: str) -> Retried:
    """Returns what became of the photos with certain codes, from what their shards added up to and do now.

    All other photos of these shards are what they were.
    """
    tried = having(before, codes, empty)
    others = before.error_codes - tried
    return Retried(
        tried=tried,
        ok=after.statuses[OK] - before.statuses[OK],
        empty=after.statuses[empty] - before.statuses[empty] + tried[empty],
        failed=after.error_codes - others,
        shards=0,
        counts=Counts(),
        open=0,
        report=None,
    )


def describe_retry(done: Retried, recipe: Recipe) -> str:
    """Returns what to tell the user."""
    if not done.tried:
        return "There is no photo to try again."
    lines = [
        f"Tried again: {quantity(done.tried.total(), 'photo')} ({_listed(done.tried)}); "
        f"{quantity(done.shards, 'shard')} written anew.",
        f"  {done.ok:,} have {recipe.record.things} now, {done.empty:,} have none, "
        f"{done.failed.total():,} failed again" + (f" ({_listed(done.failed)})." if done.failed else "."),
    ]
    if done.open:
        lines.append(f"Still to be done by `{recipe.command}`: {quantity(done.open, 'shard')}.")
    if done.report:
        lines.append(f"Look at it:  {done.report}")
    return "\n".join(lines)


def retry_verdict(done: Retried) -> str | None:
    """Returns why a retry went wrong although it ended, None where it did not."""
    if done.tried and done.failed.total() >= done.tried.total():
        return f"Every photo failed again: {_listed(done.failed)}."
    return verdict(done.counts)


def _listed(numbers: Counter[str]) -> str:
    return ", ".join(f"{code}: {number:,}" for code, number in numbers.most_common())


def _open(store: Store) -> tuple[dict[str, Any], Plan]:
    state = read_state(store)
    plan = read_plan(store) if state else None
    if state is None or plan is None:
        raise OutputError(f"{store.url} holds no run that has a plan: there is nothing to try again.")
    return state, plan


def _configure(
    recipe: Recipe, store: Store, state: dict[str, Any], config: str | None, overrides: Sequence[str]
) -> tuple[RunConfig, list[str]]:
    """Returns the run's configuration with what is to differ, and in what that a retry alone may it does."""
    try:
        # What is wrong with the overrides alone has been said before.
        settings: RunConfig = load_config(recipe.config, config, overrides, base=state["config"])
    except (ConfigError, LookupError, TypeError) as error:
        reason = error.message if isinstance(error, ConfigError) else repr(error)
        raise OutputError(
            f"The configuration in {store.place('run.json')} cannot be used: {reason}"
        ) from error
    check_workers(recipe, settings)
    asked = new_state(recipe, state["input"], store.url, state["limit"], settings)
    retried = (*RETRY_FIELDS, *recipe.retried)
    if refused := differences(recipe, state, asked, retried):
        raise ConfigError(
            f"A retry cannot change {'; '.join(refused)}: the records of one run follow one rule. What may "
            f"differ: {', '.join((*retried, *FREE_FIELDS, *recipe.free))}."
        )
    return settings, differences(recipe, state, asked)


def _others(committed: Sequence[Marker], to_try: Counter[str]) -> Counts:
    """Returns counts of all items of the plan but those to try, for the progress and the failure limit."""
    done = add_up(committed)
    return Counts(
        records=done.records - to_try.total(),
        images=done.images - to_try.total(),
        found=done.found,  # nothing was found in what is tried again
        error_codes=done.error_codes - to_try,
    )
