"""The stages of a run, each a callable from message to message over one chunk of items.

    (shard, chunk) -> Read -> Chunk -> the recipe's stages -> Chunk -> Write -> Written

Both engines run these and nothing else. Every item that goes in comes out as one record: what goes wrong
with one item becomes its record, whatever it is. Only encoded bytes and small arrays travel between stages,
never whole decoded photos.
"""

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import INTERNAL_ERROR, FacetError, ImageError, ReadError
from pipeline.images.items import ListedItem
from pipeline.images.read import PhotoReader, read_bytes
from pipeline.redact import shown_uri
from pipeline.run import records
from pipeline.run.config import RunConfig
from pipeline.run.counts import OK, Counts
from pipeline.run.isolate import Isolated
from pipeline.run.items import LEFT_OUT, Chunk, Item, Photo
from pipeline.run.plan_photos import chunk_items
from pipeline.run.recipe import Recipe
from pipeline.run.shards import committed_codes, write_part
from pipeline.run.work import Work

log = logging.getLogger(__name__)

CARRIED_BYTES = 256 << 20
"""Photos of a chunk that are read ahead. Chunks of larger files are rare; what is over the limit is read by
the recipe's first stage, one item at a time."""


@dataclass
class Written:
    """A chunk whose records are written."""

    shard: int
    chunk: int
    counts: Counts


class ReadStage:
    """Begins the records of a chunk's items and fetches the bytes of their photos."""

    def __init__(self, work: Work):
        self._work = work
        self._reader = PhotoReader(work.config.read)

    def __call__(self, shard: int, chunk: int) -> Chunk:
        """Reads the photos of one chunk."""
        return self.read(shard, chunk, begin_items(self._work, shard, chunk))

    def read(self, shard: int, chunk: int, items: list[Item]) -> Chunk:
        """Makes a chunk of items, with their photos."""
        started = time.perf_counter()
        photos = [photo for item in items for photo in item.photos if photo.error is None]
        carried = np.cumsum([photo.file.size or 0 for photo in photos]) <= CARRIED_BYTES
        ahead = [photo for photo, now in zip(photos, carried, strict=True) if now]
        found = self._reader.up_to(CARRIED_BYTES, [photo.file.uri for photo in ahead])
        for photo, content in zip(ahead, found, strict=True):
            _set_content(photo, content)
        return Chunk(shard, chunk, items, seconds={"read": time.perf_counter() - started})


def begin_items(work: Work, shard: int, chunk: int) -> list[Item]:
    """Returns the items of a chunk that are to be worked on, with records that tell nothing yet."""
    planned = chunk_items(work.store, work.plan, shard, chunk)
    if work.codes:
        codes = committed_codes(work.store, work.session, shard)
        planned = [item for item in planned if codes.get(item.id) in work.codes]
    return [begin_item(work.recipe, item) for item in planned]


def begin_item(recipe: Recipe, item: ListedItem) -> Item:
    """Returns a planned item with a record that tells nothing yet."""
    photos = [Photo(file) for file in item.photos]
    if recipe.most_photos is not None and len(photos) > recipe.most_photos:
        kept = np.linspace(0, len(photos) - 1, recipe.most_photos).round().astype(int).tolist()
        for k in set(range(len(photos))) - set(kept):
            photos[k].error = ReadError(f"of so many photos {recipe.most_photos} are read", LEFT_OUT)
    return Item(records.new_record(recipe.record, item), photos)


class RecipeStage:
    """One stage of a recipe."""

    def __init__(self, work: Work, index: int, arguments: tuple[Any, ...] | None = None):
        recipe, config = work.recipe, work.config
        stage = recipe.stages[index]
        self._stage = stage
        self._things = recipe.record.things
        self._opener = _Opener(recipe, config) if index == 0 else None
        if arguments is None:
            arguments = stage.arguments(config)
        self._run: Any = (
            Isolated(stage, arguments, config.limits) if stage.isolated else stage.make(*arguments)
        )

    def close(self) -> None:
        """Ends a child process, which else ends with this object or this process."""
        if isinstance(self._run, Isolated):
            self._run.close()

    def __call__(self, chunk: Chunk) -> Chunk:
        """Takes the items of a chunk that are still open through the stage."""
        started = time.perf_counter()
        if self._stage.place == "network":
            if items := [item for item in self._open_items(chunk) if item.is_open]:
                self._run_together(items)
        else:
            for item in self._open_items(chunk):
                if item.is_open:
                    self._run_guarded(self._run, item)
                drop_photos(item)
        chunk.seconds[self._stage.name] = time.perf_counter() - started
        return chunk

    def _open_items(self, chunk: Chunk) -> Iterator[Item]:
        if self._opener is None:
            yield from chunk.items
            return
        open_item = self._opener.open_in(chunk)
        for item in chunk.items:
            self._run_guarded(open_item, item)
            yield item

    def _run_together(self, items: list[Item]) -> None:
        try:
            self._run(items)
        except FacetError as error:
            if not isinstance(error, ImageError):
                raise
            self._run_one_by_one(items)
        except Exception:
            log.exception("Stage %s failed on %d items; taking one by one.", self._stage.name, len(items))
            self._run_one_by_one(items)
        for item in items:
            drop_photos(item)

    def _run_one_by_one(self, items: list[Item]) -> None:
        for item in items:
            self._run_guarded(lambda one: self._run([one]), item)

    def _run_guarded(self, run: Callable[[Item], None], item: Item) -> None:
        try:
            run(item)
        except Exception as error:
            fail(item, error, self._things)


class _Opener:
    """Sees to it that an item's photos are read, and finds those of the same bytes in one chunk.

    Of items with the same bytes the first of the chunk is worked on. The others are left open, with
    `duplicate_of` set, for the write stage to complete.
    """

    def __init__(self, recipe: Recipe, config: RunConfig):
        self._config = config
        self._joins = recipe.joins(config)

    def open_in(self, chunk: Chunk) -> Callable[[Item], None]:
        """Returns what opens the items of a chunk one after the other."""
        first_ids: dict[str, int] = {}

        def open_item(item: Item) -> None:
            digests = [self._digest(photo) for photo in item.photos]
            chunk.bytes_read += sum(len(photo.data or b"") for photo in item.photos)
            if all(photo.error for photo in item.photos):
                raise item.photos[0].error or ReadError("There is no photo.")
            record = item.record
            joined = "".join(digests).encode()
            record["sha256"] = digests[0] if len(digests) == 1 else hashlib.sha256(joined).hexdigest()
            first = first_ids.setdefault(record["sha256"], record["id"]) if self._joins else record["id"]
            if first != record["id"]:
                record["duplicate_of"] = first

        return open_item

    def _digest(self, photo: Photo) -> str:
        if photo.data is None and photo.error is None:
            try:
                photo.data = read_bytes(photo.file.uri, self._config.read)
            except ReadError as error:
                photo.error = error
        return "" if photo.data is None else hashlib.sha256(photo.data).hexdigest()


def _set_content(photo: Photo, content: bytes | ReadError | None) -> None:
    if isinstance(content, ReadError):
        photo.error = content
    else:
        photo.data = content


def drop_photos(item: Item) -> None:
    """Lets the bytes of an item's photos go: only the first stage sees them."""
    for photo in item.photos:
        photo.data = None


class WriteStage:
    """Completes the records of a chunk and writes them."""

    def __init__(self, work: Work):
        self._work = work

    def __call__(self, chunk: Chunk) -> Written:
        """Writes one part of a shard."""
        table, counts = self.complete(chunk)
        started = time.perf_counter()
        write_part(self._work, chunk.shard, chunk.chunk, table)
        counts.seconds += Counter({"write": time.perf_counter() - started})
        return Written(chunk.shard, chunk.chunk, counts)

    def complete(self, chunk: Chunk) -> tuple[pa.Table, Counts]:
        """Returns the records of a chunk, and what they add up to."""
        started = time.perf_counter()
        work, form = self._work, self._work.recipe.record
        for item in chunk.items:
            if item.is_open:
                try:
                    form.finish(item, work.config)
                    if item.is_open:
                        item.record["status"] = OK
                except Exception as error:
                    fail(item, error, form.things)
        rows = [item.record for item in chunk.items]
        records.complete_duplicates(rows)
        table = records.to_table(rows, form)
        seconds = {**chunk.seconds, "write": time.perf_counter() - started}
        images = sum(len(item.photos) for item in chunk.items)
        return table, records.count(rows, form.things, images, chunk.bytes_read, seconds)


def fail(item: Item, error: Exception, things: str) -> None:
    """Notes in an item's record why it failed.

    Raises:
        FacetError: The error is not about one item but about weights, output, ...: it ends the run.
    """
    if isinstance(error, FacetError) and not isinstance(error, ImageError):
        raise error
    record = item.record
    records.set_failed(record, error, things)
    if record["error_code"] == INTERNAL_ERROR:
        log.error("Photo %d failed unexpectedly: %s", record["id"], shown_uri(record["uri"]), exc_info=error)


Reader = Callable[[Work], ReadStage]
"""Makes the first stage of a run; the benchmark of the engine itself only pretends to read."""


class AllStages:
    """All stages in one process, one after the other.

    Of two threads that call it one reads, or writes, while the other computes.
    """

    def __init__(
        self, work: Work, reader: Reader = ReadStage, arguments: Sequence[tuple[Any, ...]] | None = None
    ):
        self._recipe = work.recipe
        self._read = reader(work)
        self._stages = [
            RecipeStage(work, index, arguments[index] if arguments else None)
            for index in range(len(work.recipe.stages))
        ]
        self._write = WriteStage(work)
        self._computing = threading.Lock()

    def __call__(self, shard: int, chunk: int) -> Written:
        """Takes one chunk through all stages."""
        return self._write(self._compute(self._read(shard, chunk)))

    def work_on(self, items: list[ListedItem]) -> tuple[pa.Table, Counts]:
        """Takes items through all stages but that nothing is written; returns their records."""
        begun = [begin_item(self._recipe, item) for item in items]
        return self._write.complete(self._compute(self._read.read(0, 0, begun)))

    def _compute(self, chunk: Chunk) -> Chunk:
        with self._computing:
            for stage in self._stages:
                chunk = stage(chunk)
        return chunk

    def close(self) -> None:
        """Ends what the stages have started."""
        for stage in self._stages:
            stage.close()
