"""What a run will take: hours and price, from rates and prices that the configuration holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pipeline.errors import PlanError
from pipeline.ray_cluster import cluster, has_cluster
from pipeline.run.config import EstimateConfig, RunConfig
from pipeline.run.recipe import Recipe
from pipeline.words import duration, quantity, size_text


class Resources(NamedTuple):
    """What a run can work on; None: not known.

    Attributes:
        cpus: CPU cores.
        gpus: GPUs.
        where: Whose they are, in words.
    """

    cpus: int | None
    gpus: int | None
    where: str


class Estimate(NamedTuple):
    """What a run will take; None: not known.

    Attributes:
        rate: Photos a second, all together.
        hours: Time.
        cost: Price.
        lacking: Fields of `estimate` that would have to be given to know all.
    """

    rate: float | None
    hours: float | None
    cost: float | None
    lacking: list[str]


def estimate_run(images: int, resources: Resources, config: EstimateConfig) -> Estimate:
    """Works out what so many photos will take.

    Where there are GPUs their rate counts alone: CPU cores that are too few for them are a matter of
    `images_per_gpu`.
    """
    cpus, gpus, _ = resources
    rate = None
    if gpus and config.images_per_gpu:
        rate = gpus * config.images_per_gpu
    elif cpus and gpus == 0:
        rate = cpus * config.images_per_cpu
    hours = images / rate / 3600 if rate else None
    needed = {
        "cpus": cpus,
        "gpus": gpus,
        "images_per_gpu": config.images_per_gpu if gpus else 0.0,
        "cpu_hour_price": config.cpu_hour_price if cpus else 0.0,
        "gpu_hour_price": config.gpu_hour_price if gpus else 0.0,
    }
    lacking = [name for name, value in needed.items() if value is None]
    cost = None
    if hours is not None and not lacking:
        prices = (cpus, needed["cpu_hour_price"]), (gpus, needed["gpu_hour_price"])
        cost = hours * sum((number or 0) * (price or 0) for number, price in prices)
    return Estimate(rate, hours, cost, lacking)


def machine_resources(cpus: int | None) -> tuple[int, int]:
    """Returns the CPU cores, or as many as are asked for, and the GPUs of this machine."""
    import torch

    from pipeline.processes import available_cpus

    return cpus or available_cpus(), torch.cuda.device_count()


def cluster_resources(address: str | None) -> tuple[int | None, int | None]:
    """Returns the CPU cores and the GPUs of a cluster; None: not known."""
    try:
        with cluster(address) as (cpus, gpus):
            return int(cpus) or None, int(gpus)
    except PlanError:  # no reason not to plan
        return None, None


def find_resources(
    recipe: Recipe,
    config: RunConfig,
    of_machine: Callable[[int | None], tuple[int, int]] = machine_resources,
    of_cluster: Callable[[str | None], tuple[int | None, int | None]] = cluster_resources,
) -> Resources:
    """Returns what a run will work on: what the configuration says, or what there is."""
    given, engine = config.estimate, config.engine
    cpus: int | None
    gpus: int | None
    if given.cpus is not None and given.gpus is not None:
        cpus, gpus, where = given.cpus, given.gpus, "as the configuration says"
    elif engine.name != "local" and has_cluster(engine.address):
        cpus, gpus = of_cluster(engine.address)
        cpus, gpus = engine.request_cpus or cpus, engine.request_gpus or gpus
        where = "of the cluster"
    else:
        cpus, gpus, where = *of_machine(engine.cpus), "of this machine"
    if recipe.device(config) == "cpu":
        gpus = 0
    return Resources(given.cpus or cpus, gpus if given.gpus is None else given.gpus, where)


def describe_estimate(recipe: Recipe, images: int, resources: Resources, config: EstimateConfig) -> list[str]:
    """Returns what so many photos will take as lines for the user."""
    rate, hours, cost, lacking = estimate_run(images, resources, config)
    numbers = ((resources.cpus, "CPU core"), (resources.gpus, "GPU"))
    on = " and ".join(quantity(number, noun) for number, noun in numbers if number)
    time = "not known" if hours is None else f"about {duration(3600 * hours)}, at {rate:,.0f} photos a second"
    lines = [
        f"The records will take about {size_text(images * recipe.record.bytes_per_photo)}.",
        f"Time {f'on {on} ' if on else ''}{resources.where}: {time}.",
        "Cost: not known." if cost is None else f"Cost: about {cost:,.2f} {config.currency}.",
    ]
    if lacking:
        lines.append(f"To know more, give {', '.join(f'estimate.{name}' for name in lacking)}.")
    return lines
