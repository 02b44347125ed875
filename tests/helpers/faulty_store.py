"""A folder in which files cannot be created, or read, when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pipeline.errors import OutputError
from pipeline.storage.store import Store

Operation = Literal["create", "write_new", "open", "read", "remove"]


class FaultyStore(Store):
    """Calls `before` with the name of every file that is about to be created; what it raises is the fault.

    Args:
        url: A local path.
        before: What is called.
        operation: Before which method of the store, if not `create`.
        session: See `Store`.
    """

    def __init__(
        self, url: str, before: Callable[[str], Any], operation: Operation = "create", session: str = ""
    ):
        super().__init__(url, session=session)
        self._before = before
        self._operation = operation

    def of_session(self, session: str) -> FaultyStore:
        return FaultyStore(self.url, self._before, self._operation, session)

    def _begin(self, operation: Operation, name: str) -> None:
        if operation == self._operation:
            self._before(name)

    def create(self, name: str):
        self._begin("create", name)
        return super().create(name)

    def write_new(self, name: str, data: bytes):
        self._begin("write_new", name)
        return super().write_new(name, data)

    def open(self, name: str):
        self._begin("open", name)
        return super().open(name)

    def read(self, name: str):
        self._begin("read", name)
        return super().read(name)

    def remove(self, name: str) -> None:
        self._begin("remove", name)
        super().remove(name)


def full_disk(*beginnings: str) -> Callable[[str], None]:
    """Returns what finds the disk full at files whose names begin like that."""

    def before(name: str) -> None:
        if name.startswith(beginnings):
            raise OutputError(f"Cannot write {name}: no space left on device.")

    return before
