"""Listing of inputs."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_images import encode, make_bad_images

from pipeline.errors import InputError
from pipeline.images import ids
from pipeline.images.read import ReadConfig, read_bytes
from pipeline.images.sources import NOT_PHOTOS, list_input
from pipeline.images.walk import (
    HIDDEN,
    LISTED_ALREADY,
    SPECIAL,
    UNREADABLE,
    Notes,
    matches_glob,
    split_glob,
    walk_local,
)
from pipeline.storage.places import local_path, local_uri

PIXEL = b"BM"  # content matters only where a name could make it a list


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PIXEL)


def names(source, folder: Path, **options) -> list[str]:
    return [str(local_path(file.uri))[len(str(folder)) + 1 :] for file in list_input(str(source), **options)]


class TestFolder:
    def test_files_of_a_folder_come_before_those_of_its_subfolders(self, tmp_path):
        touch(tmp_path, "b.jpg", "a/z.jpg", "a/b/y.png", "c", "IMG.x", "a.jpg")
        assert names(tmp_path, tmp_path) == ["IMG.x", "a.jpg", "b.jpg", "c", "a/z.jpg", "a/b/y.png"]

    def test_every_odd_name_is_listed_and_can_be_read_back(self, tmp_path):
        expected = make_bad_images(tmp_path)
        files = list(list_input(str(tmp_path)))
        assert {Path(str(local_path(file.uri))).name for file in files} == set(expected)
        for file in files:
            content = read_bytes(file.uri, ReadConfig())
            assert len(content) == file.size
            file.uri.encode("utf-8")  # fits into Parquet and JSON

    def test_a_file_name_that_is_not_utf8_becomes_a_file_url(self, tmp_path):
        path = os.fsencode(tmp_path) + b"/caf\xe9 100%.jpg"
        Path(os.fsdecode(path)).write_bytes(PIXEL)
        (file,) = list_input(str(tmp_path))
        assert file.uri.startswith("file:///")
        assert file.uri.endswith("/caf%E9%20100%25.jpg")
        assert os.fsencode(str(local_path(file.uri))) == path

    def test_ids_are_the_first_bytes_of_the_hash_of_the_uri(self, tmp_path):
        touch(tmp_path, "a.jpg")
        (file,) = list_input(str(tmp_path))
        assert file.uri == f"{tmp_path}/a.jpg"
        digest = hashlib.sha256(file.uri.encode()).digest()
        assert file.id == int.from_bytes(digest[:8], "big", signed=True)
        assert pa.array([file.id], pa.int64())[0].as_py() == file.id

    def test_relative_and_absolute_inputs_give_the_same_rows(self, tmp_path, monkeypatch):
        touch(tmp_path, "photos/a.jpg", "photos/sub/b.jpg")
        absolute = list(list_input(f"{tmp_path}/photos"))
        monkeypatch.chdir(tmp_path)
        for source in ("photos", "photos/", "./photos", "photos/../photos", f"file://{tmp_path}/photos"):
            assert list(list_input(source)) == absolute

    def test_the_etag_changes_with_the_content(self, tmp_path):
        touch(tmp_path, "a.jpg")
        (before,) = list_input(str(tmp_path))
        (tmp_path / "a.jpg").write_bytes(PIXEL * 2)
        (after,) = list_input(str(tmp_path))
        assert before.id == after.id
        assert before.etag != after.etag

    def test_hidden_entries_are_left_out_and_said(self, tmp_path):
        touch(tmp_path, "a.jpg", ".DS_Store", "._a.jpg", ".git/objects/b.jpg", "@eaDir/a.jpg/THUMB.jpg")
        listing = list_input(str(tmp_path))
        assert [Path(file.uri).name for file in listing] == ["a.jpg"]
        assert listing.notes.counts == {HIDDEN: 4}

    def test_a_hidden_folder_can_be_the_input_itself(self, tmp_path):
        touch(tmp_path, ".photos/a.jpg")
        assert names(tmp_path / ".photos", tmp_path) == [".photos/a.jpg"]

    def test_loops_of_links_end_and_are_said(self, tmp_path):
        touch(tmp_path, "a/b/photo.jpg")
        (tmp_path / "a/b/up").symlink_to(tmp_path)
        (tmp_path / "a/self").symlink_to(".")
        listing = list_input(str(tmp_path))
        assert [file.uri for file in listing] == [f"{tmp_path}/a/b/photo.jpg"]
        assert listing.notes.counts == {LISTED_ALREADY: 2}

    def test_a_real_folder_goes_before_a_link_to_it(self, tmp_path):
        touch(tmp_path, "z/photo.jpg")
        (tmp_path / "a").symlink_to("z")
        assert names(tmp_path, tmp_path) == ["z/photo.jpg"]

    def test_links_to_files_and_folders_elsewhere_are_followed(self, tmp_path):
        touch(tmp_path, "elsewhere/a.jpg", "photos/b.jpg")
        (tmp_path / "photos/folder").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "photos/file.jpg").symlink_to(tmp_path / "elsewhere/a.jpg")
        photos = tmp_path / "photos"
        assert names(photos, photos) == ["b.jpg", "file.jpg", "folder/a.jpg"]

    def test_dangling_links_get_a_row(self, tmp_path):
        (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
        (tmp_path / "circle.jpg").symlink_to("circle.jpg")
        assert names(tmp_path, tmp_path) == ["circle.jpg", "gone.jpg"]

    def test_pipes_are_left_out_and_said(self, tmp_path):
        touch(tmp_path, "a.jpg")
        os.mkfifo(tmp_path / "pipe.jpg")
        listing = list_input(str(tmp_path))
        assert len(list(listing)) == 1
        assert listing.notes.counts == {SPECIAL: 1}

    def test_unreadable_folders_are_said_and_the_rest_is_listed(self, tmp_path, monkeypatch):
        touch(tmp_path, "a.jpg", "locked/b.jpg", "open/c.jpg")
        listdir = os.listdir

        def refusing(path):  # permissions do not stop root, who may run the tests
            if path.endswith("locked"):
                raise PermissionError(13, "Permission denied", path)
            return listdir(path)

        monkeypatch.setattr(os, "listdir", refusing)
        listing = list_input(str(tmp_path))
        assert [Path(file.uri).name for file in listing] == ["a.jpg", "c.jpg"]
        (line,) = listing.notes.lines()
        assert line.startswith(f"{UNREADABLE}: 1 (")
        assert "locked (Permission denied)" in line
        with pytest.raises(InputError, match="Access denied"):
            list_input(f"{tmp_path}/locked")

    def test_what_is_no_photo_by_its_name_is_left_out_and_counted(self, tmp_path):
        touch(
            tmp_path, "a.JPG", "b", "a.xmp", "a.TXT", "x/Thumbs.db", "x/README", "x/clip.MOV", "x/labels.json"
        )
        listing = list_input(str(tmp_path))
        assert [Path(file.uri).name for file in listing] == ["a.JPG", "b"]
        assert listing.notes.counts == {NOT_PHOTOS: 6}

    @pytest.mark.parametrize(
        ("include", "exclude", "expected"),
        [
            (["*.jpg"], [], ["a.JPG", "raw/b.jpg"]),
            (["*.jpg"], ["raw"], ["a.JPG"]),
            ([], ["RAW/"], ["a.JPG", "c.png"]),
            (["raw/*"], [], ["raw/b.jpg", "raw/d.dat.txt"]),
            ([], ["b.*", "*.png"], ["a.JPG"]),
            (["*.txt"], [], ["raw/d.dat.txt"]),
        ],
    )
    def test_patterns_say_what_is_taken(self, tmp_path, include, exclude, expected):
        touch(tmp_path, "a.JPG", "c.png", "raw/b.jpg", "raw/d.dat.txt")
        for source in (tmp_path, f"{tmp_path}/**"):
            assert names(source, tmp_path, include=include, exclude=exclude) == expected

    def test_patterns_that_leave_nothing_are_said(self, tmp_path):
        touch(tmp_path, "a.jpg")
        with pytest.raises(InputError, match=r"no photo in .*files left out by --include and --exclude: 1 "):
            list(list_input(str(tmp_path), include=["*.png"]))

    def test_the_output_within_the_input_is_left_out(self, tmp_path):
        touch(tmp_path, "a.jpg", "out/records/b.parquet", "outside.jpg")
        assert names(tmp_path, tmp_path, skip=f"{tmp_path}/out/") == ["a.jpg", "outside.jpg"]

    def test_the_output_is_left_out_whatever_links_lead_to_it(self, tmp_path):
        touch(tmp_path, "real/a.jpg", "real/out/b.jpg")
        (tmp_path / "link").symlink_to("real")
        assert names(tmp_path / "link", tmp_path, skip=f"{tmp_path}/real/out") == ["link/a.jpg"]
        assert names(tmp_path / "real", tmp_path, skip=f"{tmp_path}/link/out") == ["real/a.jpg"]

    def test_notes_quote_names_from_outside(self):
        notes = Notes()
        for index in range(5):
            notes.add("reason", f"\x1b[31m{index}\n")
        assert notes.lines() == ["reason: 5 ('\\x1b[31m0\\n', '\\x1b[31m1\\n', '\\x1b[31m2\\n', ...)"]


class TestGlob:
    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*.jpg", ["a.jpg", "b.jpg"]),
            ("?.jpg", ["a.jpg", "b.jpg"]),
            ("[!a].jpg", ["b.jpg"]),
            ("**/*.jpg", ["a.jpg", "b.jpg", "x/c.jpg", "x/y/d.jpg"]),
            ("*/*.jpg", ["x/c.jpg"]),
            ("x/**", ["x/c.jpg", "x/e.png", "x/y/d.jpg"]),
            ("**/y/*", ["x/y/d.jpg"]),
            ("x/*", ["x/c.jpg", "x/e.png"]),
        ],
    )
    def test_patterns(self, tmp_path, pattern, expected):
        touch(tmp_path, "a.jpg", "b.jpg", "x/c.jpg", "x/e.png", "x/y/d.jpg")
        assert names(tmp_path / pattern, tmp_path) == expected

    def test_a_folder_whose_name_holds_wildcards_is_a_folder(self, tmp_path):
        touch(tmp_path, "a[1]/x.jpg", "a1/y.jpg")
        assert names(tmp_path / "a[1]", tmp_path) == ["a[1]/x.jpg"]

    def test_folders_deeper_than_the_pattern_are_not_entered(self, tmp_path, monkeypatch):
        touch(tmp_path, "a.jpg", "x/b.jpg")
        listed, listdir = [], os.listdir
        monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
        assert names(tmp_path / "*.jpg", tmp_path) == ["a.jpg"]
        assert set(listed) == {str(tmp_path)}

    def test_no_match_is_an_error(self, tmp_path):
        with pytest.raises(InputError, match="no photo"):
            list(list_input(f"{tmp_path}/*.jpg"))

    def test_split(self):
        assert split_glob("/a/b*/c.jpg") == ("/a", ["b*", "c.jpg"])
        assert split_glob("/*.jpg") == ("", ["*.jpg"])

    def test_many_double_stars_match(self):
        assert matches_glob(["a", "b", "c", "d.jpg"], ["**", "b", "**", "*.jpg"])
        assert not matches_glob(["a", "b"], ["**", "c", "**"])


class TestLists:
    def test_a_text_list(self, tmp_path):
        entries = [
            "# a comment",
            "a.jpg",
            "  ",
            "sub/../sub/two words.jpg\r",
            f"{tmp_path}/absolute.jpg",
            "https://example.com/x.jpg?a=1#b",
            "s3://bucket/key with space.jpg",
            "./#1.jpg",
        ]
        source = tmp_path / "list.txt"
        source.write_text("\ufeff" + "\n".join(entries), "utf-8")
        assert [file.uri for file in list_input(str(source))] == [
            f"{tmp_path}/a.jpg",
            f"{tmp_path}/sub/two words.jpg",
            f"{tmp_path}/absolute.jpg",
            "https://example.com/x.jpg?a=1#b",
            "s3://bucket/key with space.jpg",
            f"{tmp_path}/#1.jpg",
        ]

    def test_bytes_that_are_not_utf8_lead_to_the_file(self, tmp_path):
        name = os.fsdecode(b"\xe9.jpg")
        touch(tmp_path, name)
        (tmp_path / "list.txt").write_bytes(b"\xe9.jpg\ns3://b/\xe9.jpg\n")
        local, remote = list_input(f"{tmp_path}/list.txt")
        assert local_path(local.uri) == f"{tmp_path}/{name}"
        assert remote.uri == "s3://b/?.jpg"

    def test_a_list_may_begin_with_the_letters_of_a_bitmap(self, tmp_path):
        (tmp_path / "list.txt").write_text("BMW front.jpg\nBMW back.jpg\n")
        assert names(tmp_path / "list.txt", tmp_path) == ["BMW front.jpg", "BMW back.jpg"]

    def test_repeated_entries_are_left_out_and_said(self, tmp_path):
        source = tmp_path / "list.txt"
        source.write_text(f"a.jpg\nb.jpg\n./a.jpg\nfile://{tmp_path}/a.jpg\n")
        listing = list_input(str(source))
        assert [Path(file.uri).name for file in listing] == ["a.jpg", "b.jpg"]
        assert listing.notes.lines() == [
            f"repeated entries of the list left out: 2 ('{tmp_path}/a.jpg', '{tmp_path}/a.jpg')"
        ]

    @pytest.mark.parametrize("column", ["uri", "url", "path"])
    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
    def test_a_parquet_list(self, tmp_path, column, kind):
        entries = pa.array(["a.jpg", None, "/x/b.jpg", ""]).cast(kind)
        pq.write_table(pa.table({"other": [1, 2, 3, 4], column: entries}), tmp_path / "list.parquet")
        listing = list_input(f"{tmp_path}/list.parquet")
        assert [file.uri for file in listing] == [f"{tmp_path}/a.jpg", "/x/b.jpg"]
        assert listing.notes.lines() == ["rows of the list without a URI left out: 2 ('row 1', 'row 3')"]

    def test_a_parquet_list_under_another_name(self, tmp_path):
        pq.write_table(pa.table({"uri": ["/a.jpg"]}), tmp_path / "list.txt")
        assert [file.uri for file in list_input(f"{tmp_path}/list.txt")] == ["/a.jpg"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (pa.table({"name": ["a.jpg"]}), "none of the columns uri, url, path or the like; it has 'name'"),
            (pa.table({"uri": [1]}), "holds int64, not text"),
            (b"PAR1 cut short", "Cannot read the input"),
            (b"\0\1\2", "neither text nor Parquet"),
            (b"x" * 100_000, "Line 1 .* is too long"),
            (b"\n\n# nothing\n", "There is no photo"),
            (b"", "There is no photo"),
        ],
    )
    def test_what_is_no_list_is_refused(self, tmp_path, content, message):
        source = tmp_path / "list.parquet"
        if isinstance(content, bytes):
            source.write_bytes(content)
        else:
            pq.write_table(content, source)
        with pytest.raises(InputError, match=message):
            list(list_input(str(source)))

    def test_a_photo_named_like_a_list_is_a_photo(self, tmp_path):
        (tmp_path / "png.txt").write_bytes(encode(np.zeros((20, 20, 3), np.uint8), "PNG"))
        (file,) = list_input(f"{tmp_path}/png.txt")
        assert file.uri == f"{tmp_path}/png.txt"


class TestInput:
    def test_a_single_file(self, tmp_path):
        touch(tmp_path, "a.jpg")
        (file,) = list_input(f"{tmp_path}/a.jpg")
        assert (file.uri, file.size) == (f"{tmp_path}/a.jpg", 2)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("", "is empty"),
            ("/nowhere/at/all", "There is no such file"),
            ("/nowhere/*.jpg", "There is no such file"),
            ("/dev/null", "neither a file nor a folder"),
            ("nonsense://bucket/a", "Protocol not known"),
            ("ftp://127.0.0.1:1/a", "refused"),
            ("a\0b", "null"),
        ],
    )
    def test_an_input_that_is_none_is_refused(self, source, message):
        with pytest.raises(InputError, match=message):
            list_input(source)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("page", b"<html><body>", "an HTML page"),
            ("notes.md", b"some text", "text"),
            ("photos.zip", b"PK\x03\x04", "a ZIP archive"),
            ("nothing", b"", "an empty file"),
        ],
    )
    def test_a_single_file_that_is_neither_photo_nor_list_is_refused(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"neither a photo nor a list, but {message}. A list is text"):
            list_input(f"{tmp_path}/{name}")

    def test_an_empty_folder_is_refused(self, tmp_path):
        touch(tmp_path, ".hidden.jpg")
        with pytest.raises(InputError, match=r"no photo in .* \(hidden entries left out: 1 .*jpg'\)\)"):
            list(list_input(str(tmp_path)))

    def test_local_uris_come_back(self):
        for path in ("/a/b.jpg", "/a b%20#?.jpg", "/é/\udce9.jpg", "/a::b:/c.jpg"):
            assert local_path(local_uri(path)) == path


class TestIds:
    def test_equal_ids_of_different_uris_are_refused(self):
        seen = ids.SeenIds()
        assert seen.add(b"12345678" + b"a" * 24, "a.jpg")
        assert not seen.add(b"12345678" + b"a" * 24, "a.jpg")
        with pytest.raises(InputError, match=r"same id .* b\.jpg"):
            seen.add(b"12345678" + b"b" * 24, "b.jpg")

    def test_all_are_remembered_however_many(self):
        seen = ids.SeenIds(recent=7)
        digests = [hashlib.sha256(bytes([index])).digest() for index in range(100)]
        assert all(seen.add(digest, "") for digest in digests)
        assert not any(seen.add(digest, "") for digest in digests)
        assert len(seen) == 100


def test_the_walk_streams(tmp_path):
    touch(tmp_path, "a.jpg", "x/b.jpg")
    walk = walk_local(str(tmp_path), Notes())
    assert next(walk).uri.endswith("a.jpg")
    touch(tmp_path, "x/c.jpg")  # the subfolder was not looked at yet
    assert [Path(found.uri).name for found in walk] == ["b.jpg", "c.jpg"]
