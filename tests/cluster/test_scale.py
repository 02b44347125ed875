"""A run asks an autoscaling cluster for its nodes, and waits for them as long as it may."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.run.config import EngineConfig
from pipeline.run.engines import autoscale as scale


class Clock:
    """Time that passes by sleeping alone."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def growing(clock: Clock, cpus: int, gpus: int):
    """Size of a cluster that gets a node of 4 CPUs, or of 4 CPUs and a GPU, every minute."""

    def size() -> tuple[float, float]:
        nodes = int(clock.now // 60)
        return min(4.0 * nodes, cpus), min(1.0 * nodes, gpus)

    return size


@pytest.mark.parametrize(
    ("engine", "expected", "minutes", "said"),
    [
        ({"request_cpus": 8}, (8.0, 2.0), 2, "Waiting for 8 CPUs and 0 GPUs; there are 0 and 0"),
        ({"request_cpus": 4, "request_gpus": 3}, (12.0, 3.0), 3, "Waiting for 4 CPUs and 3 GPUs"),
        ({"request_cpus": 64, "request_minutes": 6}, (16.0, 3.0), 6, "16 CPUs and 3 GPUs after 6 minutes"),
    ],
)
def test_nodes_are_waited_for(engine, expected, minutes, said, caplog):
    clock = Clock()
    found = scale.wait_for_size(EngineConfig(**engine), growing(clock, 16, 3), clock, clock.sleep)
    assert found == expected
    assert clock.now == 60 * minutes
    assert said in caplog.text


class Autoscaler:
    """Notes what is asked of it, until it is lost."""

    def __init__(self):
        self.requests: list[dict[str, Any]] = []
        self.lost = False

    def __call__(self, **request: Any) -> None:
        if self.lost:
            raise ConnectionError
        self.requests.append(request)


def size() -> tuple[float, float]:
    return 32.0, 2.0


def stopped_run(engine: EngineConfig, autoscaler: Autoscaler, during: Callable[[], None]) -> None:
    with scale.requested(engine, autoscaler, size):
        during()
        raise KeyboardInterrupt


def test_the_request_stands_as_long_as_the_run():
    seen = []
    autoscaler = Autoscaler()
    engine = EngineConfig(request_cpus=16, request_gpus=2)
    with pytest.raises(KeyboardInterrupt):
        stopped_run(engine, autoscaler, lambda: seen.extend(autoscaler.requests))
    assert seen == [{"num_cpus": 16, "bundles": [{"GPU": 1}, {"GPU": 1}]}]
    assert autoscaler.requests[1:] == [{"num_cpus": 0, "bundles": []}]


def test_nothing_is_asked_for_without_need():
    autoscaler = Autoscaler()
    with scale.requested(EngineConfig(), autoscaler, size) as found:
        assert found == (32.0, 2.0)
    assert autoscaler.requests == []


def test_a_lost_cluster_does_not_hide_the_error():
    autoscaler = Autoscaler()
    with pytest.raises(KeyboardInterrupt):
        stopped_run(EngineConfig(request_cpus=1), autoscaler, lambda: setattr(autoscaler, "lost", True))
    assert autoscaler.lost
