"""The folder of a run before work begins: whether it holds what is asked for, and the plan in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from pipeline.errors import ConfigError, OutputError
from pipeline.images.items import ListedItem
from pipeline.images.sources import Listing, list_input
from pipeline.redact import shown_uri
from pipeline.run import logs
from pipeline.run.config import RunConfig
from pipeline.run.markers import committed_shards
from pipeline.run.new_items import NewItems
from pipeline.run.plan import Plan, read_plan
from pipeline.run.plan_photos import count_images, extend_plan, write_plan
from pipeline.run.progress import ListingProgress
from pipeline.run.recipe import Recipe
from pipeline.run.state import (
    OVERWRITING,
    OWN_NAMES,
    PROBE,
    differences,
    identity_digest,
    new_state,
    now,
    plan_facts,
    read_state,
    write_state,
)
from pipeline.storage.store import Store
from pipeline.words import quantity

OnExisting = Literal["resume", "fail", "overwrite"]

LEAST_FREE_BYTES = 64 << 20
"""A disk with less room than this is full."""

RELISTED_PHOTOS = 10_000
"""The whole input of a resumed run is listed again, to find new photos, unless it is larger than this."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunRequest:
    """What is asked for.

    Attributes:
        recipe: What is to be made.
        source: The photos; see `pipeline.images.sources`.
        output: The run folder, local or any URL that fsspec writes to, or one that is opened already.
        config: The configuration, of the recipe's class.
        limit: Take the first so many items only.
    """

    recipe: Recipe
    source: str
    output: str | Store
    config: Any
    limit: int | None = None


@dataclass
class RunFolder:
    """A folder that holds the run that is asked for, or nothing.

    Attributes:
        request: What is asked for.
        store: The folder.
        state: Content of run.json.
        plan: The plan; None: there is none yet.
        listing: The input, not listed yet.
        earlier: Status of the run that the folder holds; None: it holds none.
    """

    request: RunRequest
    store: Store
    state: dict[str, Any]
    plan: Plan | None
    listing: Listing
    earlier: str | None

    def items(self) -> Iterator[ListedItem]:
        """Yields the items of the input, as many as are asked for; it is listed by that, once."""
        return islice(self.request.recipe.group(self.listing), self.request.limit)


@dataclass(frozen=True)
class Planned:
    """What `make_plan` did.

    Attributes:
        plan: The plan that counts now.
        images_left: Photos of the plan whose shards are not committed.
        notes: What the listing left out, one line each.
        new: Items that were added to an earlier plan; None: there was none.
        changed: Items of the earlier plan that have new photos; they stay as they are.
        vanished: Items of the earlier plan that the input no longer holds; None: there was none, or only
            a part of the input was listed.
    """

    plan: Plan
    images_left: int
    notes: list[str]
    new: int | None = None
    changed: int = 0
    vanished: int | None = None


def open_run(request: RunRequest, on_existing: OnExisting, *, any_limit: bool = False) -> RunFolder:
    """Opens a folder for a run. Nothing is written; an earlier run is removed when that is asked for.

    `any_limit`: the run in the folder may have another limit.

    Raises:
        FacetError: The input or the output cannot be used, or the folder holds something else.
    """
    recipe, config = request.recipe, request.config
    check_workers(recipe, config)
    output = request.output
    store = output if isinstance(output, Store) else Store(output, config.read.storage)
    state = new_state(recipe, request.source, store.url, request.limit, config)
    listing = list_input(
        request.source, config.read.storage, store.url, config.plan.include, config.plan.exclude
    )
    earlier = read_state(store)
    if earlier and on_existing == "fail":
        raise OutputError(f"{store.url} holds a run already.")
    if earlier and (on_existing == "overwrite" or earlier["status"] == OVERWRITING):
        # Whoever is killed from here on, the next one goes on removing.
        write_state(store, earlier | {"status": OVERWRITING})
        for name in OWN_NAMES:
            store.remove(name)
        earlier = None
    plan = read_plan(store)
    if plan and not earlier:
        earlier = read_state(store)  # another process has planned the run in between
    if earlier and plan:
        check_same_run(recipe, store, plan, earlier, state, ("limit",) if any_limit else ())
        kept = ("started", "seconds", "notes", "retries")
        state.update({name: earlier[name] for name in kept if name in earlier})
    store.write(PROBE, b"")  # better now than after an hour
    store.remove(PROBE)
    return RunFolder(request, store, state, plan, listing, earlier["status"] if earlier else None)


def check_workers(recipe: Recipe, config: RunConfig) -> None:
    """Checks that `engine.workers` names stages alone.

    Raises:
        ConfigError: It does not.
    """
    names = [stage.name for stage in recipe.stages]
    if unknown := sorted(config.engine.workers.keys() - set(names)):
        raise ConfigError(
            f"There is no stage {', '.join(unknown)} (engine.workers): there are {', '.join(names)}."
        )


def check_same_run(  # noqa: PLR0917
    recipe: Recipe,
    store: Store,
    plan: Plan,
    earlier: dict[str, Any],
    state: dict[str, Any],
    allowed: tuple[str, ...] = (),
) -> None:
    """Checks that a folder holds the run that is asked for.

    Raises:
        OutputError: It holds another one; the message says what differs.
    """
    changed = differences(recipe, earlier, state, allowed)
    if not changed and plan.run and not allowed and plan.run != identity_digest(recipe, state):
        changed = ["its plan was made for another configuration"]
    if changed:
        raise OutputError(
            f"{store.url} holds another run ({'; '.join(changed)}): give another output folder, or "
            "--on-existing overwrite."
        )


def plan_run(run: RunFolder) -> Plan:
    """Lists the input and writes the plan of a new run.

    Raises:
        FacetError: The input cannot be listed or the plan not be written, or another process has begun
            another run in the folder meanwhile.
    """
    store, state, request = run.store, run.state, run.request
    write_state(store, state)
    with ListingProgress() as progress:
        digest = identity_digest(request.recipe, state)
        plan = write_plan(store, progress.count(run.items()), request.config.plan, digest)
    check_same_run(request.recipe, store, plan, state, state)
    state.update(status="planned", plan=plan_facts(plan), notes=run.listing.notes.lines())
    write_state(store, state)
    run.plan = plan
    logs.event(
        "plan_written",
        f"The plan: {quantity(plan.images, 'photo')} in {quantity(plan.shards, 'shard')}.",
        **plan_facts(plan),
    )
    return plan


def extend_run(run: RunFolder) -> Planned:
    """Lists the input again and plans the items that are new, as further shards.

    Raises:
        FacetError: There is no plan, the input cannot be listed, or the plan not be written.
    """
    store, state, plan = run.store, run.state, run.plan
    if plan is None:
        raise OutputError(f"There is no plan in {store.url} to extend: leave out --extend.")
    with ListingProgress() as progress:
        new = NewItems(store, plan, progress.count(run.items()))
        digest = identity_digest(run.request.recipe, state)
        extended = extend_plan(store, plan, new, run.request.config.plan, digest)
    run.plan = extended
    # A run that goes on meanwhile, or has ended, keeps what it says beside.
    earlier = read_state(store) or state
    if extended != plan or earlier["limit"] != run.request.limit:
        fresh: dict[str, Any] = {"limit": run.request.limit, "notes": run.listing.notes.lines()}
        fresh["plan"] = plan_facts(extended)
        if earlier["status"] == "complete" and new.count:
            fresh["status"] = "planned"
        write_state(store, earlier | fresh)
        logs.event(
            "plan_written",
            f"The plan was extended by {quantity(extended.images - plan.images, 'photo')} in "
            f"{quantity(extended.shards - plan.shards, 'shard')}.",
            **plan_facts(extended),
        )
    vanished = new.vanished if run.request.limit is None else None
    return replace(_planned(run), new=new.count, changed=new.changed, vanished=vanished)


def make_plan(
    request: RunRequest, *, extend: bool = False, on_existing: Literal["fail", "overwrite"] = "fail"
) -> Planned:
    """Plans a run, or extends the plan of one.

    Raises:
        FacetError: The folder holds a plan already and is not to be extended or overwritten, there is none
            to be extended, or one of the two places cannot be used.
    """
    overwrite = on_existing == "overwrite" and not extend
    run = open_run(request, "overwrite" if overwrite else "resume", any_limit=extend)
    if extend:
        return extend_run(run)
    if run.plan:
        raise OutputError(
            f"{run.store.url} holds a plan of {run.plan.images:,} photos already: "
            f"`{request.recipe.command}` goes on "
            "from there. Add new photos with --extend, or start anew with --on-existing overwrite."
        )
    plan_run(run)
    return _planned(run)


def _planned(run: RunFolder) -> Planned:
    assert run.plan is not None
    left = count_images(run.store, run.plan, pending_shards(run.store, run.plan))
    return Planned(run.plan, left, run.listing.notes.lines())


def check_input(run: RunFolder, say: Say) -> None:
    """Checks that the input of a run that goes on holds no photos that are not in its plan.

    Raises:
        OutputError: It does.
    """
    plan = run.plan
    if plan is None or run.request.limit is not None:
        return
    if plan.images > RELISTED_PHOTOS:
        say("The input was not listed again, being large: `facet plan --extend` adds what is new in it.")
        return
    new = NewItems(run.store, plan, run.items())
    first = None
    for item in new:
        first = first or item
    if first:
        raise OutputError(
            f"The run in {run.store.url} was not planned for {shown_uri(first.uri)} and {new.count - 1:,} "
            "other new photos: add them with `facet plan --extend`, or give another output folder."
        )


def check_space(store: Store, size: int, say: Say) -> None:
    """Checks that there is room for records that take about so many bytes.

    Raises:
        OutputError: The disk is full.
    """
    free = store.free_bytes()
    if free is None:
        return
    if free < LEAST_FREE_BYTES:
        raise OutputError(f"There is no space left for {store.url}: {free >> 20} MB are free.")
    if free < size:
        say(f"The output may take about {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.")


def begin_session(run: RunFolder, say: Say) -> None:
    """Notes in run.json that work begins, and says what the folder holds."""
    if run.earlier == "planned":
        say("The folder holds the plan of this run; going on from there.")
    elif run.earlier == "running":
        say(
            "The run in this folder has not ended: it was killed, or is still going on. Both may go on, but "
            "what both work on is done twice."
        )
    run.state.update(status="running", session_started=now())
    write_state(run.store, run.state)


def pending_shards(store: Store, plan: Plan) -> list[int]:
    """Returns the shards of a plan that are not committed, in order."""
    done = committed_shards(store)
    return [shard for shard in range(plan.shards) if shard not in done]
