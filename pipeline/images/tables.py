"""The columns of URIs and of subjects in a table: CSV and the like, JSON, JSON lines, Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.images.names import is_list_name, is_photo_name
from pipeline.storage.places import is_url

MAX_JSON = 1 << 28
"""Characters of the largest JSON document that is read, into memory; JSON lines may go on for ever."""

_COLUMNS = """
    uri url path image_url image_uri image_path img_url img_path photo_url photo_path file_url file_uri
    file_path file_name image img photo file location src"""
COLUMNS = tuple(_COLUMNS.split())
"""Columns that may hold the URIs, whatever their case: the first that is there and holds text is taken."""

JSON_LINES = (".jsonl", ".ndjson")
JSON = (".json", *JSON_LINES)
JSON_LISTS = ("images", "photos", "files", "data", "items", "rows", "records", "entries")
"""Fields of a JSON document that may hold the list."""

SUBJECTS = ("subject", "person", "subject_id", "person_id")
"""Columns that may say whom a photo shows, likewise."""

Entry = tuple[str | None, str | None]
"""URI and subject of a row, as far as it tells."""

TextOpener = Callable[[], io.TextIOWrapper]


def uri_column(names: Sequence[str]) -> int | None:
    """Returns the index of the column that holds the URIs."""
    return _column(names, COLUMNS)


def _column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    plain = [name.strip().lower().replace(" ", "").replace("-", "").replace("_", "") for name in names]
    known = [name.replace("_", "") for name in wanted]
    return next((plain.index(name) for name in known if name in plain), None)


def _no_column(shown: str, names: Sequence[str]) -> InputError:
    there = ", ".join(ascii(name) for name in names[:20])
    return InputError(
        f"The list {shown} has none of the columns {', '.join(COLUMNS[:3])} or the like; it has {there}."
    )


def _is_entry(text: str) -> bool:
    return is_url(text) or is_photo_name(text)


def table_entries(opener: TextOpener, shown: str) -> Iterator[Entry]:
    """Yields the entries of a table of separated values.

    Raises:
        InputError: No column is that of the URIs.
    """
    with opener() as file:
        lines = (line for line in file if line.strip())
        header = next(lines, "")
        if header.lower().startswith("sep="):  # Excel's own
            header = next(lines, "")
        split = {mark: next(csv.reader([header], delimiter=mark), []) for mark in "\t,;|"}
        # A header names the column; without one the first row has a photo in it.
        mark, column = next(
            ((m, c) for m, names in split.items() if (c := uri_column(names)) is not None), (None, None)
        )
        headless = mark is None
        subject = None if mark is None else _column(split[mark], SUBJECTS)
        if mark is None:
            mark, names = max(split.items(), key=lambda item: len(item[1]))
            column = next((index for index, name in enumerate(names) if _is_entry(name.strip())), None)
            if not header:
                return iter(())
            if column is None:
                raise _no_column(shown, names)
    return _table_rows(opener, mark, (column or 0, subject), headless, shown)


def _table_rows(
    opener: TextOpener, mark: str, columns: tuple[int, int | None], headless: bool, shown: str
) -> Iterator[Entry]:
    with opener() as file:
        rows = csv.reader((line for line in file if not line.lower().startswith("sep=")), delimiter=mark)
        try:
            for row in rows:
                if not row:
                    continue
                if not headless:
                    headless = True  # the header is over
                    continue
                uri, subject = (
                    (row[k].strip() if k is not None and k < len(row) else "") or None for k in columns
                )
                yield uri, subject
        except csv.Error as error:
            raise InputError(f"Line {rows.line_num} of the list {shown}: {error}.") from error


def parse_json(text: str) -> Any:
    """Returns the value of a JSON text, None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def json_entries(opener: TextOpener, name: str, first: str, shown: str) -> Iterator[Entry]:
    """Yields the entries of JSON lines, or of one JSON document; else as `table_entries`."""
    row = parse_json(first)
    by_lines = is_list_name(name, JSON_LINES) and first[0] != "["
    if by_lines or isinstance(row, str) or (isinstance(row, dict) and _rows_of(row) is None):
        return _json_column(_json_lines(opener, shown), shown)
    with opener() as file:
        text = file.read(MAX_JSON)
    if len(text) == MAX_JSON:
        raise InputError(f"The list {shown} is too large for JSON: give JSON lines, one object per line.")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(f"The list {shown} holds no sound JSON: {error}.") from error
    rows: Iterable[Any] | None = document if isinstance(document, list) else None
    if isinstance(document, dict):
        rows = [document] if _is_row(document) else _rows_of(document)
    if rows is None:
        raise _no_column(shown, list(document) if isinstance(document, dict) else [])
    return _json_column(iter(rows), shown)


def _is_row(document: dict[str, Any]) -> bool:
    """Whether a JSON object is one photo's."""
    return uri_column([name for name, value in document.items() if isinstance(value, str | None)]) is not None


def _rows_of(document: dict[str, Any]) -> Iterable[Any] | None:
    """Returns the rows in a JSON document: its list, its column or its names; None: it has none of them."""
    if _is_row(document):
        return None
    if document and all(map(is_photo_name, document)):
        return list(document)
    names = [name for name in document if isinstance(document[name], list | dict)]
    column = uri_column(names)
    lists = (name for name in JSON_LISTS if isinstance(document.get(name), list))
    found = document[names[column]] if column is not None else document.get(next(lists, ""))
    return found.values() if isinstance(found, dict) else found


def _json_lines(opener: TextOpener, shown: str) -> Iterator[Any]:
    with opener() as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise InputError(f"Line {number} of the list {shown} is no JSON: {error}.") from error


def _json_column(rows: Iterator[Any], shown: str) -> Iterator[Entry]:
    first = next(rows, None)
    if isinstance(first, dict) and not _is_row(first):
        raise _no_column(shown, list(first))
    return (_json_entry(row) for row in chain([] if first is None else [first], rows))


def _json_entry(row: Any) -> Entry:
    subject = None
    if isinstance(row, dict):
        texts = [name for name, value in row.items() if isinstance(value, str)]
        column, whose = uri_column(texts), _column(list(row), SUBJECTS)
        subject = None if whose is None else list(row.values())[whose]
        row = None if column is None else row[texts[column]]
    return row.strip() or None if isinstance(row, str) else None, _as_subject(subject)


def _as_subject(value: Any) -> str | None:
    """Subjects may be numbered."""
    return None if value is None else str(value).strip() or None


def parquet_entries(opener: Callable[[], BinaryIO], shown: str) -> Iterator[Entry]:
    """Yields the entries of a Parquet file; else as `table_entries`."""
    with opener() as file:
        schema = pq.ParquetFile(file).schema_arrow
    texts = [name for name in schema.names if _holds_text(schema.field(name).type)]
    index = uri_column(texts)
    if index is None:
        other = uri_column(schema.names)
        if other is not None:
            kind = schema.field(other).type
            raise InputError(f"The column {schema.names[other]} of the list {shown} holds {kind}, not text.")
        raise _no_column(shown, schema.names)
    subject = _column(schema.names, SUBJECTS)
    return _parquet_rows(opener, texts[index], None if subject is None else schema.names[subject])


def _holds_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _parquet_rows(opener: Callable[[], BinaryIO], column: str, subject: str | None) -> Iterator[Entry]:
    columns = [column] if subject is None else [column, subject]
    with opener() as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=8192, columns=columns):
            uris = batch.column(column).to_pylist()
            subjects = [None] * len(uris) if subject is None else batch.column(subject).to_pylist()
            yield from ((uri or None, _as_subject(whose)) for uri, whose in zip(uris, subjects, strict=True))
