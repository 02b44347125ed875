"""Outputs that fail: a full disk, a read-only folder, files that are gone. One clear line, and it goes on."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from bad_images import encode, portrait
from faulty_store import FaultyStore
from normals_run import count_rows, work_in, write_rows
from run_folder import failed, ok

from jobs import entry
from jobs.normals import command
from pipeline.errors import OutputError
from pipeline.recipes.normals import RECIPE
from pipeline.run.counts import Counts
from pipeline.run.markers import committed_shards
from pipeline.run.shards import commit_shard
from pipeline.run.validate import validate_run
from pipeline.storage.store import Store


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 1 MB; skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = sys.platform == "linux" and _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    if not mounted:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def noisy_face(kilobytes: int) -> dict:
    """Returns the record of a photo with a face whose images take about so much."""
    data = np.random.default_rng(kilobytes).bytes(kilobytes << 10)
    row = ok(1, "/1.jpg", [{"index": 0, "crop_png": data, "normal_png": b"", "mask_png": b""}])
    row["faces"][0] |= dict.fromkeys(("box", "score", "landmarks", "crop_window"))
    return row


def write(store: Store, session: str, kilobytes: int) -> None:
    chunks = [[noisy_face(kilobytes)], [failed(2, "/2.jpg", "truncated", "Cut.")]]
    total, work = Counts(), work_in(store, session)
    for chunk, rows in enumerate(chunks):
        write_rows(work, 0, chunk, rows)
        total += count_rows(rows)
    commit_shard(work, 0, total)


class TestFullDisk:
    @pytest.mark.parametrize(
        ("kilobytes", "name"),
        [(1200, "_work/s/00000/0000.parquet"), (700, "records/shard-00000.parquet")],
    )
    def test_is_said_and_leaves_nothing_half_written(self, small_disk, kilobytes, name):
        store = Store(str(small_disk))
        with pytest.raises(OutputError, match=rf"Cannot write .*{name}: No space left on device"):
            write(store, "s", kilobytes)
        assert committed_shards(store) == set()
        whole = {str(path.relative_to(small_disk)) for path in small_disk.rglob("*") if path.is_file()}
        assert whole <= {"_work/s/00000/0000.parquet", "_work/s/00000/0001.parquet"}
        store.remove("_work")
        write(store, "next", 200)
        assert committed_shards(store) == {0}

    def test_marker_has_no_room(self, small_disk):
        store = Store(str(small_disk))

        def fill_first(name):
            if name.startswith("_done/"):
                with (small_disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
                    while True:
                        file.write(b"\0" * 4096)

        with pytest.raises(OutputError, match=r"Cannot write .*_done/00000\.json: No space left on device"):
            write(FaultyStore(str(small_disk), fill_first), "s", 100)
        assert committed_shards(store) == set()
        (small_disk / "filler").unlink()
        write(store, "next", 100)
        assert committed_shards(store) == {0}

    def test_read_only_disk(self, small_disk):
        write(Store(f"{small_disk}/there"), "s", 100)
        if not _mount("-o", "remount,ro", str(small_disk)):
            pytest.skip("file systems cannot be mounted again here")
        try:
            for output in ("new", "there"):
                store = Store(f"{small_disk}/{output}")
                with pytest.raises(OutputError, match=r"Cannot write .*: Read-only file system"):
                    write(store, "s", 100)
            assert committed_shards(Store(f"{small_disk}/there")) == {0}
        finally:
            _mount("-o", "remount,rw", str(small_disk))


@pytest.fixture(scope="module")
def three_photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    for number in range(3):
        pixels = portrait(160).copy()
        pixels[:2, :2] = number
        (folder / f"{number}.png").write_bytes(encode(pixels, "PNG"))
    return folder


@dataclass
class Ended:
    code: int
    stderr: str


@pytest.fixture
def facet(three_photos, random_weights, tmp_path, monkeypatch, capsys) -> Callable[..., Ended]:
    """Runs `facet normals` in shards of one photo; files may be limited to some bytes."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def run(largest_file: int | None = None) -> Ended:
        arguments = [str(three_photos), str(tmp_path / "out")]
        settings = ["plan.shard_size=1", "engine.name=local", "engine.cpus=1", "output.report=false"]
        for setting in [*settings, f"normals.weights={random_weights}"]:
            arguments += ["--set", setting]
        before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if largest_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
        try:
            with pytest.raises(SystemExit) as ended:
                entry.run(command, arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        return Ended(int(ended.value.code or 0), capsys.readouterr().err)

    return run


def assert_failed(ended: Ended, *words: str) -> None:
    """Asserts that a command ended with exit code 2 and one line that says why."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.startswith("facet: ")]
    assert len(lines) == 1, ended.stderr
    assert all(word in lines[0] for word in words), lines


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_run_goes_on_after_every_fault_of_its_output(facet, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "records").write_bytes(b"a file in the place of the folder")
    (out / "run.json").write_text('{"kind": "facet normals", "status": "planning", "started": "2026-03-01"}')
    assert_failed(facet(), "Cannot write", "records/shard-00000.parquet")
    (out / "records").unlink()
    # Plan, run.json and marker have room; the records of a photo do not.
    assert_failed(facet(largest_file=40_000), "Cannot write", "File too large")
    assert committed_shards(Store(str(out))) == set()
    assert facet().code == 0
    before = {path.name: path.read_bytes() for path in (out / "records").iterdir()}
    assert len(before) == ds.dataset(f"{out}/records").count_rows() == 3

    (out / "records" / "shard-00000.parquet").unlink()
    path = out / "records" / "shard-00002.parquet"
    path.write_bytes(before[path.name][:-100])
    assert_failed(facet(), "Shard 0", "shard-00000.parquet is missing", "facet validate", "--repair")
    assert validate_run(RECIPE, str(out), repair=True, workers=1).repaired == [0, 2]
    assert facet().code == 0
    assert {path.name: path.read_bytes() for path in (out / "records").iterdir()} == before
    assert validate_run(RECIPE, str(out), workers=1).sound
