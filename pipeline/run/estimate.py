"""What a run will take: hours and price, from rates and prices that the configuration holds."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from pipeline.errors import PlanError
from pipeline.ray_cluster import check_cluster
from pipeline.run.config import EstimateConfig, RunConfig
from pipeline.run.recipe import Recipe
from pipeline.words import duration, quantity, size_text


@dataclass(frozen=True)
class Resources:
    """What a run is reckoned to run on.

    Attributes:
        cpus: CPU cores; None: not known.
        gpus: GPUs; None: not known.
        where: Whose they are, in words.
    """

    cpus: int | None
    gpus: int | None
    where: str


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        images: Photos to do.
        hours: Time; None: not known.
        cost: Price in `currency`; None: not known.
        currency: Of the price.
        resources: What it was reckoned with.
        rate: Photos a second, all together; None: not known.
        lacking: What would have to be known, one line each.
    """

    images: int
    hours: float | None
    cost: float | None
    currency: str
    resources: Resources
    rate: float | None
    lacking: list[str]


def estimate_run(images: int, resources: Resources, config: EstimateConfig) -> Estimate:
    """Works out what so many photos will take.

    Where there are GPUs their rate counts alone: CPU cores that are too few for them are a matter of
    `images_per_gpu`.

    Args:
        images: Photos to do.
        resources: What they are done on.
        config: Rates and prices.
    """
    cpus, gpus = resources.cpus, resources.gpus
    lacking = []
    rate = None
    if cpus is None or gpus is None:
        lacking.append("the size of the cluster: estimate.cpus, estimate.gpus")
    elif gpus == 0:
        rate = cpus * config.images_per_cpu
    elif config.images_per_gpu is None:
        lacking.append("the rate of a GPU: estimate.images_per_gpu")
    else:
        rate = gpus * config.images_per_gpu
    hours = images / rate / 3600 if rate else None
    prices = []
    for number, price, name in (
        (cpus, config.cpu_hour_price, "cpu_hour_price"),
        (gpus, config.gpu_hour_price, "gpu_hour_price"),
    ):
        if number and price is None:
            lacking.append(f"a price: estimate.{name}")
        prices.append(0.0 if number == 0 else None if number is None or price is None else number * price)
    known = [price for price in prices if price is not None]
    cost = hours * sum(known) if hours is not None and len(known) == len(prices) else None
    return Estimate(images, hours, cost, config.currency, resources, rate, lacking)


def find_resources(recipe: Recipe, config: RunConfig) -> Resources:
    """Returns what a run is to be reckoned with: what the configuration says, or what there is."""
    given, engine = config.estimate, config.engine
    address = engine.address or os.environ.get("RAY_ADDRESS")
    running = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    cpus: int | None
    gpus: int | None
    if given.cpus is not None and given.gpus is not None:
        cpus, gpus, where = given.cpus, given.gpus, "as the configuration says"
    elif engine.name != "local" and (address or running):
        cpus, gpus = _cluster_resources(address)
        cpus, gpus = engine.request_cpus or cpus, engine.request_gpus or gpus
        where = "of the cluster"
    else:
        cpus, gpus, where = *_machine_resources(engine.cpus), "of this machine"
    if recipe.device(config) == "cpu":
        gpus = 0
    return Resources(given.cpus or cpus, gpus if given.gpus is None else given.gpus, where)


def describe_estimate(recipe: Recipe, estimate: Estimate) -> list[str]:
    """Returns the estimate as lines for the user."""
    resources = estimate.resources
    lines = [f"The records will take about {size_text(estimate.images * recipe.record.bytes_per_photo)}."]
    on = []
    if resources.cpus is not None:
        on.append(quantity(resources.cpus, "CPU core"))
    if resources.gpus:
        on.append(quantity(resources.gpus, "GPU"))
    place = f"on {' and '.join(on)} {resources.where}" if on else resources.where
    if estimate.hours is None:
        lines.append(f"Time {place}: not known.")
    else:
        lines.append(
            f"Time {place}: about {duration(3600 * estimate.hours)}, at {estimate.rate:,.0f} photos a second."
        )
    if estimate.cost is None:
        lines.append("Cost: not known.")
    else:
        lines.append(f"Cost: about {estimate.cost:,.2f} {estimate.currency}.")
    if estimate.lacking:
        lines.append(f"Not known: {'; '.join(estimate.lacking)}.")
    return lines


def _machine_resources(cpus: int | None) -> tuple[int, int]:
    import torch

    from pipeline.processes import available_cpus

    return cpus or available_cpus(), torch.cuda.device_count()


def _cluster_resources(address: str | None) -> tuple[int | None, int | None]:
    import logging

    import ray

    own = not ray.is_initialized()
    try:
        if own:
            check_cluster(address)
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        resources = ray.cluster_resources()
    except (PlanError, ConnectionError, ValueError, RuntimeError):  # no reason not to plan
        return None, None
    finally:
        if own:
            ray.shutdown()
    return int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
