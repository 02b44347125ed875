"""What records are made of: a photo each, or the photos of a folder each."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.images.items import ListedFile, ListedItem, one_photo_each, one_subject_each
from pipeline.images.sources import list_input

NESTED = ("z.jpg", "a/1.jpg", "a/2.jpg", "a/b/1.jpg", "a/b/c/1.jpg", "ab/1.jpg", "empty/below/1.jpg")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"BM")


def listed(*uris: str) -> list[ListedFile]:
    """Photos as a listing has them that is given in this order."""
    return [ListedFile(number, uri) for number, uri in enumerate(uris)]


def shown(items, root: Path | str) -> list[tuple[str, list[str]]]:
    """Returns (folder, names of its photos) of items, relative to a folder."""
    start = len(str(root)) + 1
    return [
        (item.uri[start:], [photo.uri.removeprefix(f"{item.uri}/") for photo in item.photos])
        for item in items
    ]


def folders_of(source: Path) -> list[tuple[str, list[str]]]:
    return shown(one_subject_each(list_input(str(source))), source)


class TestOnePhotoEach:
    def test_an_item_is_its_photo(self, tmp_path):
        touch(tmp_path, *NESTED)
        photos = list(list_input(str(tmp_path)))
        items = list(one_photo_each(photos))
        assert items == [ListedItem(photo.id, photo.uri, (photo,)) for photo in photos]
        assert len(items) == len(NESTED)

    def test_it_streams(self):
        assert next(one_photo_each(iter_then_fail(listed("/a/1.jpg")))).uri == "/a/1.jpg"


class TestOneFolderEach:
    def test_an_item_is_what_lies_directly_in_a_folder(self, tmp_path):
        touch(tmp_path, *NESTED)
        assert sorted(folders_of(tmp_path)) == [
            ("", ["z.jpg"]),
            ("a", ["1.jpg", "2.jpg"]),
            ("a/b", ["1.jpg"]),
            ("a/b/c", ["1.jpg"]),
            ("ab", ["1.jpg"]),
            ("empty/below", ["1.jpg"]),
        ]

    def test_the_order_is_that_in_which_folders_are_left(self, tmp_path):
        touch(tmp_path, *NESTED)
        order = [folder for folder, _ in folders_of(tmp_path)]
        assert order == ["a/b/c", "a/b", "a", "ab", "empty/below", ""]

    def test_the_order_of_two_listings_is_the_same(self, tmp_path):
        touch(tmp_path, *reversed(NESTED))
        first = list(one_subject_each(list_input(str(tmp_path))))
        assert list(one_subject_each(list_input(str(tmp_path)))) == first

    def test_photos_are_in_the_order_of_their_uris(self, tmp_path):
        touch(tmp_path, "p/10.jpg", "p/2.jpg", "p/1.jpg", "p/ä.jpg", "p/B.jpg")
        assert folders_of(tmp_path) == [("p", ["1.jpg", "10.jpg", "2.jpg", "B.jpg", "ä.jpg"])]

    def test_ids_are_made_of_the_folder_alone(self, tmp_path):
        touch(tmp_path, "p/1.jpg", "q/1.jpg")
        before = {item.uri: item.id for item in one_subject_each(list_input(str(tmp_path)))}
        touch(tmp_path, "p/2.jpg", "p/below/3.jpg", "o/1.jpg")
        after = {item.uri: item.id for item in one_subject_each(list_input(str(tmp_path)))}
        assert before.items() < after.items()
        uri = str(tmp_path / "p")
        digest = hashlib.sha256(uri.encode()).digest()
        assert after[uri] == int.from_bytes(digest[:8], "big", signed=True)

    def test_a_folder_that_its_subfolders_split_is_one_item(self):
        # Object storage lists keys in their order, without regard to folders.
        keys = sorted(
            f"s3://b/{name}" for name in ("p/a.jpg", "p/b/1.jpg", "p/b/2.jpg", "p/c.jpg", "p/d/1.jpg")
        )
        assert shown(one_subject_each(listed(*keys)), "s3://b") == [
            ("p/b", ["1.jpg", "2.jpg"]),
            ("p/d", ["1.jpg"]),
            ("p", ["a.jpg", "c.jpg"]),
        ]

    def test_folders_whose_names_begin_alike_are_apart(self):
        keys = sorted(f"s3://b/{name}" for name in ("p/1.jpg", "p-2/1.jpg", "p2/1.jpg", "p/2/1.jpg", "p.jpg"))
        assert [folder for folder, _ in shown(one_subject_each(listed(*keys)), "s3://b")] == [
            "p-2",
            "p/2",
            "p",
            "p2",
            "",
        ]

    def test_every_photo_is_in_one_item(self, tmp_path):
        touch(tmp_path, *NESTED)
        photos = list(list_input(str(tmp_path)))
        items = list(one_subject_each(photos))
        assert sorted(photo.id for item in items for photo in item.photos) == sorted(p.id for p in photos)
        assert len({item.id for item in items}) == len(items)

    def test_only_folders_that_are_not_left_are_held(self):
        # The third folder has begun: the first two are complete, and are not waited for.
        items = one_subject_each(iter_then_fail(listed("/r/a/1", "/r/b/1", "/r/c/1")))
        assert [next(items).uri, next(items).uri] == ["/r/a", "/r/b"]

    def test_a_list_that_comes_back_to_a_folder_is_refused(self, tmp_path):
        touch(tmp_path, "p/1.jpg", "q/1.jpg", "p/2.jpg")
        (tmp_path / "list.txt").write_text("p/1.jpg\nq/1.jpg\np/2.jpg\n")
        with pytest.raises(InputError, match=r"one after the other.*p\b"):
            list(one_subject_each(list_input(str(tmp_path / "list.txt"))))
        (tmp_path / "list.txt").write_text("p/2.jpg\np/1.jpg\nq/1.jpg\n")
        assert folders_of(tmp_path / "list.txt")[0][1] == ["1.jpg", "2.jpg"]


def iter_then_fail(files: list[ListedFile]):
    yield from files
    raise AssertionError("more was asked for than is needed")


SUBJECTS = {
    "list.csv": "subject,uri\nanna,x/2.jpg\nanna,y/1.jpg\n7,x/3.jpg\n,x/4.jpg\n",
    "list.tsv": "URI\tPerson ID\nx/2.jpg\tanna\ny/1.jpg\tanna\nx/3.jpg\t7\nx/4.jpg\t\n",
    "list.jsonl": '{"uri": "x/2.jpg", "subject": "anna"}\n{"uri": "y/1.jpg", "subject": "anna"}\n'
    '{"uri": "x/3.jpg", "subject": 7}\n{"uri": "x/4.jpg", "subject": null}\n',
    "list.parquet": pa.table(
        {
            "subject": pa.array(["anna", "anna", "7", None]).dictionary_encode(),
            "uri": ["x/2.jpg", "y/1.jpg", "x/3.jpg", "x/4.jpg"],
        }
    ),
}


class TestSubjectsOfAList:
    @pytest.mark.parametrize("name", SUBJECTS)
    def test_an_item_is_a_subject_wherever_its_photos_lie(self, tmp_path, name):
        content = SUBJECTS[name]
        if isinstance(content, str):
            (tmp_path / name).write_text(content)
        else:
            pq.write_table(content, tmp_path / name)
        items = list(one_subject_each(list_input(str(tmp_path / name))))
        assert [(item.uri, [photo.uri for photo in item.photos]) for item in items] == [
            ("anna", [f"{tmp_path}/x/2.jpg", f"{tmp_path}/y/1.jpg"]),
            ("7", [f"{tmp_path}/x/3.jpg"]),
            (f"{tmp_path}/x", [f"{tmp_path}/x/4.jpg"]),
        ]

    def test_a_subject_that_comes_back_is_an_error(self):
        photos = [ListedFile(k, f"/{k}.jpg", subject=who) for k, who in enumerate(("anna", "bert", "anna"))]
        with pytest.raises(InputError, match="the photos of a subject one after the other: anna"):
            list(one_subject_each(photos))
