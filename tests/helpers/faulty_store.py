"""A folder in which files cannot be created when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.errors import OutputError
from pipeline.storage.store import Store


class FaultyStore(Store):
    """Calls `before` with the name of every file that is about to be created; what it raises is the fault."""

    def __init__(self, url: str, before: Callable[[str], Any], session: str = ""):
        super().__init__(url, session=session)
        self._before = before

    def of_session(self, session: str) -> FaultyStore:
        return FaultyStore(self.url, self._before, session)

    def create(self, name: str):
        self._before(name)
        return super().create(name)


def full_disk(*beginnings: str) -> Callable[[str], None]:
    """Returns what finds the disk full at files whose names begin like that."""

    def before(name: str) -> None:
        if name.startswith(beginnings):
            raise OutputError(f"Cannot write {name}: no space left on device.")

    return before
