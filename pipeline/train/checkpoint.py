"""Checkpoints of a run, on any path that fsspec knows; the newest readable one counts.

A checkpoint is written under another name and then renamed, so that a killed run leaves a whole one or none.
"""

from __future__ import annotations

import logging
from typing import Any

import fsspec

from pipeline.errors import TrainingError
from pipeline.normals.checkpoints import from_bytes, to_bytes

log = logging.getLogger(__name__)


class CheckpointStore:
    """The checkpoints of one run: FOLDER/step-000001234.pt.

    Args:
        folder: Path or URL.
        keep: How many of the newest are kept.
    """

    def __init__(self, folder: str, keep: int):
        self._filesystem, self._root = fsspec.core.url_to_fs(folder)
        self._keep = keep

    def save(self, state: dict[str, Any]) -> None:
        """Writes a checkpoint, then deletes the oldest ones."""
        self._filesystem.makedirs(self._root, exist_ok=True)
        for torn in self._filesystem.glob(f"{self._root}/*.part"):
            self._filesystem.rm_file(torn)
        path = f"{self._root}/step-{state['step']:09d}.pt"
        self._filesystem.pipe_file(path + ".part", to_bytes(state))
        self._filesystem.mv(path + ".part", path)
        for old in self._list()[: -self._keep]:
            self._filesystem.rm_file(old)

    def load(self) -> dict[str, Any] | None:
        """Reads the newest checkpoint, or None; one that cannot be read is passed over with a warning."""
        for path in reversed(self._list()):
            try:
                return from_bytes(self._filesystem.cat_file(path))
            except TrainingError as error:
                log.warning("Passed over %s: %s", path, error.message)
        return None

    def _list(self) -> list[str]:
        if not self._filesystem.exists(self._root):
            return []
        self._filesystem.invalidate_cache(self._root)
        return sorted(self._filesystem.glob(f"{self._root}/step-*.pt"))
