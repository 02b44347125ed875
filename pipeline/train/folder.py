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
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import OutputError
from pipeline.images.png import encode_png
from pipeline.storage.store import SCRATCH, Store

log = logging.getLogger(__name__)


class TrainingFolder:
    """Writes the files of a run; a remote folder is mirrored from a local one by `sync`."""

    def __init__(self, store: Store):
        self.store = store
        store.remove(SCRATCH)  # of a run that was killed
        self._temporary: tempfile.TemporaryDirectory | None = None
        if store.is_local:
            self.local = Path(store.path())
            try:
                self.local.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"Cannot write {self.local}: {error.strerror}.") from error
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="facet-train-")
            self.local = Path(self._temporary.name)
            with suppress(FileNotFoundError):
                (self.local / "log.jsonl").write_bytes(store.read("log.jsonl"))
        self._tensorboard: Any = None

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
            for path in filter(Path.is_file, self.local.rglob("*")):
                self.store.write(str(path.relative_to(self.local)), path.read_bytes())

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
