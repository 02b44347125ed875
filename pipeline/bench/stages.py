"""Rates of a run's stages on one core: what an engine without any cost of its own would reach."""

import multiprocessing
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

from pipeline.bench.timing import Rate, measure, one_core
from pipeline.images.items import one_photo_each
from pipeline.images.sources import list_input
from pipeline.normals.config import NormalsConfig
from pipeline.processes import worker_pool
from pipeline.recipes.normals import RECIPE, NormalsRun
from pipeline.run.ledger import chunk_refs
from pipeline.run.plan_photos import chunk_items, write_plan
from pipeline.run.stages import ReadStage, RecipeStage, WriteStage
from pipeline.run.work import Work
from pipeline.storage.store import Store

PATIENCE_SECONDS = 600.0
"""How long one core waits for the others between two stages."""


def measure_stages(photos: Path, folder: Path, weights: str, cores: int = 1) -> list[Rate]:
    """Times the stages of a run over photos; together they hold all that a run does to a photo.

    Every core does the same stage at the same time, in a process of its own, as they do in a run: cores that
    share caches, memory and clock are slower together than one of them alone.

    Returns:
        What one core does of each stage, on average.
    """
    manager = multiprocessing.get_context("spawn").Manager()
    with manager, worker_pool(cores, partial, _measure, photos, weights, manager.Barrier(cores)) as submit:
        tasks = [submit(folder / f"core-{core}") for core in range(cores)]
        each = [task.result() for task in tasks]
    return [_average(rates) for rates in zip(*each, strict=True)]


def _average(rates: tuple[Rate, ...]) -> Rate:
    rounds = zip(*(rate.seconds for rate in rates), strict=True)
    seconds = tuple(sum(seconds) / len(seconds) for seconds in rounds)
    return Rate(rates[0].name, rates[0].count, seconds, rates[0].unit)


def _measure(photos: Path, weights: str, barrier: Barrier, folder: Path) -> list[Rate]:
    try:
        return _measure_one(photos, folder, weights, lambda: barrier.wait(PATIENCE_SECONDS))
    except BaseException:
        barrier.abort()  # the others need not wait
        raise


def _measure_one(photos: Path, folder: Path, weights: str, wait: Callable[[], Any]) -> list[Rate]:
    config = NormalsRun(normals=NormalsConfig(device="cpu", weights=weights))
    store = Store(str(folder))
    plan = write_plan(store, one_photo_each(list_input(str(photos))), config.plan)
    work = Work(store, "bench", plan, RECIPE, config)
    chunks = list(chunk_refs(plan, range(plan.shards)))
    sizes = {reference: len(chunk_items(store, plan, *reference)) for reference in chunks}
    read = ReadStage(work)
    rates = []
    with one_core(), ExitStack() as stack:
        rate, messages = measure("read", lambda item: read(*item), chunks, weight=sizes.__getitem__)
        rates.append(rate)
        stages: list[Any] = [
            stack.enter_context(closing(RecipeStage(work, index))) for index in range(len(RECIPE.stages))
        ]
        stages.append(WriteStage(work))
        for name, stage in zip(RECIPE.stage_names[1:], stages, strict=True):
            wait()
            rate, messages = measure(
                name, stage, messages, weight=lambda message: sizes[message.shard, message.chunk]
            )
            rates.append(rate)
    return rates
