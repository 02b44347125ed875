"""The photos of an input: a file, a folder, a glob or a list of URIs, local or remote, each with a stable id.

    photos/                    every file below a folder, whatever its name: the type is told by the content
    photo.jpg                  one photo
    'photos/2024-*/**/*.jpg'   the files that match
    list.txt, list.parquet     the URIs in a list: one per line, or the column uri, url or path
    s3://bucket/prefix         all of these also as a URL that fsspec knows

Hidden files and folders, whose names begin with a dot, are left out. Relative paths in a list are relative
to the list's own folder.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO

from pipeline.errors import InputError, ReadError
from pipeline.images.ids import SeenIds, image_id
from pipeline.images.items import ListedFile
from pipeline.images.lists import read_list
from pipeline.images.read import ReadConfig, read_bytes
from pipeline.images.sniff import HEAD, sniff_format
from pipeline.images.walk import (
    Found,
    Notes,
    etag_of,
    has_wildcard,
    literal_stem,
    matches_glob,
    split_glob,
    walk_local,
    walk_remote,
)
from pipeline.redact import shown_uri
from pipeline.storage.places import StorageConfig, local_path, local_uri, open_filesystem, scheme
from pipeline.storage.ranges import open_remote
from pipeline.storage.retries import explain

LIST_SUFFIXES = (".txt", ".list", ".lst", ".parquet")
"""A single file with one of these names is a list of URIs, unless its content is an image."""

MAX_WEB_LIST = 1 << 30
"""Bytes of the largest list that is read from a web server, into memory."""

DUPLICATE = "repeated entries of the list left out"


class Listing:
    """Iterates once over the files of an input, in an order that is the same from run to run.

    Memory grows by 16 bytes per file, for finding repeated entries and equal ids.

    Attributes:
        notes: What was left out and why; complete at the end of the iteration.
    """

    def __init__(self, source: str, found: Iterator[Found], notes: Notes):
        self.notes = notes
        self._source = source
        self._found = found

    def __iter__(self) -> Iterator[ListedFile]:
        """Yields the files.

        Raises:
            InputError: The input cannot be listed to its end, or holds nothing.
        """
        seen = SeenIds()
        try:
            for found in self._found:
                digest = hashlib.sha256(found.uri.encode("utf-8")).digest()
                if seen.add(digest, found.uri):
                    yield ListedFile(image_id(digest), found.uri, found.size, found.etag)
                else:
                    self.notes.add(DUPLICATE, found.uri)
        except InputError:
            raise
        except Exception as error:
            # Storage clients raise nearly everything.
            raise InputError(f"Cannot list {shown_uri(self._source)}: {explain(error)[1]}") from error
        if not len(seen):
            left_out = f" ({'; '.join(self.notes.lines())})" if self.notes.counts else ""
            raise InputError(f"There is no photo in {shown_uri(self._source)}{left_out}.")


def list_input(source: str, storage: StorageConfig | None = None, skip: str | None = None) -> Listing:
    """Prepares the listing of an input; that it exists is checked at once.

    Args:
        source: See the top of this module.
        storage: How remote storage is reached.
        skip: A folder to leave out: the output, should it lie within the input.

    Raises:
        InputError: The input does not exist or cannot be reached.
    """
    storage = storage or StorageConfig()
    notes = Notes()
    if not source:
        raise InputError("The input is empty: give a file, a folder, a glob, a list or a URL.")
    try:
        path = local_path(source)
        if path is not None:
            found = _find_local(path, notes, skip and local_path(skip))
        elif scheme(source) in ("http", "https"):
            found = _find_web(source, storage, notes)
        else:
            skip = open_filesystem(skip, storage)[1] if skip and scheme(skip) == scheme(source) else None
            found = _find_remote(source, storage, notes, skip)
    except InputError:
        raise
    except ReadError as error:
        raise InputError(f"Cannot read the input {shown_uri(source)}: {error.message}") from error
    except Exception as error:
        raise InputError(f"Cannot read the input {shown_uri(source)}: {explain(error)[1]}") from error
    return Listing(source, found, notes)


def _find_local(path: str, notes: Notes, skip: str | None) -> Iterator[Found]:
    if has_wildcard(path) and not os.path.lexists(path):
        folder, pattern = split_glob(path)
        os.listdir(folder or "/")
        depth = None if "**" in pattern else len(pattern) - 1
        files = walk_local(folder or "/", notes, skip, depth)
        return _matching(files, lambda found: str(local_path(found.uri)), folder, pattern)
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        os.listdir(path)  # what is only a note further down is an error here
        return walk_local(path, notes, skip)
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"The input {path} is neither a file nor a folder.")

    def opener() -> BinaryIO:
        return open(path, "rb")

    if _is_list(path, opener):
        return read_list(opener, path, notes)
    return iter([Found(local_uri(path), status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}")])


def _find_web(url: str, storage: StorageConfig, notes: Notes) -> Iterator[Found]:
    config = ReadConfig(storage=storage, max_bytes=MAX_WEB_LIST)
    content = functools.cache(lambda: read_bytes(url, config))

    def opener() -> BinaryIO:
        return io.BytesIO(content())

    address = url.partition("?")[0]  # a query may hold slashes, and secrets
    if _is_list(address, opener):
        return read_list(opener, address, notes)
    return iter([Found(url)])


def _find_remote(url: str, storage: StorageConfig, notes: Notes, skip: str | None) -> Iterator[Found]:
    filesystem, path = open_filesystem(url, storage)
    if has_wildcard(path) and not filesystem.exists(path):
        folder, pattern = split_glob(path)
        if not folder.strip("/"):
            raise InputError(f"The input {shown_uri(url)} has wildcards in the name of the bucket.")
        files = walk_remote(filesystem, folder, notes, skip, literal_stem(pattern[0]))
        return _matching(files, lambda found: filesystem._strip_protocol(found.uri), folder, pattern)
    info = filesystem.info(path)
    if info["type"] == "directory" or url.endswith("/"):  # S3 may have an object and a folder of one name
        return walk_remote(filesystem, path, notes, skip)

    def opener() -> BinaryIO:
        return open_remote(url, storage)

    found = Found(url, info.get("size"), etag_of(info))

    return read_list(opener, url, notes) if _is_list(url, opener) else iter([found])


def _matching(
    files: Iterator[Found], path_of: Callable[[Found], str], folder: str, pattern: list[str]
) -> Iterator[Found]:
    start = len(folder) + 1
    return (found for found in files if matches_glob(path_of(found)[start:].split("/"), pattern))


def _is_list(name: str, opener: Callable[[], BinaryIO]) -> bool:
    if not name.lower().endswith(LIST_SUFFIXES):
        return False
    with opener() as file:
        return sniff_format(file.read(HEAD)) is None
