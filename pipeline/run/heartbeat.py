"""Signs of life: who works on a run, where, and at what. A process that is killed leaves its last one.

_work/facet-alive-1f0c9a2b.json    one for each session, written anew every few seconds
"""

import json
import os
import platform
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Self

from pipeline.errors import FacetError
from pipeline.run.pace import Pace
from pipeline.storage.store import SCRATCH, UNFINISHED, Store, drop_scratch

PREFIX = f"{UNFINISHED}alive-"
INTERVAL = 10.0
"""Seconds between two signs."""

DEAD_AFTER = 45.0
"""Seconds after which a session that gave no sign is dead, or its machine stands still."""

LISTING, STARTING, WORKING, REPORTING = "listing the input", "starting", "running", "writing the report"


@dataclass(frozen=True)
class Sign:
    """What a session said of itself.

    Attributes:
        session: Its identifier.
        host: Name of its machine.
        pid: Number of its process there.
        phase: What it does.
        began: When, as an ISO time in UTC.
        images: Photos that it has done.
        pace: How quickly; None before one is done.
        worked: When it last had one done.
        time: When it said so.
    """

    session: str
    host: str
    pid: int
    phase: str
    began: str
    images: int
    pace: Pace | None
    worked: str
    time: str

    def age(self, now: datetime) -> float:
        """Returns the seconds since it said so."""
        return (now - datetime.fromisoformat(self.time)).total_seconds()

    def idle(self, now: datetime) -> float:
        """Returns the seconds since it last had a photo done, or began with something else."""
        return max(0.0, (now - datetime.fromisoformat(self.worked)).total_seconds())

    def is_alive(self, now: datetime) -> bool:
        """Whether the session still gives signs."""
        return self.age(now) < DEAD_AFTER


class Heartbeat:
    """Gives signs of life for as long as a `with` block lasts, from a thread of its own."""

    def __init__(self, store: Store, session: str, interval: float = INTERVAL):
        now = _now()
        self._store = store
        self._interval = interval
        self._sign = Sign(session, platform.node(), os.getpid(), LISTING, now, 0, None, now, now)
        self._name = f"{SCRATCH}/{PREFIX}{session}.json"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="facet-heartbeat")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(FacetError):
            self._store.remove(self._name)
            drop_scratch(self._store, self._sign.session)

    def enter(self, phase: str) -> None:
        """Notes what the session does from now on; said with the next sign."""
        self._sign = replace(self._sign, phase=phase, worked=_now())

    def add(self, images: int, pace: Pace | None) -> None:
        """Notes that photos are done, and how quickly."""
        sign = self._sign
        self._sign = replace(sign, phase=WORKING, images=sign.images + images, pace=pace, worked=_now())

    def _beat(self) -> None:
        while True:
            # Work goes on without signs, whatever the reason: a full disk shows soon enough.
            with suppress(Exception):
                sign = replace(self._sign, time=_now())
                self._store.write(self._name, json.dumps(asdict(sign)).encode())
            if self._stop.wait(self._interval):
                return


def read_signs(store: Store) -> list[Sign]:
    """Returns the last signs of all sessions that did not end by themselves, the newest first."""
    signs = []
    for name in store.names(SCRATCH):
        if name.startswith(PREFIX):
            with suppress(ValueError, TypeError, KeyError, FileNotFoundError, FacetError):
                values = json.loads(store.read(f"{SCRATCH}/{name}"))
                signs.append(Sign(**values | {"pace": values["pace"] and Pace(**values["pace"])}))
    return sorted(signs, key=lambda sign: sign.time, reverse=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
