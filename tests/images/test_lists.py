"""Lists in the forms that people have them in."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.images.sources import NOT_PHOTOS, list_input

CASES = Path(__file__).resolve().parents[2] / "../shared/cases/lists"

BOTH = {
    "list.csv": "url,name\nphotos/a.jpg,one\nphotos/b c.jpg,two\n",
    "upper.csv": "ID,Image_URL\n1,photos/a.jpg\n2,photos/b c.jpg\n",
    "excel.csv": 'sep=;\r\n"name";"Image Path"\r\n"x;\ny";photos/a.jpg\r\nz;"photos/b c.jpg"\r\n',
    "old_mac.csv": "path\rphotos/a.jpg\rphotos/b c.jpg\r",
    "no_header.csv": "1,photos/a.jpg\n2,photos/b c.jpg\n",
    "one_column.csv": "photos/a.jpg\nphotos/b c.jpg\n",
    "list.tsv": "caption\tURL\none, two\tphotos/a.jpg\nthree\tphotos/b c.jpg\n",
    "tabs.txt": "url\tcaption\nphotos/a.jpg\tone\nphotos/b c.jpg\ttwo\n",
    "list.txt": "# a comment\nphotos/a.jpg\n\nphotos/b c.jpg",
    "list.jsonl": '{"url": "photos/a.jpg"}\n\n{"n": 1, "url": "photos/b c.jpg"}\n',
    "list.ndjson": '{"n": 0, "Path": "photos/a.jpg"}\n{"Path": "photos/b c.jpg"}\n',
    "texts.jsonl": '"photos/a.jpg"\n"photos/b c.jpg"\n',
    "lines.json": '{"url": "photos/a.jpg"}\n{"url": "photos/b c.jpg"}\n',
    "list.json": '["photos/a.jpg", "photos/b c.jpg"]',
    "rows.json": '[\n {"file_name": "photos/a.jpg"},\n {"file_name": "photos/b c.jpg"}\n]',
    "coco.json": '{"info": {}, "images": [{"file_name": "photos/a.jpg"}, {"file_name": "photos/b c.jpg"}]}',
    "pandas.json": '{"url":{"0":"photos/a.jpg","1":"photos/b c.jpg"},"n":{"0":1,"1":2}}',
    "by_name.json": '{"photos/a.jpg": {"age": 1}, "photos/b c.jpg": {"age": 2}}',
    "json.txt": '{"url": "photos/a.jpg"}\n{"url": "photos/b c.jpg"}\n',
}


def listed(path: Path) -> list[str]:
    return [file.uri.removeprefix(f"{path.parent}/") for file in list_input(str(path))]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gzip"])
def test_a_list_is_read_whatever_its_form(tmp_path, name, encoding):
    source = tmp_path / (f"{name}.gz" if encoding == "gzip" else name)
    if encoding == "gzip":
        source.write_bytes(gzip.compress(BOTH[name].encode()))
    elif encoding == "utf-16-be":
        source.write_bytes(b"\xfe\xff" + BOTH[name].encode("utf-16-be"))
    else:
        source.write_bytes(BOTH[name].encode(encoding))
    assert listed(source) == ["photos/a.jpg", "photos/b c.jpg"]


@pytest.mark.parametrize("column", ["URL", "Image_Path", "file name"])
def test_a_parquet_column_of_any_case(tmp_path, column):
    table = pa.table({"image": [{"bytes": b""}], "n": [1], column: ["photos/a.jpg"]})
    pq.write_table(table, tmp_path / "list.parquet")
    assert listed(tmp_path / "list.parquet") == ["photos/a.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,caption\n1,two\n", "none of the columns uri, url, path .*'id', 'caption'"),
        ("a.jsonl", '{"id": 1}\n', "none of the columns .* it has 'id'"),
        ("a.json", '{"categories": []}', "none of the columns .* it has 'categories'"),
        ("a.json", "[1, 2", "no sound JSON"),
        ("a.jsonl", '{"url": "a.jpg"}\n{"url": \n', "Line 2 .* is no JSON"),
        ("a.txt", "a.jpg\n".encode("utf-16-le"), "UTF-16 needs a byte order mark"),
        ("a.csv", "", "There is no photo"),
        ("a.txt", "%PDF-1.4\n", "is a PDF document"),
        ("a.csv", "<!doctype html>\n<html>", "is an HTML page"),
        ("a.json", "[]", "There is no photo"),
        ("a.csv", "url\n", "There is no photo"),
    ],
)
def test_a_list_that_cannot_be_read_says_why(tmp_path, name, content, message):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        listed(tmp_path / name)


def test_lines_in_quotation_marks(tmp_path):
    (tmp_path / "a.txt").write_text('"photos/a.jpg"\n"b".jpg\n"\n')
    assert listed(tmp_path / "a.txt") == ["photos/a.jpg", '"b".jpg', '"']


def test_rows_without_a_uri_are_counted(tmp_path):
    (tmp_path / "a.csv").write_text("url,n\na.jpg,1\n,2\nb.jpg\n")
    listing = list_input(f"{tmp_path}/a.csv")
    assert len(list(listing)) == 2
    assert listing.notes.lines() == ["rows of the list without a URI left out: 1 ('row 1')"]


class TestParts:
    def write(self, folder: Path, name: str, photo: str) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pq.write_table(pa.table({"url": [photo]}), folder / name)
        else:
            (folder / name).write_text(json.dumps({"url": photo}) + "\n")

    @pytest.mark.parametrize("ending", ["parquet", "jsonl"])
    @pytest.mark.parametrize("pattern", ["", "/*", "/**"])
    def test_a_folder_of_nothing_but_lists(self, tmp_path, ending, pattern):
        self.write(tmp_path, f"parts/part-0.{ending}", "/a.jpg")
        self.write(tmp_path, f"parts/part-1.{ending}", "b.jpg")
        (tmp_path / "parts/_SUCCESS").touch()
        files = list(list_input(f"{tmp_path}/parts{pattern}"))
        assert [file.uri for file in files] == ["/a.jpg", f"{tmp_path}/parts/b.jpg"]

    def test_partitions(self, tmp_path):
        self.write(tmp_path, "parts/year=2024/part-0.parquet", "/a.jpg")
        self.write(tmp_path, "parts/year=2025/part-0.parquet", "/b.jpg")
        assert [file.uri for file in list_input(f"{tmp_path}/parts")] == ["/a.jpg", "/b.jpg"]

    def test_lists_beside_photos_are_left_out(self, tmp_path):
        self.write(tmp_path, "part-0.parquet", "/a.jpg")
        (tmp_path / "x").mkdir()
        (tmp_path / "x/b.jpg").touch()
        listing = list_input(str(tmp_path))
        assert [file.uri for file in listing] == [f"{tmp_path}/x/b.jpg"]
        assert listing.notes.counts == {NOT_PHOTOS: 1}


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not there")
@pytest.mark.parametrize(
    "name", ["list.csv", "list.jsonl", "parts", "upper_case_column.parquet", "utf16.txt"]
)
def test_the_cases_from_the_field(name):
    uris = [file.uri for file in list_input(str(CASES / name))]
    assert [Path(uri).name for uri in uris] == ["a.jpg", "b c.jpg"]
