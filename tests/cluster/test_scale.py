"""A run asks an autoscaling cluster for its nodes, and waits for them as long as it may."""

from __future__ import annotations

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
    size = scale.wait_for_size(EngineConfig(**engine), growing(clock, 16, 3), clock, clock.sleep)
    assert size == expected
    assert clock.now == 60 * minutes
    assert said in caplog.text


@pytest.fixture
def requests(monkeypatch):
    made = []
    monkeypatch.setattr(scale, "request_resources", lambda **request: made.append(request))
    monkeypatch.setattr(scale, "cluster_size", lambda: (32.0, 2.0))
    return made


def stopped_run(engine: EngineConfig, during) -> None:
    with scale.requested(engine):
        during()
        raise KeyboardInterrupt


def test_the_request_stands_as_long_as_the_run(requests):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        stopped_run(EngineConfig(request_cpus=16, request_gpus=2), lambda: seen.extend(requests))
    assert seen == [{"num_cpus": 16, "bundles": [{"GPU": 1}, {"GPU": 1}]}]
    assert requests[1:] == [{"num_cpus": 0, "bundles": []}]


def test_nothing_is_asked_for_without_need(requests):
    with scale.requested(EngineConfig()) as size:
        assert size == (32.0, 2.0)
    assert requests == []


def test_a_lost_cluster_does_not_hide_the_error(requests, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        stopped_run(
            EngineConfig(request_cpus=1), lambda: monkeypatch.setattr(scale, "request_resources", None)
        )
