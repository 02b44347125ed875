"""Lists of URIs: text with one per line, or a table with a column of them: CSV, TSV, JSON or Parquet.

Any of them may be compressed by gzip. Text is UTF-8, or what its byte order mark says. In a list of lines,
empty ones and those that begin with # say nothing; write ./#1.jpg for a file of such a name.
"""

import codecs
import gzip
import io
import os
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from pipeline.errors import InputError
from pipeline.images.names import is_list_name
from pipeline.images.sniff import HEAD, known_content
from pipeline.images.tables import (
    JSON,
    Entry,
    TextOpener,
    json_entries,
    parquet_entries,
    parse_json,
    table_entries,
    uri_column,
)
from pipeline.images.walk import Found, Notes
from pipeline.redact import shown_uri
from pipeline.storage.places import is_url, local_path, local_uri

MAX_LINE = 1 << 16
"""Characters of the longest line of a text list."""

WHAT_LISTS_ARE = (
    "A list is text with one path or URL per line, CSV, TSV, JSON, JSON lines or Parquet with a column "
    "url, uri or path; its name ends in .txt, .csv, .tsv, .json, .jsonl or .parquet"
)

EMPTY_ROW = "rows of the list without a URI left out"

Opener = Callable[[], BinaryIO]


def read_list(opener: Opener, name: str, notes: Notes) -> Iterator[Found]:
    """Yields the entries of a list. That it is one is checked at once, the entries are read as they are used.

    Relative entries are relative to the list's folder.

    Raises:
        InputError: It is no list.
    """
    shown = shown_uri(name)
    with opener() as file:
        head = file.read(HEAD)
    if head.startswith(b"\x1f\x8b"):
        return read_list(lambda: cast(BinaryIO, _Unzipped(opener())), name.removesuffix(".gz"), notes)
    if head.startswith(b"PAR1"):
        entries = parquet_entries(opener, shown)
    elif other := known_content(head):
        raise InputError(f"The list {shown} is {other}. {WHAT_LISTS_ARE}.")
    else:
        encoding = _encoding(head, shown)
        entries = _text_entries(lambda: _text(opener, encoding), name, shown)
    return _resolve(entries, name.rpartition("/")[0], notes)


class _Unzipped(gzip.GzipFile):
    """Closes the compressed file, too."""

    def __init__(self, compressed: BinaryIO):
        super().__init__(fileobj=compressed)
        self._compressed = compressed

    def close(self) -> None:
        super().close()
        self._compressed.close()


def _encoding(head: bytes, shown: str) -> str:
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        half = "; UTF-16 needs a byte order mark" if b"\0" in (head[1:2], head[:1]) else ""
        raise InputError(f"The list {shown} is neither text nor Parquet{half}.")
    return "utf-8-sig"


def _text(opener: Opener, encoding: str) -> io.TextIOWrapper:
    # File names need not be UTF-8: surrogates stand for other bytes, as everywhere in Python.
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    return io.TextIOWrapper(opener(), encoding, errors, newline="")


def _text_entries(opener: TextOpener, name: str, shown: str) -> Iterator[Entry]:
    """Tells by the first line, more than by the name, what kind of text it is."""
    with opener() as file:
        first = ""
        while not first.strip() and (line := file.readline(MAX_LINE)):
            first = line
    first = first.strip()
    is_json = is_list_name(name, JSON)
    if first and (
        is_json or first in "[{" or (first[0] in "[{" and isinstance(parse_json(first), dict | list))
    ):
        return json_entries(opener, name, first, shown)
    columns = first.split("\t")
    if is_list_name(name, (".csv", ".tsv")) or (len(columns) > 1 and uri_column(columns) is not None):
        return table_entries(opener, shown)
    return _line_entries(opener, shown)


def _line_entries(opener: TextOpener, shown: str) -> Iterator[Entry]:
    with opener() as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE:
                raise InputError(f"Line {number} of the list {shown} is too long for a path or a URL.")
            line = line.rstrip("\r\n")
            if line.strip() and not line.startswith("#"):
                # Windows copies paths with quotation marks.
                yield line[1:-1] if len(line) > 2 and line[0] == line[-1] == '"' else line, None


def _resolve(entries: Iterator[Entry], folder: str, notes: Notes) -> Iterator[Found]:
    for row, (entry, subject) in enumerate(entries):
        if entry is None:
            notes.add(EMPTY_ROW, f"row {row}")
            continue
        uri = entry if is_url(entry) or os.path.isabs(entry) else f"{folder}/{entry}"
        path = local_path(uri)
        # A remote URL with bytes that are not UTF-8 leads nowhere; its row will say so.
        there = uri.encode("utf-8", "replace").decode() if path is None else local_uri(path)
        yield Found(there, subject=subject)
