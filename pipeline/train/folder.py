"""The folder that a run leaves behind, local or remote.

OUT/config.yaml       the resolved configuration
log.jsonl         a line per interval and per validation: the learning curve
tensorboard/      the same for TensorBoard
sheets/           validation pictures: photo, truth, prediction, error
checkpoints/      for resuming
weights/          the exported weights
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem

from pipeline.images.png import encode_png

log = logging.getLogger(__name__)


class TrainingFolder:
    """Writes the files of a run; a remote folder is mirrored from a local one by `sync`.

    Args:
        path: Path or URL.
    """

    def __init__(self, path: str):
        self.path = str(path)
        self._filesystem, self._root = fsspec.core.url_to_fs(self.path)
        self._temporary: tempfile.TemporaryDirectory | None = None
        if isinstance(self._filesystem, LocalFileSystem):
            self.local = Path(self._root)
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="facet-train-")
            self.local = Path(self._temporary.name)
            if self._filesystem.exists(f"{self._root}/log.jsonl"):
                self._filesystem.get_file(f"{self._root}/log.jsonl", str(self.local / "log.jsonl"))
        self.local.mkdir(parents=True, exist_ok=True)
        self._tensorboard: Any = None

    @property
    def checkpoints(self) -> str:
        """Path or URL of the checkpoints."""
        return f"{self.path.rstrip('/')}/checkpoints"

    def write_text(self, name: str, text: str) -> None:
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def write_picture(self, name: str, picture: np.ndarray) -> None:
        """Writes a picture (H, W, 3) uint8 as PNG."""
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(picture))

    def record(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Appends a line to log.jsonl and the same values to TensorBoard."""
        with open(self.local / "log.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        if self._tensorboard is None:
            from tensorboardX import SummaryWriter

            self._tensorboard = SummaryWriter(str(self.local / "tensorboard"), flush_secs=30)
        for name, value in values.items():
            self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def sync(self) -> None:
        """Copies everything to a remote folder; does nothing for a local one."""
        if self._temporary is not None:
            self._filesystem.put(f"{self.local}/", f"{self._root}/", recursive=True)

    def __enter__(self) -> TrainingFolder:
        return self

    def __exit__(self, *_: object) -> None:
        """Flushes, copies and frees."""
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None
        self.sync()
        if self._temporary is not None:
            self._temporary.cleanup()
