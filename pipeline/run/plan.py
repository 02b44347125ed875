"""The plan of a run: the list of its items and their photos, made once, cut into shards and chunks.

A shard is what is committed, a chunk is what goes through the stages together. Both are fixed slices of
the list of items, so their content and their names are the same whoever works on them and however often.

    plan/photos-00000-3f9c2d1ab04e.parquet     photos of the shards from 0 on
    plan/plan.json                             sizes, and which of these files count; written last

Items that are found later are added as an extension: more shards behind those that are there, in files of
their own. Nothing of what was planned before changes. Only plan.json makes files part of the plan, so a
planner that is killed leaves the plan as it was, and of two that start at once the first to end wins.
"""

from __future__ import annotations

import functools
import json
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pipeline.errors import OutputError
from pipeline.storage.store import Store

if TYPE_CHECKING:
    from pipeline.run.config import PlanConfig

NAME = "plan/plan.json"
SHARDS_PER_FILE = 100
SMALL_INPUT_SHARDS = 16
MIN_SHARD = 32
MIN_CHUNK = 8
CHUNKS_PER_INPUT = 64
"""An input smaller than `SMALL_INPUT_SHARDS` full shards is cut into about that many shards and
`CHUNKS_PER_INPUT` chunks, but no finer than the two minima."""


@dataclass(frozen=True)
class Extension:
    """Items that were planned at one time, and how they are cut.

    Attributes:
        items: Number of items.
        shard_size: Items per shard; the last has what is left.
        chunk_size: Items per chunk; the last of a shard has what is left.
        token: Part of the names of its files, which tells them from those of planners that were killed.
    """

    items: int
    shard_size: int
    chunk_size: int
    token: str

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.items // self.shard_size)


@dataclass(frozen=True)
class Plan:
    """What a run consists of.

    Attributes:
        items: Number of items, extensions included.
        images: Number of their photos.
        bytes: Sum of their sizes, as far as the listing told.
        shard_size: Items per shard; the last has what is left. Extensions have sizes of their own.
        chunk_size: Items per chunk; the last of a shard has what is left. As above.
        digest: SHA-256 over ids and URIs in order.
        token: See `Extension`.
        run: Digest of what else decides the records, see `pipeline.run.state.identity_digest`.
        extensions: What was added later, in order.
    """

    items: int
    images: int
    bytes: int
    shard_size: int
    chunk_size: int
    digest: str
    token: str = ""
    run: str = ""
    extensions: tuple[Extension, ...] = ()

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self._starts[-1]

    @property
    def cut(self) -> str:
        """How it is cut, behind a number of shards; "" where extensions have sizes of their own."""
        return "" if self.extensions else f" of up to {self.shard_size:,} in chunks of {self.chunk_size:,}"

    def shard_items(self, shard: int) -> int:
        """Returns the number of items of a shard."""
        piece, index = self.locate(shard)
        return min(piece.shard_size, piece.items - index * piece.shard_size)

    def shard_chunks(self, shard: int) -> int:
        """Returns the number of chunks of a shard."""
        return -(-self.shard_items(shard) // self.locate(shard)[0].chunk_size)

    def known_images(self, shards: Collection[int]) -> int | None:
        """Returns how many photos some shards have; None: only the files of photos tell."""
        if self.images == self.items:
            return sum(map(self.shard_items, shards))
        return self.images if len(shards) == self.shards else None

    def locate(self, shard: int) -> tuple[Extension, int]:
        """Returns what was planned together with a shard, and the shard's place in it."""
        if not 0 <= shard < self.shards:
            raise IndexError(f"The plan has {self.shards} shards, and there is no shard {shard}.")
        number = bisect_right(self._starts, shard) - 1
        return self._pieces[number], shard - self._starts[number]

    @functools.cached_property
    def _pieces(self) -> list[Extension]:
        first = self.items - sum(extension.items for extension in self.extensions)
        return [Extension(first, self.shard_size, self.chunk_size, self.token), *self.extensions]

    @functools.cached_property
    def _starts(self) -> list[int]:
        """First shard of every piece, and the number of shards."""
        return [0, *accumulate(piece.shards for piece in self._pieces)]


def read_plan(store: Store) -> Plan | None:
    """Returns the plan of a run folder, None when there is none.

    Raises:
        OutputError: It cannot be read.
    """
    try:
        values: dict[str, Any] = json.loads(store.read(NAME))
        extensions = tuple(Extension(**extension) for extension in values.pop("extensions", ()))
        return Plan(**values, extensions=extensions)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise OutputError(f"{store.place(NAME)} is damaged ({error}): start anew elsewhere.") from error


def cut(items: int, config: PlanConfig) -> tuple[int, int]:
    """Returns (shard size, chunk size) for an input.

    Any number from `SMALL_INPUT_SHARDS` full shards on gives the same.
    """
    shard = min(config.shard_size, max(MIN_SHARD, -(-items // SMALL_INPUT_SHARDS)))
    chunk = min(config.chunk_size, max(MIN_CHUNK, -(-items // CHUNKS_PER_INPUT)), shard)
    return shard, chunk


def leftovers(store: Store, plan: Plan) -> list[str]:
    """Returns the names of files that planners left which were killed."""
    known = {NAME, *file_names(plan)}
    return [name for name in (f"plan/{name}" for name in store.names("plan")) if name not in known]


def file_names(plan: Plan) -> list[str]:
    """Returns the names of the files that hold a plan's photos, in order."""
    return [
        file_name(piece.token, start + index)
        for piece, start in zip(plan._pieces, plan._starts, strict=False)
        for index in range(0, piece.shards, SHARDS_PER_FILE)
    ]


def dump_plan(plan: Plan) -> bytes:
    """Returns the content of plan.json."""
    return json.dumps(asdict(plan), indent=1).encode()


def file_name(token: str, first_shard: int) -> str:
    """Returns the name of the file that holds the photos of `SHARDS_PER_FILE` shards."""
    return f"plan/photos-{first_shard:05d}-{token}.parquet"
