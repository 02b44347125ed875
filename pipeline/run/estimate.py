"""What a run will take: hours and price, from a sample of its photos and the prices of the configuration."""

import math
from collections.abc import Callable
from typing import NamedTuple

from pipeline.errors import PlanError
from pipeline.ray_cluster import cluster, has_cluster
from pipeline.run.config import EstimateConfig, RunConfig
from pipeline.run.recipe import Recipe
from pipeline.run.sample import PlanSample
from pipeline.words import duration, quantity, size_text
from pipeline.words import rate as rate_text


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
        rate: Photos a second, all together, once it is at work.
        hours: Time, start-up included.
        cost: Price.
        lacking: Fields of `estimate` that would have to be given to know all.
    """

    rate: float | None
    hours: float | None
    cost: float | None
    lacking: list[str]


def estimate_run(
    images: int, resources: Resources, config: EstimateConfig, core_seconds: float | None, start_s: float = 0
) -> Estimate:
    """Works out what so many photos will take.

    Where there are GPUs the slower of them and of the cores that feed them counts.

    Args:
        images: Number of photos.
        resources: What works on them.
        config: Rates and prices.
        core_seconds: What a core works on a photo, without what a GPU does; None: not known.
        start_s: Time until all are at work.
    """
    cpus, gpus, _ = resources
    per_core = 1 / core_seconds if core_seconds else None
    if config.images_per_cpu and not gpus:
        per_core = config.images_per_cpu
    rate = cpus * per_core if cpus and gpus is not None and per_core else None
    if gpus and config.images_per_gpu:
        rate = min(rate or math.inf, gpus * config.images_per_gpu)
    hours = (start_s + images / rate) / 3600 if rate else None
    needed = {
        "cpus": cpus,
        "gpus": gpus,
        "images_per_gpu" if gpus else "images_per_cpu": rate or (0.0 if cpus is None else None),
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


def describe_estimate(
    recipe: Recipe,
    images: int,
    resources: Resources,
    config: EstimateConfig,
    sample: PlanSample | None = None,
) -> list[str]:
    """Returns what so many photos will take as lines for the user."""
    core_seconds = sample.core_seconds(recipe, bool(resources.gpus)) if sample else None
    start_s = sample.start_s if sample else 0.0
    rate, hours, cost, lacking = estimate_run(images, resources, config, core_seconds, start_s)
    bytes_each = sample.bytes / sample.photos if sample else recipe.record.bytes_per_photo
    things = sample.found / sample.photos if sample else 0.0
    lines = []
    if sample:
        stages = (f"{name} {1000 * sample.seconds[name] / sample.photos:.0f}" for name in recipe.stage_names)
        lines.append(
            f"Measured on {quantity(sample.photos, 'photo')} of them, on one core of this machine: "
            f"{', '.join(stages)} ms a photo; {things:.1f} {sample.name} a photo."
        )
    numbers = ((resources.cpus, "CPU core"), (resources.gpus, "GPU"))
    on = " and ".join(quantity(number, noun) for number, noun in numbers if number)
    time = "not known"
    if hours is not None and rate is not None:
        found = f" and {rate_text(rate * things)} {sample.name}" if sample else ""
        time = f"about {duration(3600 * hours)}, at {rate_text(rate)} photos{found} a second"
    price = "not known."
    if cost is not None:
        price = f"about {cost:,.2f} {config.currency}"
        if sample and things:
            price += f", {1e6 * cost / (images * things):,.2f} for a million {sample.name}"
        price += "."
    lines += [
        f"The records will take about {size_text(images * bytes_each)}.",
        f"Time {f'on {on} ' if on else ''}{resources.where}: {time}.",
        f"Cost: {price}",
    ]
    if lacking:
        lines.append(f"To know more, give {', '.join(f'estimate.{name}' for name in lacking)}.")
    return lines
