"""A pretended recipe: its stages sleep for as long as the real ones compute, and pass on as many bytes.

With it many workers run on a few cores, and what is left to measure is the engine itself.
"""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.faces.crop import CROP_SIZE
from pipeline.run.config import RunConfig
from pipeline.run.items import Chunk, Item
from pipeline.run.recipe import Recipe, RecordFormat, Stage
from pipeline.run.records import PLACE, field, outcome
from pipeline.run.stages import ReadStage, begin_items
from pipeline.run.work import Work

PHOTO_BYTES = 100_000
CROP_BYTES = 3 * CROP_SIZE**2


def pretended_recipe(seconds: dict[str, float]) -> Recipe:
    """Returns a recipe whose stages take `seconds[name]` for a photo; names are crop, normals and write.

    Its network runs on a GPU where Ray believes in one.
    """
    return Recipe(
        name="pretended",
        config=RunConfig,
        stages=(
            Stage("crop", Sleep, "core", partial(_seconds, seconds["crop"])),
            Stage("normals", SleepTogether, "network", partial(_seconds, seconds["normals"])),
        ),
        record=replace(FORMAT, finish=partial(_finish, seconds["write"])),
        joins=_never,  # else most would be repetitions
        device=_anywhere,
    )


class PretendedRead(ReadStage):
    """Stands for the engine's first stage: yields photos of the plan without looking for them."""

    def __init__(self, work: Work, seconds: float):
        super().__init__(work)
        self._seconds = seconds

    def __call__(self, shard: int, chunk: int) -> Chunk:
        """Takes the time of a chunk."""
        items = begin_items(self._work, shard, chunk)
        time.sleep(self._seconds * len(items))
        for item in items:
            item.photos[0].data = bytes(PHOTO_BYTES)
        return Chunk(shard, chunk, items)


class Sleep:
    """Makes one black crop of a photo."""

    def __init__(self, seconds: float):
        self._seconds = seconds

    def __call__(self, item: Item) -> None:
        """Takes the time of a photo."""
        time.sleep(self._seconds)
        item.handed_on = bytes(CROP_BYTES)


class SleepTogether:
    """Passes the crops on."""

    def __init__(self, seconds: float):
        self._seconds = seconds

    def __call__(self, items: list[Item]) -> None:
        """Takes the time of a chunk."""
        time.sleep(self._seconds * len(items))


def _finish(seconds: float, item: Item, config: Any) -> None:
    time.sleep(seconds)
    item.end_empty(FORMAT.empty, "Pretended.")


def _seconds(seconds: float, config: Any) -> tuple[float]:
    return (seconds,)


def _anywhere(config: Any) -> str:
    return "auto"


def _never(config: Any) -> bool:
    return False


FORMAT = RecordFormat(
    schema=pa.schema(
        [*PLACE, *outcome("things", "no_thing"), field("things", pa.list_(pa.int32()), "Nothing.", False)]
    ),
    things="things",
    empty="no_thing",
    bytes_per_photo=1000,
)
