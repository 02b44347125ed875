"""Ray clusters: looked for, connected to, or started on this machine."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import PlanError

os.environ.setdefault(  # read as Ray is imported
    "RAY_DEDUP_LOGS_SKIP_REGEX",
    "^(A worker died or was killed|The node with node id.* marked dead|Raylet is terminated)",
)
"""Paragraphs that Ray writes to stdout; engines say in a line that a worker was lost."""

CONNECT_SECONDS = 20.0
"""Time for a cluster to take a connection."""


def has_cluster(address: str | None = None) -> bool:
    """Tells whether a cluster is named, or connected to already; Ray is not imported for this question."""
    return bool(_address(address)) or ("ray" in sys.modules and sys.modules["ray"].is_initialized())


@contextmanager
def cluster(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    quiet: bool = True,
) -> Iterator[tuple[float, float]]:
    """Connects to a cluster, or starts Ray on this machine; leaves alone what is connected already.

    Args:
        address: Of the cluster; None: what RAY_ADDRESS holds, and without that Ray is started here.
        num_cpus: CPUs of a Ray that is started here; None: all.
        num_gpus: Likewise; more than there are is a pretence.
        quiet: Whether Ray says nothing but errors, and workers nothing at all.

    Yields:
        CPUs and GPUs of the cluster.

    Raises:
        PlanError: There is no cluster at the address, or Ray does not start.
    """
    import ray

    own = not ray.is_initialized()
    if own:
        address = _address(address)
        check_cluster(address)
        options = (
            {"address": address}
            if address
            else {"num_cpus": num_cpus, "num_gpus": num_gpus, "include_dashboard": False}
        )
        if not address:  # what Ray would tell its makers of the machine
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(
                logging_level=logging.ERROR if quiet else logging.INFO, log_to_driver=not quiet, **options
            )
        except Exception as error:  # Ray's own are of no class of its own
            what = (
                f"There is no Ray cluster at {address}" if address else "Ray does not start on this machine"
            )
            raise PlanError(f"{what}: {error}") from error
    try:
        yield cluster_size()
    finally:
        if own:
            ray.shutdown()


def cluster_size() -> tuple[float, float]:
    """Returns CPUs and GPUs of the cluster that this process is connected to."""
    import ray

    resources = ray.cluster_resources()
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0)


def check_cluster(address: str | None) -> None:
    """Tries to connect to a cluster, since Ray itself tries for many minutes before it says no.

    Raises:
        PlanError: Nobody answers there.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:  # the latter for a port above 65535
        raise PlanError(f"There is no Ray cluster at {address}: {error}.") from error


def _address(address: str | None) -> str | None:
    return address or os.environ.get("RAY_ADDRESS")
