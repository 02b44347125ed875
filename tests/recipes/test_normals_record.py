"""The records of photos of faces: their schema, and what a record says of a photo that failed."""

import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DecodeError
from pipeline.images.items import ListedFile, ListedItem
from pipeline.recipes import NAMES, load_recipe
from pipeline.recipes.crop_stage import POINTS_FIELDS
from pipeline.recipes.face_record import CROP_WINDOW, FACE, FORMAT, SCHEMA
from pipeline.run import records
from pipeline.run.counts import FAILED, OK

README = Path(__file__).resolve().parents[2] / "README.md"


def new_record(number: int, uri: str) -> dict:
    return records.new_record(FORMAT, ListedItem(number, uri, (ListedFile(number, uri),)))


def a_face() -> dict:
    return {
        "index": 0,
        "box": [1.0, 2.0, 3.0, 4.0],
        "score": 0.5,
        "detector": "hog",
        "landmarks": [float(number) for number in range(136)],
        **dict.fromkeys(POINTS_FIELDS),
        "crop_window": {"left": 1, "top": 2, "size": 3},
        "crop_png": b"crop",
        "normal_png": b"normal",
        "mask_png": b"mask",
        "mask_share": 0.5,
    }


def test_schema_is_the_promised_one():
    face = pa.struct(
        {
            "index": pa.int32(),
            "box": pa.list_(pa.float32(), 4),
            "score": pa.float32(),
            "detector": pa.string(),
            "landmarks": pa.list_(pa.float32()),
            "points": pa.list_(pa.float32()),
            "visible": pa.list_(pa.uint8()),
            "rotation": pa.list_(pa.float32()),
            "points_sigma": pa.float32(),
            "crop_window": pa.struct({"left": pa.int32(), "top": pa.int32(), "size": pa.int32()}),
            "crop_png": pa.binary(),
            "normal_png": pa.binary(),
            "mask_png": pa.binary(),
            "mask_share": pa.float32(),
        }
    )
    text = dict.fromkeys(("sha256", "status", "error_code", "error_message"), pa.string())
    promised = {"id": pa.int64(), "uri": pa.string(), "width": pa.int32(), "height": pa.int32(), **text}
    promised |= {"focal_mm": pa.float32(), "focal_35mm": pa.float32(), "duplicate_of": pa.int64()}
    assert dict(zip(SCHEMA.names, SCHEMA.types, strict=True)) == promised | {"faces": pa.list_(face)}


def test_every_field_is_described():
    fields = [*SCHEMA, *FACE, *CROP_WINDOW]
    assert all(len(field.metadata[b"description"]) > 20 for field in fields)


def test_error_codes_are_those_of_the_readme():
    (table,) = re.findall(r"<!-- codes -->\n(.*?)<!-- /codes -->", README.read_text("utf-8"), re.DOTALL)
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    formats = [load_recipe(name).record for name in NAMES]
    for form in formats:
        codes = [form.empty, *form.codes, *records.ERROR_CODES]
        assert len(set(codes)) == len(codes)
    assert set(named) <= {code for form in formats for code in (form.empty, *form.codes)} | set(
        records.ERROR_CODES
    )


def test_records_survive_parquet_with_their_types():
    done = new_record(2**63 - 1, "a/é.jpg") | {"status": OK, "faces": [a_face(), a_face()]}
    failed = new_record(-(2**63), "b")
    records.set_failed(failed, DecodeError("Cut short.", "truncated"), FORMAT.things)
    file = io.BytesIO()
    pq.write_table(records.to_table([done, failed], FORMAT), file, **FORMAT.parquet)
    table = pq.read_table(file)
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == [done, failed]


def test_pngs_are_stored_as_they_are():
    file = io.BytesIO()
    row = new_record(1, "a") | {"status": OK, "faces": [a_face()]}
    pq.write_table(records.to_table([row], FORMAT), file, **FORMAT.parquet)
    group = pq.ParquetFile(file).metadata.row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    pngs = {path: column for path, column in columns.items() if path.endswith("_png")}
    assert len(pngs) == 3
    assert {column.compression for column in pngs.values()} == {"UNCOMPRESSED"}
    assert not any(column.is_stats_set for column in pngs.values())
    assert columns["uri"].compression == "ZSTD"


def test_failures_keep_their_code_and_lose_their_faces():
    for error, code, message in (
        (DecodeError("Cut short.", "truncated"), "truncated", "Cut short."),
        (MemoryError(), "out_of_memory", "There was not enough memory for this photo."),
        (ZeroDivisionError("odd"), "internal_error", "ZeroDivisionError: odd"),
    ):
        row = new_record(1, "a") | {"faces": [a_face()]}
        records.set_failed(row, error, FORMAT.things)
        assert (row["status"], row["error_code"], row["error_message"]) == (FAILED, code, message)
        assert row["faces"] == []
