"""Whether there is a Ray cluster at an address: Ray itself tries for many minutes before it says no."""

from __future__ import annotations

import socket

from pipeline.errors import PlanError

CONNECT_SECONDS = 20.0
"""Time for a cluster to take a connection."""


def check_cluster(address: str | None) -> None:
    """Tries to connect to a cluster.

    Args:
        address: What `RAY_ADDRESS` holds: host:port, ray://host:port, or a word such as auto, which is left
            to Ray, as None is.

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
