"""The photos of an input: a file, a folder, a glob or a list of URIs, local or remote, each with a stable id.

    photos/                    every file below a folder whose name does not say that it is no photo
    photo.jpg                  one photo
    'photos/2024-*/**/*.jpg'   the files that match
    list.txt, list.parquet     the URIs in a list; see `pipeline.images.lists`
    parts/, 'parts/*.csv'      lists, where there is nothing else
    s3://bucket/prefix         all of these also as a URL that fsspec knows

Hidden files and folders, whose names begin with a dot, are left out. Relative paths in a list are relative
to the list's own folder. What a list names gets a row, whatever its name.
"""

import functools
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence

from pipeline.errors import InputError, ReadError
from pipeline.images.ids import SeenIds, image_id
from pipeline.images.items import ListedFile
from pipeline.images.lists import WHAT_LISTS_ARE, Opener, read_list
from pipeline.images.names import TABLES, is_list_name, is_other_name, is_photo_name, matcher
from pipeline.images.read import ReadConfig, read_bytes
from pipeline.images.sniff import HEAD, describe_content, sniff_format
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

MAX_PARTS = 100_000
"""Parts of a list in a folder."""

MAX_WEB_LIST = 1 << 30
"""Bytes of the largest list that is read from a web server, into memory."""

DUPLICATE = "repeated entries of the list left out"
NOT_PHOTOS = "files that are no photos by their names left out"
NOT_ASKED_FOR = "files left out by --include and --exclude"


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
                    yield ListedFile(image_id(digest), found.uri, found.size, found.etag, found.subject)
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


def list_input(
    source: str,
    storage: StorageConfig | None = None,
    skip: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Listing:
    """Prepares the listing of an input; that it exists is checked at once.

    Args:
        source: See the top of this module.
        storage: How remote storage is reached.
        skip: A folder to leave out: the output, should it lie within the input.
        include: Patterns; if there are any, only files that match one of them are taken, whatever their
            names say. See `pipeline.images.names.matcher`.
        exclude: Patterns of files that are left out.

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
            found = _find_local(path, notes, skip and local_path(skip), bool(include))
        elif scheme(source) in ("http", "https"):
            found = _find_web(source, storage, notes)
        else:
            skip = open_filesystem(skip, storage)[1] if skip and scheme(skip) == scheme(source) else None
            found = _find_remote(source, storage, notes, skip, bool(include))
    except InputError:
        raise
    except ReadError as error:
        raise InputError(f"Cannot read the input {shown_uri(source)}: {error.message}") from error
    except Exception as error:
        raise InputError(f"Cannot read the input {shown_uri(source)}: {explain(error)[1]}") from error
    if include or exclude:
        found = _asked_for(found, source if path is None else path, notes, include, exclude)
    return Listing(source, found, notes)


def _asked_for(
    files: Iterator[Found], root: str, notes: Notes, include: Sequence[str], exclude: Sequence[str]
) -> Iterator[Found]:
    wanted, unwanted = matcher(include), matcher(exclude)
    if has_wildcard(root):
        root = split_glob(root)[0]
    for found in files:
        path = (local_path(found.uri) or found.uri).removeprefix(root).lstrip("/")
        if (include and not wanted(path)) or unwanted(path):
            notes.add(NOT_ASKED_FOR, found.uri)
        else:
            yield found


def _photos(
    files: Iterator[Found], opener: Callable[[str], Opener], notes: Notes, any_name: bool
) -> Iterator[Found]:
    """Leaves out what is no photo by its name; a folder of nothing but lists is the photos in them."""
    if any_name:
        yield from files
        return
    lists: list[str] = []
    photos = False
    for found in files:
        if not is_other_name(found.uri):
            photos = True
            yield found
        elif not photos and is_list_name(found.uri, TABLES) and len(lists) < MAX_PARTS:
            lists.append(found.uri)
        else:
            notes.add(NOT_PHOTOS, found.uri)
    for uri in lists:
        if photos:
            notes.add(NOT_PHOTOS, uri)
        else:
            yield from read_list(opener(uri), local_path(uri) or uri, notes)


def _find_local(path: str, notes: Notes, skip: str | None, any_name: bool) -> Iterator[Found]:
    def opener(uri: str) -> Opener:
        return lambda: open(str(local_path(uri)), "rb")

    if has_wildcard(path) and not os.path.lexists(path):
        folder, pattern = split_glob(path)
        os.listdir(folder or "/")
        depth = None if "**" in pattern else len(pattern) - 1
        files = walk_local(folder or "/", notes, skip, depth)
        matching = _matching(files, lambda found: str(local_path(found.uri)), folder, pattern)
        return _photos(matching, opener, notes, any_name)
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        os.listdir(path)  # what is only a note further down is an error here
        return _photos(walk_local(path, notes, skip), opener, notes, any_name)
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"The input {path} is neither a file nor a folder.")
    found = Found(local_uri(path), status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}")
    return _photo_or_list(found, path, opener(path), notes)


def _find_web(url: str, storage: StorageConfig, notes: Notes) -> Iterator[Found]:
    config = ReadConfig(storage=storage, max_bytes=MAX_WEB_LIST)
    content = functools.cache(lambda: read_bytes(url, config))
    address = url.partition("?")[0]  # a query may hold slashes, and secrets
    if not is_list_name(address):
        return iter([Found(url)])
    return _photo_or_list(Found(url), address, lambda: io.BytesIO(content()), notes)


def _find_remote(
    url: str, storage: StorageConfig, notes: Notes, skip: str | None, any_name: bool
) -> Iterator[Found]:
    filesystem, path = open_filesystem(url, storage)

    def opener(uri: str) -> Opener:
        return lambda: open_remote(uri, storage)

    if has_wildcard(path) and not filesystem.exists(path):
        folder, pattern = split_glob(path)
        if not folder.strip("/"):
            raise InputError(f"The input {shown_uri(url)} has wildcards in the name of the bucket.")
        files = walk_remote(filesystem, folder, notes, skip, literal_stem(pattern[0]))
        matching = _matching(files, lambda found: filesystem._strip_protocol(found.uri), folder, pattern)
        return _photos(matching, opener, notes, any_name)
    try:
        info = filesystem.info(path)
    except FileNotFoundError:
        bucket = path.partition("/")[0]
        if filesystem.exists(bucket):
            raise
        raise InputError(f"Cannot read the input {shown_uri(url)}: There is no bucket {bucket!r}.") from None
    if info["type"] == "directory" or url.endswith("/"):  # S3 may have an object and a folder of one name
        return _photos(walk_remote(filesystem, path, notes, skip), opener, notes, any_name)
    return _photo_or_list(Found(url, info.get("size"), etag_of(info)), url, opener(url), notes)


def _matching(
    files: Iterator[Found], path_of: Callable[[Found], str], folder: str, pattern: list[str]
) -> Iterator[Found]:
    start = len(folder) + 1
    return (found for found in files if matches_glob(path_of(found)[start:].split("/"), pattern))


def _photo_or_list(found: Found, name: str, opener: Opener, notes: Notes) -> Iterator[Found]:
    """Takes a single file as what it is; one that is neither is a mistake of the command.

    Raises:
        InputError: It is neither a photo nor a list.
    """
    if is_photo_name(name):  # if its content is none, its row says so
        return iter([found])
    with opener() as file:
        head = file.read(HEAD)
    if sniff_format(head):
        return iter([found])
    if is_list_name(name) or head.startswith(b"PAR1"):
        return read_list(opener, name, notes)
    content = describe_content(head) if head else "an empty file"
    raise InputError(
        f"The input {shown_uri(found.uri)} is neither a photo nor a list, but {content}. {WHAT_LISTS_ARE}."
    )
