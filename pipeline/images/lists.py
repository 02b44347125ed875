"""Lists of URIs: a text file with one per line, or a Parquet file with a column of them.

In a text list, empty lines and lines that begin with # say nothing; write ./#1.jpg for a file of such a name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.images.sniff import HEAD
from pipeline.images.walk import Found, Notes
from pipeline.redact import shown_uri
from pipeline.storage.places import is_url, local_path, local_uri

MAX_LINE = 1 << 16
"""Bytes of the longest line of a text list."""

COLUMNS = ("uri", "url", "path")
"""Columns of a Parquet list that may hold the URIs, the first that is there is taken."""

EMPTY_ROW = "rows of the list without a URI left out"


def read_list(opener: Callable[[], BinaryIO], name: str, notes: Notes) -> Iterator[Found]:
    """Yields the entries of a list. That it is one is checked at once, the entries are read as they are used.

    Args:
        opener: Opens the list.
        name: Absolute path or URL of the list; relative entries are relative to its folder.
        notes: Takes what is left out.

    Raises:
        InputError: It is no list.
    """
    with opener() as file:
        head = file.read(HEAD)
        if head.startswith(b"PAR1"):
            column = _uri_column(pq.ParquetFile(file).schema_arrow, name)
            entries = _parquet_entries(opener, column)
        elif b"\0" in head:
            raise InputError(f"The list {shown_uri(name)} is neither text nor Parquet.")
        else:
            entries = _text_entries(opener, name)
    return _resolve(entries, name.rpartition("/")[0], notes)


def _text_entries(opener: Callable[[], BinaryIO], name: str) -> Iterator[str | None]:
    with opener() as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE:
                raise InputError(
                    f"Line {number} of the list {shown_uri(name)} is too long for a path or a URL."
                )
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            line = line.rstrip(b"\r\n")
            if line.strip() and not line.startswith(b"#"):
                yield os.fsdecode(line)


def _uri_column(schema: pa.Schema, name: str) -> str:
    column = next((column for column in COLUMNS if column in schema.names), None)
    if column is None:
        raise InputError(f"The list {shown_uri(name)} has none of the columns {', '.join(COLUMNS)}.")
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InputError(f"The column {column} of the list {shown_uri(name)} holds {kind}, not text.")
    return column


def _parquet_entries(opener: Callable[[], BinaryIO], column: str) -> Iterator[str | None]:
    with opener() as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=8192, columns=[column]):
            yield from (entry or None for entry in batch.column(0).to_pylist())


def _resolve(entries: Iterator[str | None], folder: str, notes: Notes) -> Iterator[Found]:
    for row, entry in enumerate(entries):
        if entry is None:
            notes.add(EMPTY_ROW, f"row {row}")
            continue
        uri = entry if is_url(entry) or os.path.isabs(entry) else f"{folder}/{entry}"
        path = local_path(uri)
        # A remote URL with bytes that are not UTF-8 leads nowhere; its row will say so.
        yield Found(uri.encode("utf-8", "replace").decode() if path is None else local_uri(path))
