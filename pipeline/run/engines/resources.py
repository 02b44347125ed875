"""How a run shares out the CPUs and GPUs of a cluster.

Ray starts an actor only when its declared share of a node is free, and waits for ever when those that run
leave none: a pool that holds all CPUs starves the one that feeds it. Shares are therefore worked out here,
before anything starts, such that everything that a run needs fits at the same time.

Where networks run on CPUs every core hosts one actor that does everything. Where they run on GPUs it hosts
one of each other stage, single-threaded and declared at an equal part of what reading and writing leave of
the core. They take turns on it as their queues fill, so whichever stage is slower gets the larger part of the
machine without anyone having to know the ratio.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import PlanError
from pipeline.run.config import EngineConfig
from pipeline.run.recipe import Stage

IO_CPUS = 0.08
"""Declared by an actor that reads, writes or commits: small enough to fit beside the others on one core."""

CORE_CPUS = 0.6
"""Declared by the actors of all stages on one core together that feed GPUs."""

WHOLE_CPUS = 0.9
"""Declared by an actor that does everything: small things of others fit beside it."""


@dataclass(frozen=True)
class Share:
    """What the pool of a stage, or of all, takes: number of actors, and CPUs and GPUs of each."""

    name: str
    actors: int
    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Shares:
    """What each part of a run takes; what reads, writes and commits declares `IO_CPUS` an actor.

    Without GPUs there is one share, of actors that do everything.
    """

    stages: tuple[Share, ...]
    read_actors: int = 0
    write_actors: int = 0
    commit_actors: int = 0

    @property
    def cpus(self) -> float:
        """CPUs taken when everything runs at once."""
        io = (self.read_actors + self.write_actors + self.commit_actors) * IO_CPUS
        return sum(share.actors * share.cpus for share in self.stages) + io

    @property
    def gpus(self) -> float:
        """GPUs taken when everything runs at once."""
        return sum(share.actors * share.gpus for share in self.stages)


def plan_resources(
    cpus: float, gpus: float, config: EngineConfig, stages: Sequence[Stage], device: str = "auto"
) -> Shares:
    """Works out the shares of a run.

    Args:
        cpus: CPUs of the cluster.
        gpus: GPUs of the cluster.
        config: Worker counts that are given there are kept.
        stages: The stages of the recipe.
        device: "auto", "cpu" or "cuda": where networks are to run.

    Returns:
        Shares that fit the cluster all at once.

    Raises:
        PlanError: The cluster cannot run what is asked; the message says what is lacking.
    """
    has_network = any(stage.place == "network" for stage in stages)
    on_gpu = has_network and device != "cpu" and gpus >= config.gpus_per_worker
    if device.startswith("cuda") and not on_gpu:
        raise PlanError(
            f"The network is to run on {device}, but the cluster has {gpus:g} GPUs and a worker takes "
            f"{config.gpus_per_worker:g}: use a device of cpu, or add GPUs."
        )
    if cpus < 1:
        raise PlanError(f"The cluster has {cpus:g} CPUs; a run needs at least 1.")
    shares = (
        _shares_with_gpus(cpus, gpus, config, stages) if on_gpu else _shares_of_cores(cpus, config, stages)
    )
    for needed, there, unit in ((shares.cpus, cpus, "CPUs"), (shares.gpus, gpus, "GPUs")):
        if needed > there + 1e-6:
            workers = " and ".join(f"{share.actors} {share.name} workers" for share in shares.stages)
            raise PlanError(
                f"{workers} need {needed:g} {unit} with what feeds them, and the cluster has {there:g}: "
                "lower engine.workers, or leave it out."
            )
    return shares


def _shares_of_cores(cpus: float, config: EngineConfig, stages: Sequence[Stage]) -> Shares:
    given = [config.workers[stage.name] for stage in stages if stage.name in config.workers]
    name = " and ".join(stage.name for stage in stages)
    return Shares((Share(name, min(given, default=math.floor(cpus)), WHOLE_CPUS),))


def _shares_with_gpus(cpus: float, gpus: float, config: EngineConfig, stages: Sequence[Stage]) -> Shares:
    cores = math.floor(cpus)
    networks = sum(stage.place == "network" for stage in stages)
    core_share = CORE_CPUS / max(1, len(stages) - networks)
    gpu_workers = max(1, math.floor(gpus / config.gpus_per_worker) // networks)

    def share_of(stage: Stage) -> Share:
        if stage.place == "network":
            workers = config.workers.get(stage.name, gpu_workers)
            return Share(stage.name, workers, 0.0, config.gpus_per_worker)
        return Share(stage.name, config.workers.get(stage.name, cores), core_share)

    return Shares(
        tuple(map(share_of, stages)),
        read_actors=max(1, cores // 8),
        write_actors=max(1, cores // 2),
        commit_actors=max(1, cores // 16),
    )
