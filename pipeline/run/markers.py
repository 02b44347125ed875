"""Commit markers: what of a run's output counts.

When all files of a shard are written, and at the very last, its marker _done/00042.json is. Only the marker
makes a shard exist: readers and resuming runs look at markers alone, and a shard without one is simply done
again, under the same names.
"""

import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import OutputError
from pipeline.run.counts import Counts
from pipeline.storage.store import Store

DONE = "_done"

DAMAGE = (ValueError, KeyError, TypeError, AttributeError)
"""What comes of reading a marker that is none."""


@dataclass(frozen=True)
class WrittenFile:
    """A file of a committed shard."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Marker:
    """Content of a commit marker.

    Attributes:
        shard: Number of the shard.
        counts: What its records add up to.
        files: Its files, but for loose ones.
        session: The session that committed it.
        committed: When, as an ISO time in UTC; empty in old markers.
    """

    shard: int
    counts: Counts
    files: list[WrittenFile]
    session: str
    committed: str = field(default="", compare=False)


def records_name(shard: int) -> str:
    """Returns the name of a shard's records in the run folder."""
    return f"records/shard-{shard:05d}.parquet"


def tar_name(shard: int) -> str:
    """Returns the name of the tar of what a shard's records hold as files."""
    return f"files/shard-{shard:05d}.tar"


def index_name(shard: int) -> str:
    """Returns the name of the list of a shard's files: which photo each is of."""
    return f"files/shard-{shard:05d}.csv"


def files_folder(shard: int) -> str:
    """Returns the name of the folder of a shard's loose files."""
    return f"files/shard-{shard:05d}"


def shard_files(shard: int, beside: str) -> list[str]:
    """Returns the names of a shard's files, but for loose ones.

    Args:
        shard: Number of the shard.
        beside: What lies beside the records; see `pipeline.run.config.OutputConfig`.
    """
    names = {"none": [], "folder": [index_name(shard)], "tar": [index_name(shard), tar_name(shard)]}
    return [records_name(shard), *names[beside]]


def marker_name(shard: int) -> str:
    """Returns the name of a shard's marker."""
    return f"{DONE}/{shard:05d}.json"


def committed_shards(store: Store) -> set[int]:
    """Returns the numbers of the shards that are done, by listing the markers once."""
    # Only names that `marker_name` gives: 1.json is not the marker of shard 1.
    numbers = (re.fullmatch(r"(\d{5}|[1-9]\d{5,})\.json", name, re.ASCII) for name in store.names(DONE))
    return {int(found[1]) for found in numbers if found}


def read_markers(store: Store, shards: set[int]) -> list[Marker]:
    """Returns the markers of committed shards, in order.

    Raises:
        OutputError: A marker is missing or damaged.
    """
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda shard: read_marker(store, shard), sorted(shards)))


def read_marker(store: Store, shard: int) -> Marker:
    """Returns the marker of a committed shard.

    Raises:
        OutputError: It is missing or damaged.
    """
    try:
        return _load(store.read(marker_name(shard)))
    except (FileNotFoundError, *DAMAGE) as error:
        raise OutputError(
            f"The marker {store.place(marker_name(shard))} is damaged ({error}): delete it, and its shard is "
            "done again."
        ) from error


def find_marker(store: Store, shard: int) -> Marker | None:
    """Returns the marker of a shard, None where there is none or a damaged one."""
    try:
        return _load(store.read(marker_name(shard)))
    except (FileNotFoundError, *DAMAGE):
        return None


def write_marker(store: Store, marker: Marker) -> None:
    """Writes the marker of a shard, which commits it."""
    store.write(marker_name(marker.shard), _dump(marker))


def add_up(markers: Iterable[Marker]) -> Counts:
    """Returns what some committed shards add up to."""
    counts = Counts()
    for marker in markers:
        counts += marker.counts
    return counts


def check_files(store: Store, markers: Sequence[Marker]) -> None:
    """Checks, by listing their folders once, that the files of committed shards are there and not cut short.

    Raises:
        OutputError: One is not; the message says what to do.
    """
    folders = {file.name.rpartition("/")[0] for marker in markers for file in marker.files}
    sizes = {
        f"{folder}/{name}": size for folder in folders for name, size in file_sizes(store, folder).items()
    }
    for marker in markers:
        for file in marker.files:
            size = sizes.get(file.name)
            if size != file.size:
                fault = "is missing" if size is None else f"has {size:,} of {file.size:,} bytes"
                raise unsound(store, marker.shard, f"{file.name} {fault}")


def file_sizes(store: Store, folder: str) -> dict[str, int]:
    """Returns name -> bytes of what is in a folder; empty when there is none.

    Raises:
        OutputError: The folder cannot be listed.
    """
    if not store.names(folder):  # also for its errors: what follows lists the same once more
        return {}
    entries = store.filesystem.ls(store.path(folder), detail=True)
    return {entry["name"].rstrip("/").rpartition("/")[2]: entry["size"] for entry in entries}


def unsound(store: Store, shard: int, reason: object) -> OutputError:
    """Returns the error of a committed shard that is not what it must be."""
    return OutputError(
        f"Shard {shard} of {store.url} cannot be used ({reason}): clear it with `facet validate --repair`, "
        "and do it again with the command of the run."
    )


def _load(content: bytes) -> Marker:
    values = json.loads(content)
    files = [WrittenFile(**file) for file in values["files"]]
    counts = Counts.from_json(values["counts"])
    return Marker(values["shard"], counts, files, values["session"], values.get("committed", ""))


def _dump(marker: Marker) -> bytes:
    values: dict[str, Any] = {
        "shard": marker.shard,
        "session": marker.session,
        "committed": marker.committed,
        "counts": marker.counts.to_json(),
        "files": [vars(file) for file in marker.files],
    }
    return json.dumps(values, indent=1).encode()
