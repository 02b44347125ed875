"""The main job on this machine: one row per file, resumable, and refusals that cost nothing."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from bad_images import encode, portrait
from click.testing import CliRunner
from faulty_detector import REFERENCE, Die, mark
from faulty_store import FaultyStore, full_disk
from killed_at import kill_at
from normals_run import run_normals

from jobs import entry
from jobs.normals import command
from pipeline.config import load_config
from pipeline.errors import ConfigError, FacetError, InputError, OutputError, WeightsError
from pipeline.faces.crop import CropWindow, crop_image, hull_mask
from pipeline.images.decode import DecodeConfig, decode_image
from pipeline.images.png import decode_png
from pipeline.normals.architectures import build_network
from pipeline.normals.encoding import decode_normals
from pipeline.recipes.normals import RECIPE, NormalsRun
from pipeline.run import job
from pipeline.run.config import EngineConfig
from pipeline.run.folder import RunRequest
from pipeline.run.job import Result
from pipeline.run.markers import committed_shards
from pipeline.run.recipe import Stage
from pipeline.storage.places import local_path
from pipeline.storage.store import Store
from pipeline.weights import save_weights


def rows_of(out: Path) -> pa.Table:
    return ds.dataset(f"{out}/records").to_table().sort_by("id")


def shard_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "records").iterdir()}


@pytest.fixture(scope="session")
def few_photos(tmp_path_factory) -> Path:
    """Folder of 24 small photos of one face, all different files."""
    folder = tmp_path_factory.mktemp("few")
    for number in range(24):
        pixels = portrait(200).copy()
        pixels[:2, :2] = number
        (folder / f"{number:02}.png").write_bytes(encode(pixels, "PNG"))
    return folder


@pytest.fixture
def run(random_weights, monkeypatch):
    """Runs the main job with small shards, in this process if not told otherwise."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def start(source, out, *options: str, say=lambda line: None, **arguments) -> Result:
        settings = [f"normals.weights={random_weights}", "plan.shard_size=8", "engine.cpus=1", *options]
        out = out if isinstance(out, Store) else str(out)
        return run_normals(str(source), out, load_config(NormalsRun, None, settings), say=say, **arguments)

    return start


class TestRecords:
    def test_exactly_one_row_per_file_saying_what_it_is(self, mixed_photos, mixed_run):
        folder, expected = mixed_photos
        rows = rows_of(mixed_run).to_pylist()
        paths = [local_path(row["uri"]) for row in rows]
        assert sorted(paths) == sorted(str(folder / name) for name in expected)
        assert len({row["id"] for row in rows}) == len(rows)
        for row in rows:
            wanted = expected[Path(local_path(row["uri"])).name]
            assert (row["status"], row["error_code"]) == (wanted.status, wanted.error_code), row["uri"]
            if wanted.status == "ok":
                assert len(row["faces"]) >= wanted.faces, row["uri"]
            else:
                assert row["faces"] == []
                assert row["error_message"].endswith((".", ")", "`")), row["error_message"]

    def test_faces_are_what_the_schema_says(self, mixed_run):
        faces = 0
        for row in rows_of(mixed_run).to_pylist():
            if row["status"] != "ok":
                continue
            image = decode_image(Path(local_path(row["uri"])).read_bytes(), DecodeConfig())
            assert (row["height"], row["width"]) == image.shape[:2]
            assert [face["index"] for face in row["faces"]] == list(range(len(row["faces"])))
            for face in row["faces"]:
                faces += 1
                window = CropWindow(**face["crop_window"])
                assert not window.beyond(row["width"], row["height"]).all()
                assert np.array_equal(decode_png(face["crop_png"]), crop_image(image, window))
                normals = decode_png(face["normal_png"])
                assert (normals.shape, normals.dtype) == ((256, 256, 3), np.uint8)
                length = np.linalg.norm(normals / 127.5 - 1, axis=-1)
                assert np.abs(length - 1).max() < 0.02
                mask = decode_png(face["mask_png"])
                assert mask.shape == (256, 256)
                assert set(np.unique(mask)) <= {0, 255}
                assert len(face["landmarks"]) == 136
        assert faces > 60

    def test_run_json_tells_the_run(self, mixed_photos, mixed_run, random_weights):
        state = json.loads((mixed_run / "run.json").read_text())
        assert state["status"] == "complete"
        assert state["engine"] == "local"
        assert state["models"]["weights"]["name"] == random_weights.stem
        assert len(state["models"]["weights"]["sha256"]) == 64
        assert state["counts"]["images"] == state["plan"]["images"] == len(mixed_photos[1])
        assert sum(state["counts"]["status"].values()) == len(mixed_photos[1])
        assert sum(state["counts"]["error_code"].values()) == state["counts"]["status"]["failed"]
        assert all(state["counts"]["stage_seconds"].values())
        assert state["seconds"] > 0
        assert state["config"]["plan"]["shard_size"] == 16
        assert (mixed_run / "report" / "index.html").stat().st_size > 100_000
        assert sorted(path.name for path in mixed_run.iterdir()) == [
            "_done",
            "plan",
            "records",
            "report",
            "run.json",
        ]

    def test_hull_is_the_mask_of_networks_without_one(self, astronaut, tmp_path, run):
        save_weights(build_network("resnet_unet"), tmp_path / "paper.safetensors")
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.png").write_bytes(encode(astronaut, "PNG"))
        options = [
            f"normals.weights={tmp_path}/paper.safetensors",
            "output.bits=16",
            "output.convention=directx",
        ]
        run(tmp_path / "in", tmp_path / "out", *options, "output.report=false")
        (row,) = rows_of(tmp_path / "out").to_pylist()
        (face,) = row["faces"]
        landmarks = np.reshape(face["landmarks"], (68, 2))
        hull = hull_mask(landmarks, CropWindow(**face["crop_window"]), row["width"], row["height"])
        assert np.array_equal(decode_png(face["mask_png"]), hull)
        normals = decode_png(face["normal_png"])
        assert normals.dtype == np.uint16
        assert np.isfinite(decode_normals(normals, "directx")).all()
        assert not (tmp_path / "out" / "report").exists()


class TestResume:
    def test_processes_write_the_same_bytes(self, mixed_photos, mixed_run, tmp_path, run):
        options = ["plan.shard_size=16", "engine.cpus=2", "engine.in_process_up_to=0", "output.report=false"]
        run(mixed_photos[0], tmp_path, *options)
        assert shard_bytes(tmp_path) == shard_bytes(mixed_run)

    def test_only_what_is_not_committed_is_done_again(self, mixed_photos, mixed_run, tmp_path, run):
        out = tmp_path / "out"
        shutil.copytree(mixed_run, out)
        (out / "_done" / "00001.json").unlink()
        (out / "records" / "shard-00001.parquet").write_bytes(b"cut short")
        kept = (out / "records" / "shard-00000.parquet").stat().st_mtime_ns
        lines: list[str] = []
        result = run(mixed_photos[0], out, "plan.shard_size=16", "output.report=false", say=lines.append)
        assert shard_bytes(out) == shard_bytes(mixed_run)
        assert (out / "records" / "shard-00000.parquet").stat().st_mtime_ns == kept
        assert result.counts.images == len(mixed_photos[1])
        assert any("are done; going on" in line for line in lines)

    def test_complete_run_is_not_done_again(self, few_photos, tmp_path, run, random_weights):
        def fail(stage):
            raise AssertionError

        first = run(few_photos, tmp_path, limit=3)
        recipe = replace(RECIPE, stages=tuple(replace(stage, make=fail) for stage in RECIPE.stages))
        config = load_config(NormalsRun, None, [f"normals.weights={random_weights}", "plan.shard_size=8"])
        again = job.run(RunRequest(recipe, str(few_photos), str(tmp_path), config, 3))
        assert first.counts == again.counts
        assert again.counts.images == 3

    def test_complete_run_is_only_read(self, few_photos, tmp_path, run, monkeypatch):
        """Also on a full disk, and however its input is written; a report that is not there yet is drawn."""
        out = tmp_path / "out"
        page = Path(run(few_photos, out, limit=3).report)
        page.write_text("as it was")
        state = (out / "run.json").read_text()
        monkeypatch.chdir(few_photos.parent)
        again = run(f"{few_photos.name}/", NearlyFull(str(out)), limit=3)
        assert (again.report, page.read_text()) == (str(page), "as it was")
        assert (out / "run.json").read_text() == state
        (out / "run.json").write_text(state.replace('"reported": true', '"reported": false'))
        assert run(few_photos, out, limit=3).report == str(page)
        assert page.read_text() != "as it was"
        page.unlink()
        run(few_photos, out, limit=3)
        assert page.exists()

    @pytest.mark.parametrize("limit", [None, 9])
    def test_deleted_photo_gets_its_row(self, few_photos, tmp_path, run, limit):
        photos = tmp_path / "in"
        photos.mkdir()
        for photo in sorted(few_photos.iterdir())[:10]:
            shutil.copy(photo, photos)
        run(photos, tmp_path / "out", "output.report=false", limit=limit)
        (tmp_path / "out" / "_done" / "00000.json").unlink()
        (photos / "03.png").unlink()
        result = run(photos, tmp_path / "out", "output.report=false", limit=limit)
        assert result.counts.images == (limit or 10)
        assert result.counts.error_codes == {"not_found": 1}

    def test_new_photos_are_not_passed_over(self, few_photos, tmp_path, run):
        photos = tmp_path / "in"
        photos.mkdir()
        shutil.copy(few_photos / "00.png", photos)
        run(photos, tmp_path / "out", "output.report=false")
        shutil.copy(few_photos / "01.png", photos)
        with pytest.raises(OutputError, match=r"01\.png and 0 other"):
            run(photos, tmp_path / "out")
        run(photos, tmp_path / "out", "output.report=false", on_existing="overwrite")
        assert len(rows_of(tmp_path / "out")) == 2


@pytest.fixture(scope="module")
def small_run(few_photos, random_weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("small") / "out"
    options = [f"normals.weights={random_weights}", "engine.name=local", "output.report=false"]
    run_normals(str(few_photos), str(out), load_config(NormalsRun, None, options), limit=2)
    return out


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "limit", "difference"),
        [
            (["detect.mode=paper"], 2, "detect.mode: auto -> paper"),
            (["output.bits=16"], 2, "output.bits: 8 -> 16"),
            ([], 3, "limit: 2 -> 3"),
        ],
    )
    def test_another_configuration(self, few_photos, small_run, random_weights, options, limit, difference):
        settings = load_config(NormalsRun, None, [f"normals.weights={random_weights}", *options])
        with pytest.raises(OutputError, match=difference):
            run_normals(str(few_photos), str(small_run), settings, limit=limit)

    def test_other_weights_under_the_same_name(self, few_photos, small_run, tmp_path):
        save_weights(build_network("compact"), tmp_path / "random.safetensors")
        settings = load_config(NormalsRun, None, [f"normals.weights={tmp_path}/random.safetensors"])
        with pytest.raises(OutputError, match=r"weights: random .* -> random"):
            run_normals(str(few_photos), str(small_run), settings, limit=2)

    def test_another_input(self, mixed_photos, small_run, run):
        with pytest.raises(OutputError, match="input: "):
            run(mixed_photos[0], small_run, "plan.shard_size=1000", limit=2)

    def test_what_does_not_change_the_records_may_differ(self, few_photos, small_run, random_weights):
        options = ["normals.batch_size=2", "engine.local_up_to=7", "read.storage.attempts=2"]
        settings = load_config(NormalsRun, None, [f"normals.weights={random_weights}", *options])
        assert run_normals(str(few_photos), str(small_run), settings, limit=2).counts.images == 2

    def test_existing_run_when_told_to_fail(self, few_photos, small_run, run):
        with pytest.raises(OutputError, match="holds a run already"):
            run(few_photos, small_run, on_existing="fail")

    @pytest.mark.parametrize("on_existing", ["resume", "overwrite", "fail"])
    def test_folder_of_something_else_is_left_alone(self, few_photos, tmp_path, run, on_existing):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(OutputError, match=r"thesis\.tex"):
            run(few_photos, tmp_path, on_existing=on_existing)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_overwriting_removes_what_a_run_made_and_nothing_else(self, few_photos, tmp_path, run):
        run(few_photos, tmp_path, "output.files=folder", limit=9)
        (tmp_path / "notes.txt").write_text("mine")
        run(few_photos, tmp_path, "output.report=false", limit=1, on_existing="overwrite")
        assert (tmp_path / "notes.txt").read_text() == "mine"
        assert len(rows_of(tmp_path)) == 1
        assert not (tmp_path / "files").exists()
        assert not (tmp_path / "report").exists()

    def test_run_that_never_had_a_plan_is_in_nobodys_way(self, few_photos, tmp_path, run):
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="no photo"):
            run(tmp_path / "empty", tmp_path / "out")
        result = run(few_photos, tmp_path / "out", "output.report=false", "output.bits=16", limit=1)
        assert result.counts.images == 1

    def test_before_anything_is_written(self, few_photos, tmp_path, run, random_weights):
        out = tmp_path / "out"
        with pytest.raises(InputError):
            run(tmp_path / "nowhere", out)
        with pytest.raises(WeightsError):
            run(few_photos, out, "normals.weights=nosuch")
        altered = bytearray(random_weights.read_bytes())
        altered[3] ^= 255
        (tmp_path / "altered.safetensors").write_bytes(altered)
        with pytest.raises(WeightsError):
            run(few_photos, out, f"normals.weights={tmp_path}/altered.safetensors")
        with pytest.raises(ConfigError):
            run(few_photos, out, "detect.moode=fast")
        assert not (out / "run.json").exists()
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OutputError):
            run(few_photos, tmp_path / "file")
        with pytest.raises(OutputError, match="no space left"):
            run(few_photos, NearlyFull(str(tmp_path / "full")))

    def test_disk_that_runs_full_ends_the_run_with_the_reason(self, few_photos, tmp_path, run):
        with pytest.raises(OutputError, match="no space left on device"):
            run(few_photos, FaultyStore(str(tmp_path), full_disk("records/shard-00001.parquet")))
        state = json.loads((tmp_path / "run.json").read_text())
        assert (state["status"], state["counts"]["images"]) == ("failed", 8)
        assert run(few_photos, tmp_path, "output.report=false").counts.images == 24


class NearlyFull(Store):
    def free_bytes(self) -> int:
        return 1000


STOPPED_AT = 13
"""Photo at which a run waits until it has been stopped: in the fourth of six shards."""


@pytest.fixture(scope="module")
def waiting_photos(tmp_path_factory) -> Path:
    """Folder of 24 photos of one face; at one of them the detector waits, while it is told to."""
    folder = tmp_path_factory.mktemp("waiting")
    for number in range(24):
        pixels = portrait(200).copy()
        pixels[:2, :2] = number
        if number == STOPPED_AT:
            pixels = mark(pixels, "wait")
        (folder / f"{number:02}.png").write_bytes(encode(pixels, "PNG"))
    return folder


def in_small_chunks(weights: Path) -> list[str]:
    options = ["plan.shard_size=4", "plan.chunk_size=2", "output.report=false", "engine.cpus=1"]
    return [*options, f"normals.weights={weights}", "detect.mode=custom", f"detect.detector={REFERENCE}"]


@pytest.fixture
def started(waiting_photos, tmp_path, random_weights, monkeypatch):
    """Starts `facet normals` as a process, which waits for its end at a photo; returns once it is there."""
    flag = tmp_path / "wait"
    flag.touch()
    monkeypatch.setenv("FACET_TEST_WAIT", str(flag))
    processes = []

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "jobs.normals", str(waiting_photos), str(tmp_path / "out")]
        for setting in in_small_chunks(random_weights):
            command += ["--set", setting]
        process = subprocess.Popen(
            [*command, "--engine", "local"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        processes.append(process)
        store = Store(str(tmp_path / "out"))
        while len(committed_shards(store)) < STOPPED_AT // 4:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def undisturbed(waiting_photos, random_weights, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    config = load_config(NormalsRun, None, in_small_chunks(random_weights))
    run_normals(str(waiting_photos), str(out), config)
    return shard_bytes(out)


def check_goes_on(photos: Path, out: Path, weights: Path, undisturbed: dict[str, bytes]) -> None:
    (out.parent / "wait").unlink(missing_ok=True)
    run_normals(str(photos), str(out), load_config(NormalsRun, None, in_small_chunks(weights)))
    assert shard_bytes(out) == undisturbed
    assert not (out / "_work").exists()


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_stopped_run_is_valid_and_goes_on(
        self, started, waiting_photos, tmp_path, random_weights, undisturbed, number
    ):
        process = started()
        process.send_signal(number)
        stdout, stderr = process.communicate()
        assert process.returncode == 130
        assert "the same command goes on" in stderr
        assert "Traceback" not in stderr + stdout
        out = tmp_path / "out"
        state = json.loads((out / "run.json").read_text())
        assert (state["status"], state["counts"]["images"]) == ("stopped", 12)
        assert committed_shards(Store(str(out))) == {0, 1, 2}
        assert set(rows_of(out)["status"].to_pylist()) == {"ok"}
        check_goes_on(waiting_photos, out, random_weights, undisturbed)

    def test_a_signal_that_comes_while_python_cleans_up_is_not_lost(self):
        class Cleaned:
            def __del__(self):
                signal.raise_signal(signal.SIGTERM)

        def work():
            with job.stoppable():
                Cleaned()
                threading.Event().wait(60)

        with pytest.raises(KeyboardInterrupt):
            work()

    def test_killed_run_goes_on(self, started, waiting_photos, tmp_path, random_weights, undisturbed):
        started().kill()
        check_goes_on(waiting_photos, tmp_path / "out", random_weights, undisturbed)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["records/shard-00001.parquet", "_done/00001.json"])
    def test_run_killed_within_a_commit_goes_on(
        self, waiting_photos, tmp_path, random_weights, undisturbed, name
    ):
        out = tmp_path / "out"
        settings = [part for text in in_small_chunks(random_weights) for part in ("--set", text)]
        kill_at(name, "jobs.normals", str(waiting_photos), str(out), "--engine", "local", *settings)
        assert committed_shards(Store(str(out))) == {0}
        check_goes_on(waiting_photos, out, random_weights, undisturbed)

    def test_worker_processes_end_with_a_stopped_run(
        self, waiting_photos, tmp_path, random_weights, undisturbed
    ):
        seen = []

        def stop(counts):
            seen.append(counts)
            signal.raise_signal(signal.SIGINT)

        options = [*in_small_chunks(random_weights), "engine.cpus=2", "engine.in_process_up_to=0"]
        config, out = load_config(NormalsRun, None, options), tmp_path / "out"
        with pytest.raises(job.Stopped):
            run_normals(str(waiting_photos), str(out), config, watch=stop)
        assert len(seen) == 1
        assert multiprocessing.active_children() == []
        check_goes_on(waiting_photos, out, random_weights, undisturbed)

    def test_workers_that_die_again_and_again_end_the_run_with_the_reason(self, few_photos, tmp_path):
        recipe = replace(RECIPE, stages=(Stage("die", Die),))
        config = NormalsRun(engine=EngineConfig(name="local", cpus=2, in_process_up_to=0))
        with pytest.raises(FacetError, match="die again and again") as caught:
            job.run(RunRequest(recipe, str(few_photos), str(tmp_path), config))
        assert caught.value.code == "worker_died"
        assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


def test_engine_is_chosen_by_size_and_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert job.choose_engine(EngineConfig(), 200) == "local"
    assert job.choose_engine(EngineConfig(), 201) == "ray"
    assert job.choose_engine(EngineConfig(name="local"), 10**6) == "local"
    assert job.choose_engine(EngineConfig(name="ray"), 1) == "ray"
    assert job.choose_engine(EngineConfig(address="auto"), 1) == "ray"
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert job.choose_engine(EngineConfig(), 1) == "ray"


class TestCommandLine:
    def test_options_set_fields_and_the_summary_is_printed(self, few_photos, tmp_path, random_weights):
        arguments = [str(few_photos), str(tmp_path / "out"), "--weights", str(random_weights), "--limit", "2"]
        options = "--detect paper --faces first --files tar --bits 16 --convention opencv --engine local"
        done = CliRunner().invoke(command, [*arguments, *options.split(), "--set", "engine.cpus=1"])
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("2 photos: ")
        assert f'pyarrow.dataset.dataset("{tmp_path}/out/records").to_table()' in done.stdout
        config = json.loads((tmp_path / "out" / "run.json").read_text())["config"]
        assert (config["detect"]["mode"], config["detect"]["faces"]) == ("paper", "first")
        assert config["output"].items() >= {"bits": 16, "convention": "opencv", "files": "tar"}.items()
        assert (tmp_path / "out" / "files" / "shard-00000.tar").exists()

    @pytest.mark.parametrize(
        "arguments",
        [
            ["nowhere", "out"],
            ["{photos}", "out", "--weights", "nosuch"],
            ["{photos}", "out", "--set", "detect.moode=fast"],
            ["{photos}", "out", "--config", "nosuch.yaml"],
            ["{photos}", "out", "--bits", "12"],
            ["{photos}"],
        ],
    )
    def test_mistakes_are_one_line_and_exit_code_2(
        self, few_photos, tmp_path, monkeypatch, capsys, arguments
    ):
        monkeypatch.chdir(tmp_path)
        given = [argument.format(photos=few_photos) for argument in arguments]
        with pytest.raises(SystemExit) as ended:
            entry.run(command, given)
        assert ended.value.code == 2
        message = capsys.readouterr().err
        assert "Traceback" not in message
        assert message.startswith(("facet: ", "Usage: "))
        assert list(tmp_path.iterdir()) == []
