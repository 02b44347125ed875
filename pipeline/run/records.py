"""The records that a run writes: one row per input photo, whatever became of it.

    import pyarrow.dataset as ds
    table = ds.dataset("out/records").to_table()

Axes: pixel coordinates are x right, y down, in the upright photo (EXIF orientation applied), pixel
centres at integers. Normals are in camera space as `--convention` says; see `pipeline.normals.encoding` and
`pipeline.geometry.crop_camera`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.errors import ImageError

OK = "ok"
NO_FACE = "no_face"
FAILED = "failed"
STATUSES = (OK, NO_FACE, FAILED)

INTERNAL_ERROR = "internal_error"
OUT_OF_MEMORY = "out_of_memory"


ERROR_CODES = (
    NO_FACE,
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
    "landmarks_invalid",
    "crashed",
    OUT_OF_MEMORY,
    INTERNAL_ERROR,
)
"""What `error_code` may say, see the README."""


def _field(name: str, kind: pa.DataType, description: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, metadata={"description": description})


CROP_WINDOW = pa.struct(
    [
        _field("left", pa.int32(), "First column of the window in the upright photo."),
        _field("top", pa.int32(), "First row of the window in the upright photo."),
        _field("size", pa.int32(), "Side of the window in pixels of the upright photo."),
    ]
)

FACE = pa.struct(
    [
        _field("index", pa.int32(), "Rank of the face in its photo: 0 is the largest, or the first found."),
        _field("box", pa.list_(pa.float32(), 4), "The detector's box: left, top, right, bottom."),
        _field("score", pa.float32(), "The detector's confidence; NaN where landmarks came from a file."),
        _field("landmarks", pa.list_(pa.float32()), "68 points in iBUG 300-W order: x0, y0, x1, y1, ..."),
        _field("crop_window", CROP_WINDOW, "The square that crop, normals and mask cover."),
        _field("crop_png", pa.binary(), "PNG, 256x256 RGB: the window, resized."),
        _field("normal_png", pa.binary(), "PNG, 256x256 RGB, 8 or 16 bit: the normals of the window."),
        _field("mask_png", pa.binary(), "PNG, 256x256 grey: 255 where the normals are meant, else 0."),
    ]
)

SCHEMA = pa.schema(
    [
        _field("id", pa.int64(), "Identifier of the photo, the same in every run over it.", False),
        _field("uri", pa.string(), "Where the photo is: an absolute path or a URL.", False),
        _field("width", pa.int32(), "Width of the upright photo; null when it was not decoded."),
        _field("height", pa.int32(), "Height of the upright photo; null when it was not decoded."),
        _field("sha256", pa.string(), "Digest of the file's bytes, hexadecimal; null when not read."),
        _field(
            "duplicate_of",
            pa.int64(),
            "First photo of the shard with the same bytes, whose result this row repeats; else null.",
        ),
        _field("status", pa.string(), "ok: faces found; no_face: none; failed: see error_code.", False),
        _field("error_code", pa.string(), "Stable reason why there are no faces; null when ok."),
        _field("error_message", pa.string(), "The reason in words; null when ok."),
        _field("faces", pa.list_(FACE), "The faces found; empty unless ok.", False),
    ]
)
"""Schema of the files in records/; every field carries its description as metadata."""

_PNG_COLUMNS = [f"faces.list.element.{name}" for name in ("crop_png", "normal_png", "mask_png")]
_PLAIN_COLUMNS = [field.name for field in SCHEMA if field.name != "faces"]

PARQUET_OPTIONS: dict[str, Any] = {
    # PNGs do not get smaller twice, and the statistics of a column of PNGs are two PNGs.
    "compression": {
        **dict.fromkeys(_PNG_COLUMNS, "NONE"),
        **dict.fromkeys(_PLAIN_COLUMNS, "ZSTD"),
        **{f"faces.list.element.{name}": "ZSTD" for name in ("index", "score")},
        **{f"faces.list.element.{name}.list.element": "ZSTD" for name in ("box", "landmarks")},
        **{f"faces.list.element.crop_window.{name}": "ZSTD" for name in ("left", "top", "size")},
    },
    "use_dictionary": ["status", "error_code", "error_message"],
    "write_statistics": _PLAIN_COLUMNS,
}
"""How the files are written; see pyarrow.parquet.ParquetWriter."""


def new_record(photo_id: int, uri: str) -> dict[str, Any]:
    """Returns the record of a photo about which nothing is known yet; `status` is still to be set."""
    record: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    return record | {"id": photo_id, "uri": uri, "faces": []}


def set_failed(record: dict[str, Any], error: Exception) -> None:
    """Notes in a record why its photo could not be processed; faces found before are dropped.

    Args:
        record: Changed in place.
        error: An `ImageError` keeps its code; anything else, which should not happen, is recorded as
            out_of_memory or internal_error, so that the photo is not lost and the fault can be found.
    """
    if isinstance(error, ImageError):
        code, message = error.code, error.message
    elif isinstance(error, MemoryError):
        code, message = OUT_OF_MEMORY, "There was not enough memory for this photo."
    else:
        code, message = INTERNAL_ERROR, f"{type(error).__name__}: {error}"
    record.update(status=FAILED, error_code=code, error_message=message, faces=[])


def complete_duplicates(rows: list[dict[str, Any]]) -> None:
    """Gives rows with `duplicate_of` the result of the row that they refer to, faces included.

    Args:
        rows: The records of a chunk, changed in place; a row refers to one before it.
    """
    results = ("width", "height", "status", "error_code", "error_message", "faces")
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        if row["duplicate_of"] is not None:
            first = by_id[row["duplicate_of"]]
            row.update({name: first[name] for name in results})


class DuplicateFinder:
    """Says which rows of one shard repeat an earlier one: the same bytes with the same result.

    The chunks of a shard are worked on apart, and only when it is put together can they be compared. Bytes
    that failed at one time and not at another, or whose landmarks come from different files, are not
    joined.
    """

    def __init__(self) -> None:
        self._first_ids: dict[tuple[str, ...], int] = {}

    def mark(self, table: pa.Table) -> pa.Table:
        """Returns the next rows of the shard, in the order of the plan, with `duplicate_of` as it must be."""
        rows = table.select(["id", "sha256", "status", "error_code"]).to_pylist()
        column = []
        for row, landmarks in zip(rows, _landmarks(table), strict=True):
            first = row["id"]
            if row["sha256"] is not None:
                key = row["sha256"], row["status"], str(row["error_code"]), landmarks
                first = self._first_ids.setdefault(key, first)
            column.append(None if first == row["id"] else first)
        index = SCHEMA.get_field_index("duplicate_of")
        return table.set_column(index, SCHEMA.field(index), pa.array(column, pa.int64()))


def _landmarks(table: pa.Table) -> Iterator[str]:
    """Yields for every row what tells its faces from others."""
    faces = table["faces"].combine_chunks()
    landmarks = faces.flatten().field("landmarks")
    start = 0
    for length in faces.value_lengths().to_pylist():
        yield str(landmarks.slice(start, length).to_pylist())
        start += length


def to_table(records: list[dict[str, Any]]) -> pa.Table:
    """Returns records as a table of `SCHEMA`."""
    return pa.Table.from_pylist(records, schema=SCHEMA)
