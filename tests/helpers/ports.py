"""Ports for servers that tests start."""

import random
import socket
from contextlib import suppress

NEVER_GIVEN = range(20_000, 32_000)
"""Below what Linux hands out by itself: only who asks for such a port by its number takes it."""


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now, each another one."""
    luck = random.SystemRandom()
    found: list[int] = []
    while len(found) < count:
        port = luck.choice(NEVER_GIVEN)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found
