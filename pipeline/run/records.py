"""What every record says, whatever the recipe: one row per item, whatever became of it.

import pyarrow.dataset as ds
table = ds.dataset("out/records").to_table()
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import INTERNAL_ERROR, OUT_OF_MEMORY, portable_error
from pipeline.images.items import ListedItem
from pipeline.redact import shown_uri
from pipeline.run.counts import EXAMPLES, FAILED, Counts
from pipeline.run.recipe import RecordFormat

ERROR_CODES = (
    "not_found",
    "access_denied",
    "timeout",
    "file_too_large",
    "read_failed",
    "empty_file",
    "unsupported_format",
    "truncated",
    "decode_failed",
    "too_many_pixels",
    "too_small",
    "crashed",
    OUT_OF_MEMORY,
    INTERNAL_ERROR,
)
"""What `error_code` may say of any recipe's records, see the README."""


def field(name: str, kind: pa.DataType, description: str, nullable: bool = True) -> pa.Field:
    """Returns a field of a schema that carries its description as metadata."""
    return pa.field(name, kind, nullable, metadata={"description": description})


PLACE = [
    field("id", pa.int64(), "Identifier of the photo, the same in every run over it.", False),
    field("uri", pa.string(), "Where the photo is: an absolute path or a URL.", False),
]
"""First fields of every schema. Of an item of several photos: that of their folder."""


def outcome(things: str, empty: str) -> list[pa.Field]:
    """Returns further fields of every schema. Of several photos the digest is that of their digests in order.

    Args:
        things: What is looked for, in the plural.
        empty: Status of an item that has none.
    """
    return [
        field("sha256", pa.string(), "Digest of the file's bytes, hexadecimal; null when not read."),
        field(
            "duplicate_of",
            pa.int64(),
            "First photo of the shard with the same bytes, whose result this row repeats; else null.",
        ),
        field("status", pa.string(), f"ok: {things} found; {empty}: none; failed: see error_code.", False),
        field("error_code", pa.string(), f"Stable reason why there are no {things}; null when ok."),
        field("error_message", pa.string(), "The reason in words; null when ok."),
    ]


_OWN = ("id", "uri", "sha256", "duplicate_of")
"""Fields that a row does not share with the row that it repeats."""


def new_record(form: RecordFormat, item: ListedItem) -> dict[str, Any]:
    """Returns the record of an item about which nothing is known yet; `status` is still to be set."""
    record: dict[str, Any] = dict.fromkeys(form.schema.names)
    return record | {"id": item.id, "uri": item.uri, form.things: []}


def set_failed(record: dict[str, Any], error: Exception, things: str) -> None:
    """Notes in a record why its item could not be processed; what was found before is dropped.

    Args:
        record: Changed in place.
        error: An `ImageError` keeps its code; anything else, which should not happen, is recorded as
            out_of_memory or internal_error, so that the item is not lost and the fault can be found.
        things: See `RecordFormat`.
    """
    reason = portable_error(error)
    record.update(status=FAILED, error_code=reason.code, error_message=reason.message)
    record[things] = []


def complete_duplicates(rows: list[dict[str, Any]]) -> None:
    """Gives rows with `duplicate_of` the result of the row that they refer to.

    They are changed in place; a row refers to one before it.
    """
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        if row["duplicate_of"] is not None:
            first = by_id[row["duplicate_of"]]
            row.update({name: value for name, value in first.items() if name not in _OWN})


class DuplicateFinder:
    """Says which rows of one shard repeat an earlier one: the same bytes with the same result.

    The chunks of a shard are worked on apart, and only when it is put together can they be compared. Bytes
    that failed at one time and not at another are not joined, nor are those that the recipe tells apart.
    """

    def __init__(self, form: RecordFormat) -> None:
        self._form = form
        self._first_ids: dict[tuple[str, ...], int] = {}

    def mark(self, table: pa.Table) -> pa.Table:
        """Returns the next rows of the shard, in the order of the plan, with `duplicate_of` as it must be."""
        rows = table.select(["id", "sha256", "status", "error_code"]).to_pylist()
        column = []
        for row, result in zip(rows, self._form.told_apart_by(table), strict=True):
            first = row["id"]
            if row["sha256"] is not None:
                key = row["sha256"], row["status"], str(row["error_code"]), result
                first = self._first_ids.setdefault(key, first)
            column.append(None if first == row["id"] else first)
        schema = self._form.schema
        index = schema.get_field_index("duplicate_of")
        return table.set_column(index, schema.field(index), pa.array(column, pa.int64()))


def to_table(records: list[dict[str, Any]], form: RecordFormat) -> pa.Table:
    """Returns records as a table."""
    return pa.Table.from_pylist(records, schema=form.schema)


def count(
    rows: list[dict[str, Any]],
    things: str,
    images: int | None = None,
    bytes_read: int = 0,
    seconds: Mapping[str, float] | None = None,
) -> Counts:
    """Adds up records."""
    counts = Counts(
        records=len(rows),
        images=len(rows) if images is None else images,
        found=Counter({things: sum(len(row[things]) for row in rows)}),
        bytes_read=bytes_read,
        duplicates=sum(row["duplicate_of"] is not None for row in rows),
        statuses=Counter(row["status"] for row in rows),
        seconds=Counter(seconds),
    )
    for row in rows:
        if row["status"] == FAILED:
            counts.error_codes[row["error_code"]] += 1
            examples = counts.examples.setdefault(row["error_code"], [])
            if len(examples) < EXAMPLES:
                examples.append((shown_uri(row["uri"]), row["error_message"]))
    return counts


def count_table(table: pa.Table, form: RecordFormat) -> Counts:
    """Adds up records that are a table, without a copy of their images; of each one photo is counted."""
    rows = table.select(["uri", "duplicate_of", "status", "error_code", "error_message"]).to_pylist()
    for row, number in zip(rows, pc.list_value_length(table[form.things]).to_pylist(), strict=True):
        row[form.things] = range(number)
    return count(rows, form.things)
