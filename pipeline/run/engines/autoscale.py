"""Asking an autoscaling cluster for its nodes before a run is laid out.

The pools of a run are laid out once, for the CPUs and GPUs that the cluster has at the time. A cluster that
grows on demand has none of its own accord, and what grows later would not be used. So the nodes are asked
for first; the request stands as long as the run, which also has lost ones replaced, and is then taken back.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ray.autoscaler.sdk import request_resources

from pipeline.ray_cluster import cluster_size
from pipeline.run.config import EngineConfig

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0


@contextmanager
def requested(
    config: EngineConfig,
    request: Callable[..., None] = request_resources,
    size: Callable[[], tuple[float, float]] = cluster_size,
) -> Iterator[tuple[float, float]]:
    """Holds a request for what the configuration asks for, and waits until it is there.

    Args:
        config: What is asked for, and for how long to wait.
        request: Asks the autoscaler.
        size: Returns CPUs and GPUs of the cluster.

    Yields:
        CPUs and GPUs of the cluster, which can be fewer than were asked for when the time is up.
    """
    if not (config.request_cpus or config.request_gpus):
        yield size()
        return
    request(num_cpus=config.request_cpus or 0, bundles=[{"GPU": 1}] * (config.request_gpus or 0))
    try:
        yield wait_for_size(config, size)
    finally:
        with suppress(Exception):  # the cluster may be what failed
            request(num_cpus=0, bundles=[])


def wait_for_size(
    config: EngineConfig,
    size: Callable[[], tuple[float, float]],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[float, float]:
    """Waits until a cluster is as large as asked for, or the time is up.

    Returns:
        CPUs and GPUs of the cluster in the end.
    """
    wanted = config.request_cpus or 0, config.request_gpus or 0
    deadline = clock() + 60 * config.request_minutes
    cpus, gpus = size()
    if cpus < wanted[0] or gpus < wanted[1]:
        log.warning("Waiting for %d CPUs and %d GPUs; there are %g and %g.", *wanted, cpus, gpus)
    while cpus < wanted[0] or gpus < wanted[1]:
        if clock() >= deadline:
            log.warning(
                "There are %g CPUs and %g GPUs after %g minutes: the run goes on with these.",
                cpus,
                gpus,
                config.request_minutes,
            )
            break
        sleep(POLL_SECONDS)
        cpus, gpus = size()
    return cpus, gpus
