"""How a run shares out the CPUs and GPUs of a cluster.

Ray starts an actor only when its declared share of a node is free, and waits for ever when those that run
leave none: a pool that holds all CPUs starves the one that feeds it. Shares are therefore worked out here,
before anything starts, such that everything that a run needs fits at the same time.

Without GPUs every core hosts one crop actor and one normals actor, each single-threaded and declared at
about a third of a core. They take turns on the core as their queues fill, so whichever stage is slower gets
the larger part of the machine without anyone having to know the ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import PlanError
from pipeline.run.config import EngineConfig

IO_CPUS = 0.08
"""Declared by an actor that reads, writes or commits: small enough to fit beside the others on one core."""

CROP_CPUS = {"cpu": 0.35, "gpu": 0.6}
NORMALS_CPUS = {"cpu": 0.35, "gpu": 0.0}
"""Declared by an actor, by where the network runs."""


@dataclass(frozen=True)
class Shares:
    """What each part of the graph takes: number of workers, and CPUs and GPUs of each."""

    read_actors: int
    crop_actors: int
    crop_cpus: float
    normals_actors: int
    normals_cpus: float
    normals_gpus: float
    write_actors: int
    commit_actors: int

    @property
    def cpus(self) -> float:
        """CPUs taken when everything runs at once."""
        io = (self.read_actors + self.write_actors + self.commit_actors) * IO_CPUS
        return self.crop_actors * self.crop_cpus + self.normals_actors * self.normals_cpus + io

    @property
    def gpus(self) -> float:
        """GPUs taken when everything runs at once."""
        return self.normals_actors * self.normals_gpus


def plan_resources(cpus: float, gpus: float, config: EngineConfig, device: str = "auto") -> Shares:
    """Works out the shares of a run.

    Args:
        cpus: CPUs of the cluster.
        gpus: GPUs of the cluster.
        config: Worker counts that are given there are kept.
        device: "auto", "cpu" or "cuda": where the network is to run.

    Returns:
        Shares that fit the cluster all at once.

    Raises:
        PlanError: The cluster cannot run what is asked; the message says what is lacking.
    """
    on_gpu = device != "cpu" and gpus >= config.gpus_per_worker
    if device.startswith("cuda") and not on_gpu:
        raise PlanError(
            f"The network is to run on {device}, but the cluster has {gpus:g} GPUs and a worker takes "
            f"{config.gpus_per_worker:g}: use normals.device=cpu, or add GPUs."
        )
    if cpus < 1:
        raise PlanError(f"The cluster has {cpus:g} CPUs; a run needs at least 1.")
    cores = math.floor(cpus)
    kind = "gpu" if on_gpu else "cpu"
    gpu_workers = math.floor(gpus / config.gpus_per_worker) if on_gpu else 0
    shares = Shares(
        read_actors=max(1, cores // 8),
        crop_actors=config.crop_workers or cores,
        crop_cpus=CROP_CPUS[kind],
        normals_actors=config.normals_workers or gpu_workers or cores,
        normals_cpus=NORMALS_CPUS[kind],
        normals_gpus=config.gpus_per_worker if on_gpu else 0.0,
        write_actors=max(1, cores // 2 if on_gpu else cores // 4),
        commit_actors=max(1, cores // 16),
    )
    for needed, there, unit in ((shares.cpus, cpus, "CPUs"), (shares.gpus, gpus, "GPUs")):
        if needed > there + 1e-6:
            raise PlanError(
                f"{shares.crop_actors} crop workers and {shares.normals_actors} normals workers need "
                f"{needed:g} {unit} with what feeds them, and the cluster has {there:g}: lower "
                "engine.crop_workers or engine.normals_workers, or leave them out."
            )
    return shares
