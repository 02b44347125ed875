"""The heads of a run as files: a folder for each face."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.parquet as pq

from pipeline.details.export import Part, Space, export_head
from pipeline.details.kit import head_kit
from pipeline.recipes.head_record import pictures_of, read_head
from pipeline.recipes.person_record import photo_rows
from pipeline.redact import shown_uri
from pipeline.run.counts import OK
from pipeline.run.markers import committed_shards, records_name
from pipeline.run.state import read_state
from pipeline.storage.store import Store

LONGEST_NAME = 60
"""Characters of the photo's name in that of a folder."""


def folder_name(uri: str, number: int, face: int | None, person: str | None = None) -> str:
    """Name of a face's folder, safe on any file system: `<photo stem>-<id>-<face>`.

    Args:
        uri: The photo.
        number: Its id.
        face: Index of the face; None where a photo has no more than one.
        person: Where the person's photos are; their name goes before.
    """
    stem = _safe(shown_uri(uri).rstrip("/").rsplit("/", 1)[-1].rsplit(".", 1)[0]) or "photo"
    of_person = f"{_safe(shown_uri(person).rstrip('/').rsplit('/', 1)[-1]) or 'person'}-" if person else ""
    return f"{of_person}{stem}-{number % 2**64:016x}" + ("" if face is None else f"-{face}")


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)[:LONGEST_NAME].strip(".-_")


def export_run(
    run: Store,
    target: Store,
    *,
    formats: Sequence[str] = ("glb",),
    parts: Sequence[Part] = ("proxy",),
    space: Space = "model",
    unit: str = "m",
) -> Iterator[str]:
    """Writes the files of all heads of a run, one folder after the other.

    Args:
        run: Its folder.
        target: Where the heads' folders shall be.
        formats: As for `export_head`.
        parts: As for `export_head`.
        space: As for `export_head`.
        unit: As for `export_head`.

    Yields:
        The name of each folder once it is written.

    Raises:
        OutputError: A folder cannot be read or written.
    """
    state = read_state(run)
    kit = head_kit(level=state["config"]["details"]["level"] if state else 2)
    for row in rows_with_heads(run):
        for face in row["faces"]:
            if face["head"] is None:
                continue
            person = row.get("person")
            name = folder_name(row["uri"], row["id"], None if person else face["index"], person)
            head = read_head(face["head"], row["width"], row["height"], kit)
            pictures = pictures_of(face["head"])
            files = export_head(
                head, pictures, row["uri"], formats=formats, parts=parts, space=space, unit=unit
            )
            for file, content in files.items():
                target.write(f"{name}/{file}", content)
            yield name


def rows_with_heads(run: Store) -> Iterator[dict[str, Any]]:
    """Yields the rows of a run's records that have heads, one at a time; people's photo by photo."""
    columns = ["id", "uri", "width", "height", "status", "photos", "faces"]
    for shard in sorted(committed_shards(run)):
        with run.open(records_name(shard)) as file:
            for batch in pq.ParquetFile(file).iter_batches(1, columns=columns):
                (row,) = batch.to_pylist()
                if row["status"] == OK:
                    yield from photo_rows(row) if "photos" in row else [row]
