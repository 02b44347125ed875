"""Pretended stages: they sleep for as long as the real ones compute, and pass on messages of the same size.

With them many workers run on a few cores, and what is left to measure is the engine itself.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from pipeline.faces.crop import CROP_SIZE
from pipeline.normals.architectures import LoadedWeights
from pipeline.run import records
from pipeline.run.config import RunConfig
from pipeline.run.engines.ray_engine import Stages
from pipeline.run.plan import chunk_photos
from pipeline.run.stages import Cropped, Estimated, Fetched, Work, WriteStage, Written

PHOTO_BYTES = 100_000


def pretended_stages(seconds: dict[str, float]) -> Stages:
    """Returns stages that take `seconds[name]` for a photo; names are read, crop, normals and write."""
    kinds = {"read": Read, "crop": Crop, "normals": Normals, "write": Write}
    return Stages(**{name: partial(kind, seconds=seconds[name]) for name, kind in kinds.items()})


class Read:
    """Yields photos of the plan, without looking for them."""

    def __init__(self, work: Work, seconds: float):
        self._work = work
        self._seconds = seconds

    def __call__(self, shard: int, chunk: int) -> Fetched:
        """Takes the time of a chunk."""
        photos = chunk_photos(self._work.store, self._work.plan, shard, chunk)
        time.sleep(self._seconds * len(photos))
        return Fetched(shard, chunk, [(photo, bytes(PHOTO_BYTES)) for photo in photos])


class Crop:
    """Makes one black crop of each photo, and a record that tells of no face."""

    def __init__(self, config: RunConfig, seconds: float):
        self._seconds = seconds

    def __call__(self, fetched: Fetched) -> Cropped:
        """Takes the time of a chunk."""
        time.sleep(self._seconds * len(fetched.photos))
        rows = [records.new_record(photo.id, photo.uri) for photo, _ in fetched.photos]
        for row in rows:
            row.update(status=records.NO_FACE, error_code=records.NO_FACE, error_message="Pretended.")
        crops = np.zeros((len(rows), CROP_SIZE, CROP_SIZE, 3), np.uint8)
        return Cropped(fetched.shard, fetched.chunk, rows, crops, PHOTO_BYTES * len(rows))


class Normals:
    """Passes the crops on as normals."""

    def __init__(self, config: RunConfig, weights: LoadedWeights, seconds: float):
        self._seconds = seconds

    def __call__(self, cropped: Cropped) -> Estimated:
        """Takes the time of a chunk."""
        time.sleep(self._seconds * len(cropped.records))
        masks = np.zeros(cropped.crops.shape[:3], np.uint8)
        return Estimated(
            cropped.shard, cropped.chunk, cropped.records, cropped.crops, masks, cropped.bytes_read
        )


class Write:
    """Writes the records, which hold no images."""

    def __init__(self, work: Work, seconds: float):
        self._seconds = seconds
        self._write = WriteStage(work)

    def __call__(self, estimated: Estimated) -> Written:
        """Takes the time of a chunk, and that of writing."""
        time.sleep(self._seconds * len(estimated.records))
        return self._write(estimated)
