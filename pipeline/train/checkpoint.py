"""Checkpoints of a run; the newest readable one counts."""

import logging
from typing import Any

from pipeline.errors import TrainingError
from pipeline.normals.checkpoints import from_bytes, to_bytes
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

FOLDER = "checkpoints"


class CheckpointStore:
    """The checkpoints of one run: checkpoints/step-000001234.pt.

    The newest `keep` of them are kept.
    """

    def __init__(self, store: Store, keep: int):
        self._store = store
        self._keep = keep

    def save(self, state: dict[str, Any]) -> None:
        """Writes a checkpoint, then deletes the oldest ones."""
        self._store.write(f"{FOLDER}/step-{state['step']:09d}.pt", to_bytes(state))
        for old in self._names()[: -self._keep]:
            self._store.remove(f"{FOLDER}/{old}")

    def load(self) -> dict[str, Any] | None:
        """Reads the newest checkpoint, or None; one that cannot be read is passed over with a warning."""
        for name in reversed(self._names()):
            try:
                return from_bytes(self._store.read(f"{FOLDER}/{name}"))
            except TrainingError as error:
                log.warning("Passed over %s: %s", name, error.message)
        return None

    def _names(self) -> list[str]:
        return [name for name in self._store.names(FOLDER) if name.startswith("step-")]
