"""Runs of `facet normals`, and the parts of one, as tests make them."""

from __future__ import annotations

from typing import Any

from pipeline.recipes.face_record import FORMAT
from pipeline.recipes.normals import RECIPE, NormalsOutput, NormalsRun
from pipeline.run import job, logs, records
from pipeline.run.counts import Counts, count
from pipeline.run.folder import RunRequest
from pipeline.run.plan import Plan
from pipeline.run.shards import write_part
from pipeline.run.work import Work
from pipeline.storage.store import Store


def run_normals(
    source: str, output: str, config: NormalsRun, *, limit=None, on_existing="resume", say=logs.say
) -> job.Result:
    """Carries a run out."""
    return job.run(RunRequest(RECIPE, source, output, config, limit), on_existing, say)


def work_in(
    store: Store,
    session: str = "s",
    *,
    chunks: int = 2,
    files: str = "none",
    codes: frozenset[str] = frozenset(),
) -> Work:
    """Returns a run of many shards of so many chunks of 2 photos each."""
    images = 100 * 2 * chunks
    plan = Plan(images, images, 0, shard_size=2 * chunks, chunk_size=2, digest="")
    config = NormalsRun(output=NormalsOutput(files=files))
    return Work(store, session, plan, RECIPE, config, codes)


def write_rows(work: Work, shard: int, chunk: int, rows: list[dict[str, Any]]) -> None:
    """Writes some records as the part of a shard."""
    write_part(work, shard, chunk, records.to_table(rows, FORMAT))


def count_rows(rows: list[dict[str, Any]], bytes_read: int = 0, seconds=None) -> Counts:
    """Adds up records."""
    return count(rows, FORMAT.things, None, bytes_read, seconds)
