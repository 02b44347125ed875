"""Parts, shards and markers: what a reader sees is whole, and doing a thing twice does it once."""

import csv
import hashlib
import json
import signal
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from faulty_store import FaultyStore, full_disk
from normals_run import count_rows, work_in, write_rows
from run_folder import face, failed, lit_crop, no_face, ok

from pipeline.config import load_config
from pipeline.errors import ConfigError, OutputError
from pipeline.images.png import decode_png
from pipeline.recipes.face_record import FORMAT, check_faces, file_stem
from pipeline.recipes.normals import NormalsOutputConfig, NormalsRun
from pipeline.run.counts import Counts
from pipeline.run.ledger import Ledger
from pipeline.run.markers import Marker, check_files, committed_shards, read_markers
from pipeline.run.plan import Plan
from pipeline.run.shards import commit_shard, committed_codes
from pipeline.storage.store import SCRATCH, Store, drop_scratch

CHUNKS = [
    [ok(1, "/a.jpg", [face(0), face(1)]), failed(2, "/b.jpg", "truncated", "Cut.")],
    [ok(3, "/c", [face()])],
]


def write_chunks(store: Store, session: str = "s", shard: int = 7) -> Counts:
    total = Counts()
    for chunk, rows in enumerate(CHUNKS):
        write_rows(work_in(store, session), shard, chunk, rows)
        total += count_rows(rows, 100, {"read": 0.5})
    return total


def commit(store: Store, files: str = "none", session: str = "s") -> Marker:
    counts = write_chunks(store, session)
    return commit_shard(work_in(store, session, files=files), 7, counts)


def test_shard_holds_the_rows_in_order_and_its_marker_the_sums(tmp_path):
    store = Store(str(tmp_path))
    commit(store)
    table = ds.dataset(f"{tmp_path}/records").to_table()
    assert table["uri"].to_pylist() == ["/a.jpg", "/b.jpg", "/c"]
    assert committed_shards(store) == {7}
    (marker,) = read_markers(store, {7})
    assert marker.counts.to_json() == {
        "records": 3,
        "images": 3,
        "found": {"faces": 3},
        "bytes_read": 200,
        "duplicates": 0,
        "status": {"ok": 2, "failed": 1},
        "error_code": {"truncated": 1},
        "examples": {"truncated": [("/b.jpg", "Cut.")]},
        "stage_seconds": {"read": 1.0},
    }
    for file in marker.files:
        content = store.read(file.name)
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert not (tmp_path / SCRATCH / "s" / "00007").exists()


@pytest.mark.parametrize("png", ["none", "folder", "tar"])
def test_shard_done_twice_has_the_same_bytes(tmp_path, png):
    first, second = (commit(Store(str(tmp_path / name)), png, name) for name in "ab")
    assert (first.counts, first.files) == (second.counts, second.files)
    commit(Store(str(tmp_path / "a")), png, "again")
    content = {
        name: {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in "ab"
    }
    for files in content.values():
        assert files.pop(Path("_done/00007.json"))  # tells the session
    assert content["a"] == content["b"]


PNGS = ("crop_png", "normal_png", "mask_png")
FACES = ("a-0000000001-0", "a-0000000001-1", "c-0000000003-0")


@pytest.mark.parametrize(
    ("uri", "stem"),
    [
        ("/a/-rf.jpg", "rf"),
        ("/a/two words & $(x).tar.png", "two_words_x_.tar"),
        ("https://x.org/a.jpg?sig=b/c", "a"),
        ("/a/Gesicht_\u00e4.jpg", "Gesicht_\u00e4"),
        ("/a/" + "n" * 200, "n" * 40),
        ("file:///a/%E9.jpg", "E9"),
        ("/a/---.jpg", "photo"),
    ],
)
def test_names_of_files_are_safe_and_say_the_photo(uri, stem):
    assert file_stem({"uri": uri, "id": -(1 << 62) - 7}) == f"{stem}-fffffffff9"


def test_pngs_as_files(tmp_path):
    commit(Store(str(tmp_path)), "folder")
    folder = tmp_path / "files" / "shard-00007"
    names = {f"{face}-{kind}.png" for face in FACES for kind in ("crop", "normal", "mask")}
    assert {path.name for path in folder.iterdir()} == names
    assert decode_png((folder / "a-0000000001-1-mask.png").read_bytes()).shape == (256, 256)


@pytest.mark.parametrize("files", ["folder", "tar"])
def test_an_index_says_which_photo_a_file_is_of(tmp_path, files):
    commit(Store(str(tmp_path)), files)
    with open(tmp_path / "files" / "shard-00007.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [
        f"{face}-{kind}.png" for face in FACES for kind in ("crop", "normal", "mask")
    ]
    by_id = {row["id"]: row["uri"] for row in ds.dataset(tmp_path / "records").to_table().to_pylist()}
    assert all(by_id[int(row["id"])] == row["uri"] for row in rows)


@pytest.mark.parametrize(
    ("images", "kept"), [("normals", {"normal_png", "mask_png"}), ("none", set()), ("all", set(PNGS))]
)
def test_records_without_some_images_and_files_with_them(tmp_path, images, kept):
    output = NormalsOutputConfig(files="folder", images=images, file_images="normals")
    store = Store(str(tmp_path))
    counts = write_chunks(store)
    commit_shard(work_in(store, config=NormalsRun(output=output)), 7, counts)
    rows = [row for rows in CHUNKS for row in rows]
    names = {path.name for path in (tmp_path / "files" / "shard-00007").iterdir()}
    assert names == {f"{face}-{kind}.png" for face in FACES for kind in ("normal", "mask")}
    table = ds.dataset(tmp_path / "records").to_table()
    assert table.schema.equals(FORMAT.schema)
    for row, before in zip(table.to_pylist(), rows, strict=True):
        assert not list(check_faces(row, NormalsRun(output=output), True))
        for found, original in zip(row["faces"], before["faces"], strict=True):
            assert {name for name in PNGS if found[name] is not None} == kept
            assert found["mask_share"] == pytest.approx(original["mask_share"])
            assert found["landmarks"] == original["landmarks"]


def test_a_tar_is_made_of_what_the_records_hold():
    with pytest.raises(ConfigError, match="files=tar with file_images=all needs images=all"):
        load_config(NormalsRun, None, ["output.files=tar", "output.images=normals"])


def test_pngs_as_tar(tmp_path):
    commit(Store(str(tmp_path)), "tar")
    with tarfile.open(tmp_path / "files" / "shard-00007.tar") as tar:
        assert len(tar.getnames()) == 9
        member = tar.extractfile("c-0000000003-0-normal.png")
        assert member is not None
        assert decode_png(member.read()).shape == (256, 256, 3)
        assert all(info.mtime == 0 and not info.uname for info in tar)


@pytest.mark.parametrize("broken", ["_done/", "records/", "files/"])
def test_shard_that_cannot_be_written_whole_is_not_there(tmp_path, broken):
    store = Store(str(tmp_path))
    with pytest.raises(OutputError, match="no space"):
        commit(FaultyStore(str(tmp_path), full_disk(broken)), "tar")
    assert committed_shards(store) == set()
    commit(store, "tar", "next")
    assert committed_shards(store) == {7}


def test_lost_part_is_noticed(tmp_path):
    store = Store(str(tmp_path))
    counts = write_chunks(store)
    with pytest.raises(OutputError, match="2 records for 3 items"):
        commit_shard(work_in(store, chunks=1), 7, counts)
    assert committed_shards(store) == set()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"shard": 7}', b"\xff"])
def test_damaged_marker_is_named(tmp_path, content):
    store = Store(str(tmp_path))
    commit(store)
    store.write("_done/00007.json", content)
    with pytest.raises(OutputError, match=r"00007\.json is damaged"):
        read_markers(store, {7})


def test_strange_files_beside_the_markers_are_no_shards(tmp_path):
    store = Store(str(tmp_path))
    names = (
        "readme.txt",
        "x.json",
        ".json",
        "00002.json.bak",
        "3.json",
        "000004.json",
        "²²²²².json",
        "-0005.json",
    )
    for name in ("00001.json", "123456.json", *names):
        store.write(f"_done/{name}", b"{}")
    assert committed_shards(store) == {1, 123456}


def test_committing_again_after_it_has_ended_does_nothing(tmp_path):
    store = Store(str(tmp_path))
    counts = write_chunks(store)
    first = commit_shard(work_in(store), 7, counts)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert commit_shard(work_in(store), 7, counts) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def check_files_of(store: Store) -> None:
    check_files(store, read_markers(store, committed_shards(store)))


@pytest.mark.parametrize("png", ["none", "tar"])
def test_files_that_are_gone_or_cut_short_are_noticed_by_a_listing(tmp_path, png):
    store = Store(str(tmp_path))
    check_files_of(store)
    commit(store, png)
    check_files_of(store)
    for path in (*tmp_path.glob("records/*"), *tmp_path.glob("files/*")):
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(OutputError, match=rf"Shard 7 .*{path.name} has [0-9,]+ of .*--repair"):
            check_files_of(store)
        path.unlink()
        with pytest.raises(OutputError, match=rf"Shard 7 .*{path.name} is missing"):
            check_files_of(store)
        path.write_bytes(content)
    check_files_of(store)


class TestMerging:
    """New records of some photos take the place of their old ones."""

    NEW = ok(2, "/b.jpg", [face(0, lit_crop((1, 0, 1), (0.2, 0.5, 0.3)))], b"b")

    def parts(self, store: Store, session: str, chunks: list[list[dict]], shard: int = 7) -> Counts:
        total = Counts()
        for chunk, rows in enumerate(chunks):
            write_rows(work_in(store, session), shard, chunk, rows)
            total += count_rows(rows, 50, {"read": 0.25})
        return total

    CODES = frozenset({"truncated"})

    def merge(self, store: Store, chunks: list[list[dict]], files: str = "none") -> Marker:
        counts = self.parts(store, "again", chunks)
        return commit_shard(work_in(store, "again", files=files, codes=self.CODES), 7, counts)

    @pytest.mark.parametrize("png", ["none", "folder", "tar"])
    def test_same_files_as_if_the_new_records_had_been_the_first(self, tmp_path, png):
        merged, straight = Store(str(tmp_path / "merged")), Store(str(tmp_path / "straight"))
        commit(merged, png)
        marker = self.merge(merged, [[self.NEW], []], png)
        counts = self.parts(straight, "s", [[CHUNKS[0][0], self.NEW], CHUNKS[1]])
        expected = commit_shard(work_in(straight, files=png), 7, counts)
        files = [
            {
                str(path.relative_to(root)): path.read_bytes()
                for path in root.rglob("*")
                if path.is_file() and path.parent.name != "_done"
            }
            for root in (tmp_path / "merged", tmp_path / "straight")
        ]
        assert files[0] == files[1]
        assert marker.files == expected.files
        for name in ("records", "images", "found", "statuses", "error_codes", "examples"):
            assert getattr(marker.counts, name) == getattr(expected.counts, name)
        assert marker.counts.bytes_read == 300
        assert marker.counts.seconds["read"] == 1.5

    def test_the_marker_is_gone_while_files_change(self, tmp_path):
        store, seen = Store(str(tmp_path)), {}
        commit(store)

        def watch(name):
            seen[name] = committed_shards(store)

        self.merge(FaultyStore(str(tmp_path), watch), [[self.NEW], []])
        assert seen["records/shard-00007.parquet"] == seen["_done/00007.json"] == set()
        assert committed_shards(store) == {7}

    def test_merging_again_after_it_has_ended_does_nothing(self, tmp_path):
        store = Store(str(tmp_path))
        commit(store)
        first = self.merge(store, [[self.NEW], []])
        assert commit_shard(work_in(store, "again", codes=self.CODES), 7, Counts(records=1)) == first

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda path: path.unlink(), "its records are gone"),
            (lambda path: path.write_bytes(path.read_bytes()[:-1]), "not what its marker says"),
            (
                lambda path: path.write_bytes(path.read_bytes().replace(b"Cut.", b"Cat.")),
                "not what its marker",
            ),
        ],
    )
    def test_nothing_is_merged_into_what_is_not_whole(self, tmp_path, spoil, reason):
        store = Store(str(tmp_path))
        commit(store)
        spoil(tmp_path / "records" / "shard-00007.parquet")
        with pytest.raises(OutputError, match=reason):
            self.merge(store, [[self.NEW], []])
        assert committed_shards(store) == {7}, "it is validation that clears markers"

    def test_nothing_is_merged_into_a_shard_that_is_not_committed(self, tmp_path):
        store = Store(str(tmp_path))
        commit(store)
        store.remove("_done/00007.json")
        with pytest.raises(OutputError, match="its marker is gone"):
            self.merge(store, [[self.NEW], []])

    @pytest.mark.parametrize("chunks", [[[ok(9, "/x", [])], []], [[], [NEW]]])
    def test_records_of_photos_that_the_chunk_does_not_have_are_refused(self, tmp_path, chunks):
        store = Store(str(tmp_path))
        commit(store)
        with pytest.raises(OutputError, match="does not have"):
            self.merge(store, chunks)

    def test_codes_of_a_committed_shard(self, tmp_path):
        store = Store(str(tmp_path))
        commit(store)
        assert committed_codes(store, "s", 7) == {1: None, 2: "truncated", 3: None}
        with pytest.raises(OutputError, match="Shard 8"):
            committed_codes(store, "s", 8)
        store.write("records/shard-00009.parquet", b"PAR1")
        with pytest.raises(OutputError, match="Shard 9"):
            committed_codes(store, "s", 9)


class TestDuplicates:
    def duplicates(self, tmp_path: Path, *chunks: list[dict]) -> tuple[list[int | None], int]:
        store = Store(str(tmp_path))
        total = Counts()
        for chunk, rows in enumerate(chunks):
            write_rows(work_in(store), 0, chunk, rows)
            total += count_rows(rows)
        marker = commit_shard(work_in(store, chunks=len(chunks)), 0, total)
        table = ds.dataset(f"{tmp_path}/records").to_table()
        assert len(table) == marker.counts.images
        return table["duplicate_of"].to_pylist(), marker.counts.duplicates

    def test_are_found_across_the_chunks_of_a_shard(self, tmp_path):
        first, other = ok(1, "/1", [face()], b"x"), ok(2, "/2", [face()], b"y")
        again = [ok(number, f"/{number}", [face()], b"x") for number in (3, 4, 5)]
        # Within its chunk 5 was taken as a repetition of 4, and both are of the first.
        again[2]["duplicate_of"] = 4
        assert self.duplicates(tmp_path, [first, other], again) == ([None, None, 1, 1, 1], 3)

    def test_photos_without_a_face_and_failures_too(self, tmp_path):
        rows = [no_face(1, "/1", b"x"), no_face(2, "/2", b"x")]
        rows += [failed(number, f"/{number}", "truncated", "Cut.") | {"sha256": "ab"} for number in (3, 4)]
        assert self.duplicates(tmp_path, rows[:3], rows[3:]) == ([None, 1, None, 3], 2)

    def test_photos_that_were_not_read_are_none(self, tmp_path):
        rows = [failed(number, f"/{number}", "not_found", "Gone.") for number in (1, 2)]
        assert self.duplicates(tmp_path, rows) == ([None, None], 0)

    def test_the_same_bytes_with_another_result_are_none(self, tmp_path):
        moved = face() | {"landmarks": [1.0] * 136}
        rows = [
            ok(1, "/1", [face()], b"x"),
            failed(2, "/2", "crashed", "") | {"sha256": ok(1, "/1", [], b"x")["sha256"]},
            ok(3, "/3", [moved], b"x"),
            ok(4, "/4", [moved], b"x"),
        ]
        assert self.duplicates(tmp_path, rows) == ([None, None, None, 3], 1)


def test_counts_add_up_and_survive_json():
    rows = [failed(number, f"/{number}", "truncated", "Cut.") for number in range(5)]
    total = count_rows(rows, 10, {"crop": 1.0})
    total += count_rows([*rows[:2], *CHUNKS[0]], 20, {"crop": 0.5, "write": 2.0})
    assert (total.images, total.found["faces"], total.bytes_read, total.failures) == (9, 2, 30, 8)
    assert total.examples == {"truncated": [("/0", "Cut."), ("/1", "Cut."), ("/2", "Cut.")]}
    assert Counts.from_json(json.loads(json.dumps(total.to_json()))) == total


def test_examples_tell_no_secrets():
    total = count_rows([failed(1, "https://user:word@host/a.jpg?token=x", "timeout", "Late.")], 0, {})
    assert total.examples == {"timeout": [("https://host/a.jpg", "Late.")]}


def test_ledger_says_when_a_shard_is_complete():
    ledger = Ledger(Plan(items=50, images=50, bytes=0, shard_size=30, chunk_size=10, digest=""))

    def part(shard, chunk):
        return ledger.add(shard, chunk, count_rows([failed(chunk, f"/{chunk}", "x", "")], 0, {}))

    assert [part(0, 2), part(1, 0), part(0, 0), part(0, 0)] == [None] * 4
    total = part(0, 1)
    assert total is not None
    assert total.images == 3
    assert [uri for uri, _ in total.examples["x"]] == ["/0", "/1", "/2"]
    assert part(1, 1) is not None


class TestStore:
    def test_file_appears_only_when_it_is_whole(self, tmp_path):
        store = Store(str(tmp_path / "out"))
        stack = ExitStack()
        file = stack.enter_context(store.create("a/b.bin"))
        file.write(b"half")
        with pytest.raises(ZeroDivisionError), stack:
            _ = 1 / 0
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        with store.create("a/b.bin") as file:
            file.write(b"who")
            file.write(memoryview(b"le"))
            assert not (tmp_path / "out" / "a").joinpath("b.bin").exists()
        assert store.read("a/b.bin") == b"whole"
        assert (file.size, file.sha256) == (5, hashlib.sha256(b"whole").hexdigest())

    def test_listing_and_removing(self, tmp_path):
        store = Store(f"file://{tmp_path}/out")
        assert store.names() == store.names("nothing") == []
        store.write("a/x", b"1")
        store.write("b", b"2")
        assert (store.names(), store.names("a")) == (["a", "b"], ["x"])
        store.remove("a")
        store.remove("a")
        assert store.names() == ["b"]

    def test_odd_folder_names(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        store = Store("zwei::drei/ü #?%20/")
        store.write("x", b"1")
        assert (tmp_path / "zwei::drei" / "ü #?%20" / "x").read_bytes() == b"1"
        monkeypatch.chdir("/")
        assert store.read("x") == b"1"

    def test_impossible_places_are_explained(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        for url in (f"{tmp_path}/file", f"{tmp_path}/file/below", "nosuchscheme://x/y", "/proc/facet"):
            with pytest.raises(OutputError, match="Cannot write"):
                Store(url).write("x", b"1")
        with pytest.raises(FileNotFoundError):
            Store(str(tmp_path)).read("nothing")


@pytest.mark.s3
def test_shard_on_s3(moto_bucket):
    storage, _ = moto_bucket
    with pytest.raises(OutputError, match="bucket"):
        Store("s3://missing/x", storage).write("a", b"1")
    store = Store("s3://facet/some/run", storage)
    assert store.names() == []
    commit(store, "tar")
    assert store.names() == ["_done", "files", "records"]
    assert committed_shards(store) == {7}
    (marker,) = read_markers(store, {7})
    for file in marker.files:
        assert hashlib.sha256(store.read(file.name)).hexdigest() == file.sha256
    with store.open("records/shard-00007.parquet") as file:
        assert pq.read_table(file).num_rows == 3
    store.remove("records")
    assert store.names("records") == []


DIES_WRITING = """
import os, signal, sys
from pipeline.storage.store import Store

with Store(sys.argv[1]).of_session("s").create("records/shard-00000.parquet") as file:
    file.write(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_was_writing_goes_with_its_session(tmp_path):
    store = Store(str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", DIES_WRITING, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(store.names(f"{SCRATCH}/s")) == 1
    store.of_session("s").write("run.json", b"{}")
    store.write("plan.json", b"{}")
    assert len(store.names(f"{SCRATCH}/s")) == 1
    drop_scratch(store, "s")
    assert store.names() == ["plan.json", "run.json"]
