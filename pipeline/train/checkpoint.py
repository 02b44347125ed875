"""Checkpoints of a run, on any path that fsspec knows; the newest readable one counts.

A checkpoint is written under another name and then renamed, so that a killed run leaves a whole one or none.
"""

from __future__ import annotations

import io
import logging
from typing import Any

import fsspec
import torch

from pipeline.errors import TrainingError

log = logging.getLogger(__name__)

FORMAT = 1


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


def read(path: str) -> dict[str, Any]:
    """Reads the checkpoint at a path or URL.

    Raises:
        TrainingError: It cannot be read.
    """
    filesystem, root = fsspec.core.url_to_fs(path)
    try:
        return from_bytes(filesystem.cat_file(root))
    except OSError as error:
        raise TrainingError(f"Cannot read the checkpoint {path}: {error}") from error


def to_bytes(state: dict[str, Any]) -> bytes:
    """Serialises a state of tensors, numbers, strings, lists and dictionaries."""
    stream = io.BytesIO()
    torch.save({"format": FORMAT, **state}, stream)
    return stream.getvalue()


def from_bytes(data: bytes) -> dict[str, Any]:
    """Reads a state; pickled code is refused.

    Raises:
        TrainingError: The bytes are no checkpoint of this program.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a torn or hostile file can raise anything
        raise TrainingError(f"The checkpoint cannot be read: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError("The file is not a checkpoint of a training run.")
    return state


def check_architecture(state: dict[str, Any], architecture: str) -> None:
    """Refuses the state of another network.

    Raises:
        TrainingError: It is of another architecture.
    """
    if state["architecture"] != architecture:
        raise TrainingError(
            f"The checkpoint is of a {state['architecture']} network, the run trains {architecture}: choose "
            "another output folder or the same architecture."
        )
