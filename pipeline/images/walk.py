"""Files below a folder, local or remote, in a stable order and without holding them all in memory."""

import fnmatch
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fsspec.asyn import sync

from pipeline.images.names import is_hidden_name
from pipeline.redact import redact, shown_uri
from pipeline.storage.places import local_uri
from pipeline.storage.retries import explain

EXAMPLES = 3
"""Examples kept for each kind of note."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that a listing shows.

    Attributes:
        uri: Absolute path or URL.
        size: Bytes, None where the listing does not tell.
        etag: Changes when the content does; None where the listing does not tell.
        subject: Whom it shows, where a list tells.
    """

    uri: str
    size: int | None = None
    etag: str | None = None
    subject: str | None = None


@dataclass
class Notes:
    """What a listing left out and why: counts and a few examples per reason, whatever the size."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        """Counts one more entry that was left out."""
        self.counts[reason] += 1
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES:
            kept.append(redact(shown_uri(example)))

    def lines(self) -> list[str]:
        """Returns one line per reason, with examples; names from outside are quoted and escaped."""
        return [
            f"{reason}: {count:,} ({', '.join(ascii(example) for example in self.examples[reason])}"
            + (", ...)" if count > len(self.examples[reason]) else ")")
            for reason, count in self.counts.items()
        ]


HIDDEN = "hidden entries left out"
UNREADABLE = "folders that cannot be listed"
SPECIAL = "pipes, sockets and devices left out"
LISTED_ALREADY = "links to folders that are listed already, left out"


def walk_local(root: str, notes: Notes, skip: str | None = None, depth: int | None = None) -> Iterator[Found]:
    """Yields the files below a local folder.

    In the order of names, a folder's files before its subfolders. Links to files are followed, and links
    to folders after everything else; every real folder is listed once, so that loops end. A dangling link
    is a file: that it cannot be read is for its row to say.
    """
    skip = skip and os.path.realpath(skip)
    seen: set[tuple[int, int]] = set()
    pending = [(root, 0)]
    links: list[tuple[str, int]] = []
    while pending or links:
        if not pending:
            links.sort(reverse=True)
            pending.append(links.pop())
        folder, level = pending.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                notes.add(LISTED_ALREADY, folder)
                continue
            seen.add((status.st_dev, status.st_ino))
            names = sorted(os.listdir(folder))
        except OSError as error:
            notes.add(UNREADABLE, f"{folder} ({error.strerror})")
            continue
        folders: list[tuple[str, int]] = []
        for name in names:
            path = os.path.join(folder, name)
            if is_hidden_name(name):
                notes.add(HIDDEN, path)
                continue
            try:
                status = os.stat(path)
            except OSError:  # a dangling link, a circle of links, or removed meanwhile
                yield Found(local_uri(path))
                continue
            if stat.S_ISREG(status.st_mode):
                yield Found(local_uri(path), status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}")
            elif not stat.S_ISDIR(status.st_mode):
                notes.add(SPECIAL, path)
            elif level != depth and (skip is None or os.path.realpath(path) != skip):
                (links if os.path.islink(path) else folders).append((path, level + 1))
        pending += reversed(folders)


def walk_remote(
    filesystem: Any, root: str, notes: Notes, skip: str | None = None, stem: str = ""
) -> Iterator[Found]:
    """Yields the objects below a remote folder: S3 page by page in the order of keys, others by folder.

    S3 lists no names but those that begin with `stem`; other file systems may.
    """
    root = root.rstrip("/")
    by_pages = hasattr(filesystem, "_iterdir")  # s3fs; its find() would hold a whole bucket in memory
    for info in _s3_objects(filesystem, root, stem) if by_pages else _by_folder(filesystem, root, notes):
        name = str(info["name"])
        if name.endswith("/") or (skip is not None and name.startswith(f"{skip}/")):
            continue  # an empty object that stands for a folder, or the output
        url = filesystem.unstrip_protocol(name)
        if any(map(is_hidden_name, name[len(root) :].split("/"))):
            notes.add(HIDDEN, url)
            continue
        yield Found(url, info.get("size"), etag_of(info))


def etag_of(info: dict[str, Any]) -> str | None:
    """Returns the etag that an fsspec file system tells, None where it tells none."""
    etag = info.get("ETag") or info.get("etag")
    return str(etag).strip('"') if etag else None


def _s3_objects(filesystem: Any, root: str, stem: str) -> Iterator[dict[str, Any]]:
    bucket, _, prefix = root.partition("/")
    objects = filesystem._iterdir(bucket, delimiter="", prefix=(f"{prefix}/" if prefix else "") + stem)

    async def next_page() -> list[dict[str, Any]]:
        page: list[dict[str, Any]] = []
        async for item in objects:
            page.append(item)
            if len(page) == 1000:
                break
        return page

    while page := sync(filesystem.loop, next_page):
        yield from page


def _by_folder(filesystem: Any, root: str, notes: Notes) -> Iterator[dict[str, Any]]:
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(filesystem.ls(folder, detail=True), key=lambda info: str(info["name"]))
        except Exception as error:
            if folder == root:
                raise
            notes.add(UNREADABLE, f"{folder} ({explain(error)[1]})")
            continue
        # Some file systems list a folder within itself.
        entries = [info for info in entries if str(info["name"]).rstrip("/") != folder]
        yield from (info for info in entries if info["type"] != "directory")
        folders = [str(info["name"]).rstrip("/") for info in entries if info["type"] == "directory"]
        pending += reversed(folders)


_WILDCARD = re.compile(r"[*?\[]")


def has_wildcard(path: str) -> bool:
    """Whether a path holds *, ? or [."""
    return _WILDCARD.search(path) is not None


def split_glob(path: str) -> tuple[str, list[str]]:
    """Splits a path with wildcards into the folder before the first of them, and the names that follow."""
    names = path.split("/")
    first = next(index for index, name in enumerate(names) if has_wildcard(name))
    return "/".join(names[:first]), names[first:]


def literal_stem(pattern: str) -> str:
    """Returns what a name with wildcards begins with, whatever they stand for."""
    return _WILDCARD.split(pattern, maxsplit=1)[0]


def matches_glob(names: list[str], pattern: list[str]) -> bool:
    """Whether the names of a path match those of a pattern.

    `*`, `?` and `[...]` stay within one name; `**` as a whole name stands for any number of folders.
    """
    if not names or not pattern:
        return not names and not pattern
    if pattern[0] == "**":
        rest = pattern[1:] or ["*"]
        return any(matches_glob(names[start:], rest) for start in range(len(names)))
    return fnmatch.fnmatchcase(names[0], pattern[0]) and matches_glob(names[1:], pattern[1:])
