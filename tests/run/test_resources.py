"""CPU and GPU shares: everything fits at once on any cluster, or the plan is refused with the reason."""

import pytest

from pipeline.errors import PlanError
from pipeline.run.config import EngineConfig
from pipeline.run.engines.resources import IO_CPUS, Shares
from pipeline.run.engines.resources import plan_resources as plan_for
from pipeline.run.recipe import Stage

STAGES = (Stage("crop", list), Stage("normals", list, "network"))


def plan_resources(cpus: float, gpus: float, config: EngineConfig, device: str = "auto") -> Shares:
    return plan_for(cpus, gpus, config, STAGES, device)


def demands(shares: Shares) -> list[tuple[float, float]]:
    """(CPUs, GPUs) of everything that runs at the same time, actors first, as Ray starts them."""
    actors = [(share.cpus, share.gpus) for share in shares.stages for _ in range(share.actors)]
    return actors + ([(IO_CPUS, 0.0)] * (shares.read_actors + shares.write_actors + shares.commit_actors))


def fits(shares: Shares, nodes: list[tuple[float, float]], spread: bool) -> bool:
    """Whether all find a node, each taking the fullest or the emptiest that has room."""
    free = [list(node) for node in nodes]
    for cpus, gpus in demands(shares):
        able = [node for node in free if node[0] >= cpus - 1e-9 and node[1] >= gpus - 1e-9]
        if not able:
            return False
        node = (max if spread else min)(able, key=lambda node: node[0])
        node[0] -= cpus
        node[1] -= gpus
    return True


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize(
    "nodes",
    [
        [(1, 0)],
        [(2, 0)],
        [(3, 0)],
        [(4, 0)],
        [(64, 0)],
        [(1, 1)],
        [(2, 1)],
        [(16, 1)],
        [(64, 8)],
        [(1, 0)] * 16,
        [(4, 0)] * 8,
        [(0, 0), (16, 0), (16, 0)],
        [(4, 1), (16, 0), (16, 0)],
        [(2, 4)],
    ],
)
def test_everything_fits_at_once(nodes, spread):
    cpus, gpus = (float(sum(column)) for column in zip(*nodes, strict=True))
    shares = plan_resources(cpus, gpus, EngineConfig())
    assert min(share.actors for share in shares.stages) >= 1
    helpers = (shares.read_actors, shares.write_actors, shares.commit_actors)
    assert min(helpers) >= 1 if gpus else helpers == (0, 0, 0)
    assert shares.cpus <= cpus
    assert shares.gpus <= gpus
    assert fits(shares, [(float(cpu), float(gpu)) for cpu, gpu in nodes], spread)


def test_every_core_has_work():
    shares = plan_resources(64, 0, EngineConfig())
    assert [(share.actors, share.gpus) for share in shares.stages] == [(64, 0)]


def test_gpus_run_the_network():
    shares = plan_resources(32, 4, EngineConfig(gpus_per_worker=0.5))
    assert [(share.actors, share.gpus) for share in shares.stages] == [(32, 0), (8, 0.5)]
    assert plan_resources(32, 4, EngineConfig(), device="cpu").gpus == 0


def test_given_worker_counts_are_kept():
    config = EngineConfig(workers={"crop": 5, "normals": 3})
    assert [share.actors for share in plan_resources(8, 3, config).stages] == [5, 3]
    assert [share.actors for share in plan_resources(8, 0, config).stages] == [3]  # they do both


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_stages_fits(count):
    stages = [Stage(f"s{number}", list) for number in range(count)]
    for cpus in (1, 2, 7, 64):
        assert plan_for(cpus, 0, EngineConfig(), stages, "cpu").cpus <= cpus
        with_network = [*stages, Stage("network", list, "network")]
        assert plan_for(cpus, 1, EngineConfig(), with_network).cpus <= cpus


@pytest.mark.parametrize(
    ("cpus", "gpus", "config", "device", "reason"),
    [
        (0, 0, {}, "auto", "0 CPUs"),
        (0.5, 0, {}, "auto", "0.5 CPUs"),
        (4, 0, {}, "cuda", "0 GPUs"),
        (4, 0.5, {}, "cuda:0", "0.5 GPUs"),
        (2, 0, {"workers": {"crop": 6}}, "auto", "6 crop and normals workers need 5.4 CPUs"),
        (2, 0, {"workers": {"normals": 60}}, "auto", "the cluster has 2"),
        (8, 1, {"workers": {"normals": 2}}, "auto", "need 2 GPUs"),
    ],
)
def test_impossible_plans_are_refused_with_the_reason(cpus, gpus, config, device, reason):
    with pytest.raises(PlanError, match=reason):
        plan_resources(cpus, gpus, EngineConfig(**config), device)
