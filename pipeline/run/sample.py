"""What some items of a plan take, measured on one core of this machine: what `facet plan` reckons with."""

import io
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pyarrow.parquet as pq

from pipeline.images.items import ListedItem
from pipeline.run.config import RunConfig
from pipeline.run.plan import Plan
from pipeline.run.plan_photos import shard_items
from pipeline.run.recipe import Recipe
from pipeline.run.stages import AllStages
from pipeline.run.work import Work
from pipeline.storage.store import Store

MOST_SECONDS = 20.0
"""After this time no further item is begun."""


@dataclass(frozen=True)
class PlanSample:
    """What was measured.

    Attributes:
        photos: How many photos.
        found: What was found in them, such as faces.
        name: What it is, in the plural.
        bytes: Size of the records.
        seconds: Stage -> time of one core. What the first item takes longer is not in it.
        start_s: Time until the first item was done, once the program runs.
    """

    photos: int
    found: int
    name: str
    bytes: int
    seconds: Counter[str]
    start_s: float

    def core_seconds(self, recipe: Recipe, on_gpu: bool) -> float:
        """Returns what a core works on a photo; while it reads the next one it computes.

        Args:
            recipe: What was made.
            on_gpu: Whether networks run elsewhere.
        """
        elsewhere = {"read", *(stage.name for stage in recipe.stages if on_gpu and stage.place == "network")}
        return sum(self.seconds[name] for name in recipe.stage_names if name not in elsewhere) / self.photos


def take_sample(store: Store, plan: Plan, recipe: Recipe, config: RunConfig, items: int) -> PlanSample:
    """Works on some items of a plan, without writing anything.

    Args:
        store: The run folder.
        plan: Its plan, of at least one item.
        recipe: What is made.
        config: Its configuration.
        items: How many items; fewer are taken when they take long.

    Raises:
        FacetError: The run itself could not begin either.
    """
    begun = time.perf_counter()
    work = Work(store, "sample", plan, recipe, config)
    with closing(AllStages(work)) as stages:
        chosen = spread_items(store, plan, items)
        stages.work_on([next(chosen)])
        start_s = time.perf_counter() - begun
        photos, found, size, seconds = 0, 0, 0, Counter[str]()
        for item in spread_items(store, plan, items):
            table, counts = stages.work_on([item])
            photos += counts.images
            found += counts.found[recipe.record.things]
            seconds.update(counts.seconds)
            file = io.BytesIO()
            pq.write_table(table, file, **recipe.record.parquet)
            size += file.tell()
            if time.perf_counter() - begun > MOST_SECONDS:
                break
    return PlanSample(photos, found, recipe.record.things, size, seconds, start_s)


def spread_items(store: Store, plan: Plan, number: int) -> Iterator[ListedItem]:
    """Yields so many items, or all, from the whole of a plan at even distances."""
    number = min(number, plan.items)
    firsts = [0]
    for shard in range(plan.shards):
        firsts.append(firsts[-1] + plan.shard_items(shard))
    shard = 0
    for place in range(number):
        index = place * plan.items // number
        while firsts[shard + 1] <= index:
            shard += 1
        yield shard_items(store, plan, shard)[index - firsts[shard]]
