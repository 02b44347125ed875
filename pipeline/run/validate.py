"""Validates the output of a run: every committed shard, in parallel, and what lies beside them.

Meant for a folder on which nobody works. It reads storage alone, on any machine.
"""

from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from pipeline.errors import FacetError, OutputError
from pipeline.processes import available_cpus, map_ahead, worker_pool
from pipeline.run.check import ShardCheck, check_shard
from pipeline.run.config import RunConfig
from pipeline.run.counts import Counts
from pipeline.run.logs import found_text
from pipeline.run.markers import committed_shards, files_folder, marker_name, shard_files
from pipeline.run.plan import Plan, leftovers, read_plan
from pipeline.run.plan_photos import count_images
from pipeline.run.progress import Progress
from pipeline.run.recipe import Recipe
from pipeline.run.state import read_state, write_state
from pipeline.run.work import Work
from pipeline.storage.places import StorageConfig
from pipeline.storage.store import Store
from pipeline.words import printable, quantity

IN_PROCESS_SHARDS = 2
"""Up to so many shards no processes are started."""


@dataclass
class Validation:
    """What came of validating a run.

    Attributes:
        images: Photos of the plan.
        shards: Shards of the plan.
        committed: Shards of the plan that have a marker.
        open: Shards of the plan that have none: they are still to be done.
        counts: What the records of the committed shards add up to.
        problems: The shards that are not sound, with their reasons, in order.
        leftovers: Files that belong to no committed shard; they do no harm.
        repaired: Shards whose markers were cleared.
    """

    images: int
    shards: int
    committed: int
    open: list[int]
    counts: Counts = field(default_factory=Counts)
    problems: list[ShardCheck] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    repaired: list[int] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether all that is committed is as it must be."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "sound": self.sound,
            "images": self.images,
            "shards": self.shards,
            "committed": self.committed,
            "open": self.open,
            "counts": self.counts.to_json(),
            "problems": [
                {"shard": check.shard, "reasons": check.reasons, "more": check.more}
                for check in self.problems
            ],
            "leftovers": self.leftovers,
            "repaired": self.repaired,
        }


def validate_run(
    recipe: Recipe,
    output: str | Store,
    storage: StorageConfig | None = None,
    *,
    repair: bool = False,
    workers: int | None = None,
) -> Validation:
    """Checks every committed shard of a run.

    `repair` clears the markers of the shards that are not sound, so that the run does them again.

    Raises:
        OutputError: The folder holds no run, or it cannot be read, which says nothing of the shards.
        FacetError: A process died.
    """
    store = output if isinstance(output, Store) else Store(output, storage)
    state = read_state(store)
    plan = read_plan(store) if state else None
    if state is None or plan is None:
        raise OutputError(f"{store.url} holds no run that has a plan: there is nothing to validate.")
    try:
        config = recipe.config.model_validate(state["config"])
    except (ValidationError, LookupError, TypeError) as error:
        raise OutputError(f"The configuration in {store.place('run.json')} is damaged.") from error
    done = committed_shards(store)
    shards = sorted(shard for shard in done if shard < plan.shards)
    missing = [shard for shard in range(plan.shards) if shard not in done]
    found = Validation(plan.images, plan.shards, len(shards), missing)
    found.problems = [
        ShardCheck(shard, reasons=["the plan has no such shard"]) for shard in done if shard >= plan.shards
    ]
    work = Work(store, "", plan, recipe, config)
    with Progress(count_images(store, plan, shards), Counts()) as progress:
        for check in _check_all(work, shards, workers or available_cpus()):
            progress.add(check.counts)
            found.counts += check.counts
            if check.reasons:
                found.problems.append(check)
    found.problems.sort(key=lambda check: check.shard)
    found.leftovers = _leftovers(store, plan, done, config)
    if repair and found.problems:
        _repair(store, state, found)
    return found


def describe_validation(found: Validation, recipe: Recipe, output: str) -> str:
    """Returns what to tell the user: a line per reason and a summary."""
    lines = []
    for check in found.problems:
        lines += [f"shard {check.shard:05d}: {reason}" for reason in check.reasons]
        if check.more:
            lines.append(f"shard {check.shard:05d}: and {check.more:,} more of this kind")
    lines += [f"left over, harmless: {name}" for name in found.leftovers]
    lines.append(
        f"{found.committed:,} of {quantity(found.shards, 'shard')} committed, with "
        f"{quantity(found.counts.records, 'record')}, {found_text(found.counts)}"
        + ("all sound." if found.sound else f"{len(found.problems):,} not sound.")
    )
    if found.repaired:
        lines.append(f"Cleared: {quantity(len(found.repaired), 'marker')}.")
    elif found.problems:
        lines.append(f"`facet validate {output} --repair` clears their markers.")
    if left := len(found.open) + sum(shard < found.shards for shard in found.repaired):
        lines.append(f"Still to be done by `{recipe.command}`: {quantity(left, 'shard')}.")
    return "\n".join(map(printable, lines))


def _check_all(work: Work, shards: list[int], workers: int) -> Iterator[ShardCheck]:
    """Yields the checks of shards as they are done."""
    workers = min(workers, len(shards))
    if workers <= 1 or len(shards) <= IN_PROCESS_SHARDS:
        yield from (check_shard(work, shard) for shard in shards)
        return
    try:
        with worker_pool(workers, _make_checker, work, preload=["pipeline.run.check"]) as submit:
            yield from map_ahead(submit, shards, 2 * workers)
    except BrokenProcessPool as error:
        raise FacetError(
            "A process that checks shards died, perhaps for want of memory: fewer of them take less "
            "(--set engine.cpus=1).",
            "worker_died",
        ) from error


def _make_checker(work: Work) -> Callable[[int], ShardCheck]:
    pa.set_cpu_count(1)
    return partial(check_shard, work)


def _leftovers(store: Store, plan: Plan, done: set[int], config: RunConfig) -> list[str]:
    """Returns files without a marker, and what planners left that were killed."""
    known = {name for shard in done for name in shard_files(shard, config.output.files)}
    if config.output.files == "folder":
        known |= {files_folder(shard) for shard in done}
    there = [f"{folder}/{name}" for folder in ("records", "files") for name in store.names(folder)]
    return [*leftovers(store, plan), *(name for name in there if name not in known)]


def _repair(store: Store, state: dict[str, Any], found: Validation) -> None:
    # What a resumed run needs is that the markers are gone. That run.json says so too is for people.
    write_state(store, state | {"status": "stopped"})
    for check in found.problems:
        store.remove(marker_name(check.shard))
        found.repaired.append(check.shard)
