"""Validation: whatever is wrong with a shard is found and named, and what is not wrong is left alone."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from faulty_store import FaultyStore
from normals_run import count_rows, write_rows
from run_folder import face, failed, no_face, ok

from jobs.validate import command
from pipeline.errors import OutputError
from pipeline.images.items import ListedFile, ListedItem, one_photo_each
from pipeline.images.png import encode_png
from pipeline.recipes.face_record import allowed_length_error, length_error
from pipeline.recipes.normals import RECIPE, NormalsOutputConfig, NormalsRun
from pipeline.run import check
from pipeline.run.config import PlanConfig
from pipeline.run.counts import Counts
from pipeline.run.markers import committed_shards
from pipeline.run.plan import Plan, read_plan
from pipeline.run.plan_photos import chunk_items, write_plan
from pipeline.run.shards import commit_shard
from pipeline.run.validate import describe_validation, validate_run
from pipeline.run.work import Work
from pipeline.storage.store import Store

SHARDS, CHUNKS = 3, 2


def row_of(photo: ListedItem, bits: int = 8) -> dict[str, Any]:
    kind = photo.id % 4
    if kind == 0:
        return no_face(photo.id, photo.uri, photo.uri.encode())
    if kind == 1:
        return failed(photo.id, photo.uri, "truncated", "Cut.")
    return ok(photo.id, photo.uri, [a_face(index, bits) for index in range(kind - 1)], photo.uri.encode())


def a_face(index: int, bits: int) -> dict[str, Any]:
    return dict(_face(index, bits))


_face = functools.cache(lambda index, bits: face(index, bits=bits))


def make_run(store: Store, output: NormalsOutputConfig, uncommitted: int | None = None) -> Plan:
    """Writes three shards of four photos each: one without a face, one that failed, and three faces."""
    photos = [ListedFile(number, f"/photos/{number}.jpg", 100) for number in range(SHARDS * 4)]
    plan = write_plan(store, one_photo_each(photos), PlanConfig(shard_size=4, chunk_size=2))
    config = NormalsRun(output=output).model_dump(mode="json")
    store.write(
        "run.json",
        json.dumps(
            {"kind": "facet normals", "status": "complete", "started": "2026-03-01", "config": config}
        ).encode(),
    )
    for shard in set(range(SHARDS)) - {uncommitted}:
        commit(store, plan, shard, output, lambda rows: rows)
    return plan


def commit(store: Store, plan: Plan, shard: int, output: NormalsOutputConfig, change: Callable) -> None:
    total = Counts()
    work = Work(store, f"s{shard}", plan, RECIPE, NormalsRun(output=output))
    for chunk in range(CHUNKS):
        rows = change([row_of(photo, output.bits) for photo in chunk_items(store, plan, shard, chunk)])
        write_rows(work, shard, chunk, rows)
        total += count_rows(rows)
    commit_shard(work, shard, total)


@pytest.fixture(scope="module")
def sound_runs(tmp_path_factory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def run(png: str) -> Path:
        if png not in made:
            made[png] = tmp_path_factory.mktemp(png) / "out"
            make_run(Store(str(made[png])), NormalsOutputConfig(files=png))
        return made[png]

    return run


@pytest.fixture
def run(sound_runs, tmp_path) -> Callable[..., Path]:
    """Copies a sound run to where it may be spoilt."""

    def copy(png: str = "none") -> Path:
        return Path(shutil.copytree(sound_runs(png), tmp_path / "out"))

    return copy


def reasons(out: Path, **options: Any) -> dict[int, list[str]]:
    return {
        found.shard: found.reasons for found in validate_run(RECIPE, str(out), workers=1, **options).problems
    }


class TestSound:
    @pytest.mark.parametrize("png", ["none", "folder", "tar"])
    def test_sound_runs(self, sound_runs, png):
        found = validate_run(RECIPE, str(sound_runs(png)), workers=1)
        assert found.sound
        assert (found.shards, found.committed, found.open, found.leftovers) == (3, 3, [], [])
        assert (found.counts.images, found.counts.found["faces"], found.counts.failures) == (12, 9, 3)

    def test_16_bits_and_another_convention(self, tmp_path):
        store = Store(str(tmp_path))
        make_run(store, NormalsOutputConfig(bits=16, convention="opencv"))
        assert reasons(tmp_path) == {}
        state = json.loads((tmp_path / "run.json").read_text())
        state["config"]["output"]["bits"] = 8
        (tmp_path / "run.json").write_text(json.dumps(state))
        assert all("normal_png is no PNG of 256x256" in found[0] for found in reasons(tmp_path).values())

    def test_processes_find_the_same(self, run):
        out = run()
        for shard in (0, 2):
            (out / "records" / f"shard-{shard:05d}.parquet").write_bytes(b"")
        alone, together = (validate_run(RECIPE, str(out), workers=workers) for workers in (1, 2))
        assert alone == together
        assert [found.shard for found in together.problems] == [0, 2]

    def test_open_shards_and_leftovers_are_no_fault(self, run):
        out = run("tar")
        (out / "_done" / "00001.json").unlink()
        (out / "records" / "notes.txt").write_text("mine")
        found = validate_run(RECIPE, str(out), workers=1)
        assert found.sound
        assert (found.committed, found.open, found.counts.images) == (2, [1], 8)
        assert found.leftovers == [
            "records/notes.txt",
            "records/shard-00001.parquet",
            "files/shard-00001.csv",
            "files/shard-00001.tar",
        ]
        assert "Still to be done by `facet normals`: 1 shard." in describe_validation(found, RECIPE, "out")


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"", "damaged"), (b"{}", "damaged"), (b"\xff", "damaged"), (b"[]", "damaged"), (b'"x"', "damaged")],
    )
    def test_damaged_marker(self, run, content, reason):
        out = run()
        (out / "_done" / "00001.json").write_bytes(content)
        assert reasons(out) == {1: [f"its marker is {reason}"]}

    def test_marker_of_another_shard(self, run):
        out = run()
        shutil.copy(out / "_done" / "00000.json", out / "_done" / "00001.json")
        (found,) = reasons(out).values()
        assert found[:2] == [
            "its marker is that of shard 0",
            "its marker does not name records/shard-00001.parquet alone",
        ]

    def test_marker_that_the_plan_does_not_have(self, run):
        out = run()
        shutil.copy(out / "_done" / "00000.json", out / "_done" / "00099.json")
        assert reasons(out) == {99: ["the plan has no such shard"]}

    def test_marker_without_its_file(self, run):
        out = run()
        (out / "records" / "shard-00002.parquet").unlink()
        assert reasons(out) == {2: ["records/shard-00002.parquet is missing"]}

    def test_file_cut_short(self, run):
        out = run()
        path = out / "records" / "shard-00000.parquet"
        size = path.stat().st_size
        path.write_bytes(path.read_bytes()[:-9])
        assert reasons(out) == {
            0: [f"records/shard-00000.parquet has {size - 9:,} bytes, and its marker says {size:,}"]
        }

    def test_one_bit_turned(self, run):
        out = run()
        path = out / "records" / "shard-00000.parquet"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert reasons(out) == {0: ["records/shard-00000.parquet has other content than its marker says"]}

    def test_tar_is_missing_or_cut(self, run):
        out = run("tar")
        (out / "files" / "shard-00000.tar").unlink()
        (out / "files" / "shard-00001.tar").write_bytes(b"x" * 512)
        found = reasons(out)
        assert found[0] == ["files/shard-00000.tar is missing"]
        assert found[1][0].startswith("files/shard-00001.tar has 512 bytes")

    def test_loose_pngs_are_missing_or_cut(self, run):
        out = run("folder")
        shutil.rmtree(out / "files" / "shard-00000")
        (out / "files" / "shard-00001" / "6-0000000006-0-mask.png").unlink()
        (out / "files" / "shard-00002" / "11-000000000b-1-crop.png").write_bytes(b"x")
        assert reasons(out) == {
            0: ["9 files are missing in files/shard-00000, 2-0000000002-0-crop.png first"],
            1: ["1 files are missing in files/shard-00001, 6-0000000006-0-mask.png first"],
            2: ["1 files in files/shard-00002 are not whole, 11-000000000b-1-crop.png first"],
        }


def with_face(**values: Any) -> Callable:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            for item in row["faces"][:1]:
                item.update(values)
        return rows

    return change


def with_row(kind: int, **values: Any) -> Callable:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row | values if row["id"] % 4 == kind else row for row in rows]

    return change


def as_png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


FLAT = np.full((256, 256, 3), (128, 128, 200), np.uint8)
POINTS = {
    "points": [1.0, 2.0, 0.5] * 500,
    "visible": [255] * 500,
    "rotation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    "points_sigma": 0.01,
}
WHOLE = encode_png(np.zeros((256, 256), np.uint8))


class TestRecords:
    """What a faulty program may have written, with a marker that belongs to it."""

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (
                with_row(0, id=77),
                "of its plan's 4 photos 1 are missing; 1 of its records are of other photos",
            ),
            (with_row(0, id=6), "and 1 are repeated"),
            (lambda rows: rows[::-1], "not in the order of the plan"),
            (with_row(2, uri="/elsewhere"), "photo 6 has another uri"),
            (with_row(0, status="fine"), "photo 4 has the unknown status 'fine'"),
            (with_row(2, status="failed"), "photo 6 has 1 faces and the status failed"),
            (with_row(0, status="ok"), "photo 4 has 0 faces and the status ok"),
            (with_row(1, error_code="no_face"), "photo 5 has the error code 'no_face' and the status failed"),
            (with_row(1, error_code=None), "photo 5 has the error code None"),
            (with_row(2, error_message="Hm."), "photo 6 has the error message 'Hm.' and the status ok"),
            (with_row(2, sha256=None), "photo 6 has no sha256"),
            (with_face(index=3), "has face 3 in place 0"),
            (with_face(landmarks=[1.0] * 20), "landmarks are not 68 points"),
            (with_face(landmarks=[float("nan")] * 136), "landmarks are not 68 points"),
            (with_face(crop_window={"left": 400, "top": 0, "size": 150}), "window is beyond the photo"),
            (with_face(crop_window={"left": 0, "top": -150, "size": 150}), "window is beyond the photo"),
            (with_face(mask_png=None), "has a face without mask_png"),
            (with_face(detector=None), "has a face without detector"),
            (with_face(**POINTS | {"rotation": None}), "with a part of what is known of its points"),
            (with_face(**POINTS | {"points": [1.0] * 1499}), "points are not 500 with a sigma each"),
            (with_face(**POINTS | {"points": [1.0, 2.0, 0.0] * 500}), "points have no sigma"),
            (with_face(**POINTS | {"visible": [255] * 136}), "visibilities are not 500"),
            (with_face(**POINTS | {"rotation": [1.0] * 9}), "rotation is none"),
            (with_face(crop_png=b""), "crop_png is no PNG of 256x256"),
            (with_face(crop_png=as_png(FLAT[:128])), "crop_png is no PNG of 256x256"),
            (with_face(crop_png=as_png(FLAT[..., 0])), "crop_png is no PNG of 256x256"),
            (with_face(crop_png=as_png(FLAT.astype(np.uint16))), "crop_png is no PNG of 256x256"),
            (with_face(crop_png=as_png(cv2.cvtColor(FLAT, cv2.COLOR_BGR2BGRA))), "crop_png is no PNG of"),
            (with_face(mask_png=as_png(FLAT)), "mask_png is no PNG of 256x256"),
            (with_face(mask_png=WHOLE[:-20]), "mask_png cannot be decoded"),
            (with_face(mask_png=as_png(FLAT[..., 0])), "mask has values other than 0 and 255"),
            (with_face(normal_png=as_png(FLAT)), "normals are not of unit length: off by up to 0.4"),
        ],
    )
    def test_faulty_records_are_named(self, run, change, reason):
        out = run()
        store = Store(str(out))
        plan = read_plan(store)
        store.remove("_done/00001.json")
        commit(store, plan, 1, NormalsOutputConfig(), change)
        found = reasons(out)
        assert set(found) == {1}
        assert any(reason in line for line in found[1]), found

    def test_normals_are_checked_by_sample(self, run):
        out = run()
        store = Store(str(out))
        store.remove("_done/00001.json")

        # Photos 6 and 7 have faces; the sample begins with the first of them.
        def spoil_the_second(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            for row in rows:
                if row["id"] == 7:
                    row["faces"][0]["normal_png"] = as_png(FLAT)
            return rows

        commit(store, read_plan(store), 1, NormalsOutputConfig(), spoil_the_second)
        assert reasons(out) == {}
        (row,) = pq.read_table(out / "records", filters=[("id", "==", 7)]).to_pylist()
        assert not list(check.check_record(row, RECIPE, NormalsRun(), thorough=False))
        assert list(check.check_record(row, RECIPE, NormalsRun(), thorough=True))

    def test_counts_that_are_not_those_of_the_records(self, run):
        out = run()
        path = out / "_done" / "00000.json"
        marker = json.loads(path.read_text())
        marker["counts"] |= {"found": {"faces": 4}, "status": {"ok": 4}}
        path.write_text(json.dumps(marker))
        assert reasons(out) == {
            0: [
                "its records differ from its marker in found: {'faces': 3}, and its marker says {'faces': 4}",
                "its records differ from its marker in status: {'ok': 2, 'no_face': 1, 'failed': 1}, and its "
                "marker says {'ok': 4}",
            ]
        }

    @pytest.mark.parametrize("content", [b"PAR1" * 99, "schema"])
    def test_file_that_is_none_of_ours_under_a_marker_that_fits(self, run, content):
        out = run()
        path = out / "records" / "shard-00000.parquet"
        if isinstance(content, str):
            pq.write_table(pa.table({"id": pa.array([1, 2, 3, 4], pa.int64())}), path)
        else:
            path.write_bytes(content)
        store = Store(str(out))
        with check.open_hashed(store, "records/shard-00000.parquet") as (_, size, digest):
            marker = json.loads((out / "_done" / "00000.json").read_text())
            marker["files"] = [{"name": "records/shard-00000.parquet", "size": size, "sha256": digest}]
        (out / "_done" / "00000.json").write_text(json.dumps(marker))
        (found,) = reasons(out)[0]
        assert found.startswith(
            "its records have another schema" if content == "schema" else "its records cannot"
        )

    def test_one_fault_in_every_row_is_not_said_for_every_row(self, run):
        out = run()
        store = Store(str(out))
        store.remove("_done/00001.json")
        commit(
            store,
            read_plan(store),
            1,
            NormalsOutputConfig(),
            with_face(crop_png=b"", mask_png=b"", normal_png=b""),
        )
        (found,) = validate_run(RECIPE, str(out), workers=1).problems
        assert (len(found.reasons), found.more) == (check.MOST_REASONS, 1)


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_rounding_is_within_what_is_allowed(bits, dtype):
    normals = np.random.default_rng(0).normal(size=(20_000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    largest = 2**bits - 1
    pixels = np.rint((normals + 1) * largest / 2).astype(dtype)
    error, allowed = length_error(pixels), allowed_length_error(bits)
    assert 0.3 * allowed < error <= allowed
    assert length_error((pixels * 0.98).astype(dtype)) > allowed
    assert length_error(pixels[:0]) == 0


class TestRepair:
    def test_markers_of_bad_shards_are_cleared_and_no_others(self, run):
        out = run()
        (out / "records" / "shard-00000.parquet").unlink()
        shutil.copy(out / "_done" / "00001.json", out / "_done" / "00099.json")
        assert committed_shards(Store(str(out))) == {0, 1, 2, 99}
        found = validate_run(RECIPE, str(out), workers=1, repair=True)
        assert found.repaired == [0, 99]
        assert committed_shards(Store(str(out))) == {1, 2}
        assert json.loads((out / "run.json").read_text())["status"] == "stopped"
        assert validate_run(RECIPE, str(out), workers=1).sound

    def test_nothing_is_touched_where_all_is_sound(self, run):
        out = run()
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        validate_run(RECIPE, str(out), workers=1, repair=True)
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before

    def test_storage_that_fails_clears_no_marker(self, run):
        out = run()

        def broken(name):
            raise OutputError(f"Cannot read {name}: No answer in time.")

        with pytest.raises(OutputError, match="No answer"):
            validate_run(RECIPE, FaultyStore(str(out), broken, "open"), workers=1, repair=True)
        assert committed_shards(Store(str(out))) == {0, 1, 2}


class TestCommandLine:
    def invoke(self, *arguments: object):
        return CliRunner().invoke(command, [*map(str, arguments), "--set", "engine.cpus=1"])

    def test_sound(self, run):
        done = self.invoke(run())
        assert done.exit_code == 0
        assert done.stdout == ("3 of 3 shards committed, with 12 records, 9 faces, all sound.\n")

    def test_not_sound_and_repaired(self, run):
        out = run()
        (out / "records" / "shard-00001.parquet").unlink()
        for options, line in (
            ([], f"`facet validate {out} --repair` clears their markers."),
            (
                ["--repair"],
                "Cleared: 1 marker.\nStill to be done by `facet normals`: 1 shard.",
            ),
        ):
            done = self.invoke(out, *options)
            assert done.exit_code == 1
            assert done.stdout == (
                "shard 00001: records/shard-00001.parquet is missing\n"
                f"3 of 3 shards committed, with 8 records, 6 faces, 1 not sound.\n{line}\n"
            )

    def test_json(self, run):
        out = run()
        (out / "records" / "shard-00001.parquet").unlink()
        done = self.invoke(out, "--json")
        assert done.exit_code == 1
        found = json.loads(done.stdout)
        assert (found["sound"], found["committed"], found["open"], found["repaired"]) == (False, 3, [], [])
        (problem,) = found["problems"]
        assert problem == {
            "shard": 1,
            "reasons": ["records/shard-00001.parquet is missing"],
            "more": 0,
        }

    def test_folders_without_a_run(self, tmp_path):
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(OutputError, match="holds no run"):
                validate_run(RECIPE, str(folder))
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(OutputError, match="something else"):
            validate_run(RECIPE, str(tmp_path))

    def test_damaged_plan_is_no_fault_of_the_shards(self, run):
        out = run()
        for path in (out / "plan").glob("*.parquet"):
            path.write_bytes(b"")
        with pytest.raises(OutputError, match=r"plan in .* is damaged"):
            validate_run(RECIPE, str(out), workers=1, repair=True)
        assert len(committed_shards(Store(str(out)))) == 3


@pytest.mark.s3
def test_on_s3(moto_bucket):
    storage, client = moto_bucket
    store = Store("s3://facet/run", storage)
    make_run(store, NormalsOutputConfig(files="folder"))
    assert validate_run(RECIPE, "s3://facet/run", storage, workers=1).sound
    content = store.read("records/shard-00001.parquet")
    client.put_object(Bucket="facet", Key="run/records/shard-00001.parquet", Body=content[:-1])
    client.delete_object(Bucket="facet", Key="run/files/shard-00002/11-000000000b-1-crop.png")
    found = validate_run(RECIPE, "s3://facet/run", storage, workers=1, repair=True)
    assert [problem.shard for problem in found.problems] == [1, 2]
    assert committed_shards(store) == {0}
