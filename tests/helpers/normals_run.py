"""Runs of `facet normals`, and the parts of one, as tests make them."""

from typing import Any

from pipeline.errors import ReadError
from pipeline.images.items import ListedFile, ListedItem
from pipeline.recipes.face_record import FORMAT
from pipeline.recipes.normals import RECIPE, NormalsOutputConfig, NormalsRun
from pipeline.run import folder, job, logs, records
from pipeline.run.counts import Counts
from pipeline.run.folder import RunRequest
from pipeline.run.items import Chunk, Item, Photo
from pipeline.run.plan import Plan
from pipeline.run.records import count
from pipeline.run.shards import write_part
from pipeline.run.work import Work
from pipeline.storage.store import Store


def run_normals(
    source: str,
    output: str | Store,
    config: NormalsRun,
    *,
    limit=None,
    on_existing="resume",
    say=logs.say,
    watch=None,
) -> job.Result:
    """Carries a run out."""
    request = RunRequest(RECIPE, source, output, config, limit)
    return job.run(request, on_existing, say=say, watch=watch)


def make_plan(
    source: str, output: str | Store, config: NormalsRun, *, limit=None, **options
) -> folder.Planned:
    """Plans a run."""
    return folder.make_plan(RunRequest(RECIPE, source, output, config, limit), **options)


def work_in(
    store: Store,
    session: str = "s",
    *,
    chunks: int = 2,
    files: str = "none",
    codes: frozenset[str] = frozenset(),
    config: NormalsRun | None = None,
) -> Work:
    """Returns a run of many shards of so many chunks of 2 photos each."""
    images = 10**6 * chunks
    plan = Plan(images, images, 0, shard_size=2 * chunks, chunk_size=2, digest="")
    config = config or NormalsRun(output=NormalsOutputConfig(files=files))
    return Work(store, session, plan, RECIPE, config, codes)


def write_rows(work: Work, shard: int, chunk: int, rows: list[dict[str, Any]]) -> None:
    """Writes some records as the part of a shard."""
    write_part(work, shard, chunk, records.to_table(rows, FORMAT))


def chunk_of(*contents: bytes | ReadError | None) -> Chunk:
    """Returns a chunk of photos that were read, or not; their ids count from 10 on."""
    items = []
    for index, content in enumerate(contents):
        file = ListedFile(10 + index, f"/{index}.png")
        photo = Photo(file, error=content) if isinstance(content, ReadError) else Photo(file, content)
        items.append(Item(records.new_record(FORMAT, ListedItem(file.id, file.uri, (file,))), [photo]))
    return Chunk(0, 0, items)


def count_rows(rows: list[dict[str, Any]], bytes_read: int = 0, seconds=None) -> Counts:
    """Adds up records."""
    return count(rows, FORMAT.things, None, bytes_read, seconds)
