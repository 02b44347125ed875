"""The benchmark: structure and counts, never speed."""

import io
import json
import sys
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from jobs.bench import command as bench_command
from pipeline.bench import scale
from pipeline.bench.baseline import measure_baseline
from pipeline.bench.command import Usage, run_command
from pipeline.bench.end_to_end import EngineRun, count_faces, job_command, write_list
from pipeline.bench.heads import measure_heads
from pipeline.bench.machine import describe_machine
from pipeline.bench.photos import FACE, SIDES, find_photos, vary, write_photos
from pipeline.bench.rates import make_sample, measure_training
from pipeline.bench.report import Report
from pipeline.bench.stages import measure_stages
from pipeline.bench.suite import BenchOptions, run_bench
from pipeline.bench.timing import Rate, measure, one_core
from pipeline.errors import InputError, PlanError, WeightsError
from pipeline.images.png import encode_png
from pipeline.normals.architectures import LoadedWeights, build_network
from pipeline.run.markers import committed_shards, read_markers
from pipeline.storage.store import Store
from pipeline.weights import WeightsEntry, save_weights


@pytest.fixture(autouse=True)
def _one_thread():
    # Threads that wait for each other on a busy machine make tiny networks take many seconds.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    return write_photos(tmp_path_factory.mktemp("photos"), 4)


def test_machine_is_described():
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["cpu"]
    assert machine["packages"]["torch"] == torch.__version__
    json.dumps(machine)


def test_photos_are_jpegs_of_512_to_1024_pixels_with_a_face(photos, tmp_path):
    detector = dlib.get_frontal_face_detector()
    sizes = set()
    for path in photos:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert path.read_bytes()[:2] == b"\xff\xd8"
        assert 512 <= max(image.shape) <= 1024
        assert len(detector(image, 0)) >= 1
        sizes.add(image.shape)
    assert len(sizes) > 1
    again = write_photos(tmp_path, 4)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in photos]
    assert find_photos(tmp_path) == again


@pytest.mark.parametrize(("kind", "pixels"), [("phone", 4032 * 3024), ("groups", 1400 * 2100)])
def test_other_kinds_have_their_size(tmp_path, kind, pixels):
    (path,) = write_photos(tmp_path, 1, kind, seed=2)
    height, width, _ = cv2.imread(str(path)).shape
    assert height * width in (pixels, 4032**2)


def test_varied_photos_keep_the_face():
    portrait = np.zeros((512, 512, 3), np.uint8)
    left, top, right, bottom = FACE
    portrait[top:bottom, left:right] = 255
    for seed in range(20):
        image = vary(portrait, FACE, np.random.default_rng(seed), SIDES["portraits"])
        bright = np.argwhere(image[..., 0] > 100)
        # A face cut off at a border would touch it over its whole height or width.
        height, width = np.ptp(bright, axis=0) + 1
        assert abs(height / width - 1) < 0.05


def test_no_photos_is_an_input_error(tmp_path):
    with pytest.raises(InputError):
        find_photos(tmp_path)


def test_measure_counts_items_and_keeps_the_last_results():
    calls = []

    def double(item: int) -> int:
        calls.append(item)
        return 2 * item

    rate, results = measure("double", double, [1, 2, 3], weight=lambda item: item, rounds=2)
    assert results == [2, 4, 6]
    assert calls == [1, 1, 2, 3, 1, 2, 3]
    assert rate.count == 6
    assert len(rate.seconds) == 2
    assert Rate("x", 6, (3.0, 2.0)).per_second == 3.0


def test_one_core_restores_the_threads():
    torch.set_num_threads(2)
    with one_core():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.fixture(scope="module")
def weights() -> LoadedWeights:
    torch.manual_seed(0)
    entry = WeightsEntry(name="fresh", architecture="compact", file="fresh.safetensors", sha256="0" * 64)
    return LoadedWeights(build_network("compact").eval(), entry)


def test_stages_are_all_measured_over_all_photos(photos, weights_file, tmp_path):
    listing = write_list(photos, 10, tmp_path)
    rates = measure_stages(listing, tmp_path, str(weights_file), cores=2)
    assert [(rate.name, rate.count, len(rate.seconds)) for rate in rates] == [
        ("read", 10, 3),
        ("crop", 10, 3),
        ("normals", 10, 3),
        ("write", 10, 3),
    ]


def test_a_core_that_fails_ends_the_measurement(photos, tmp_path):
    listing = write_list(photos, 2, tmp_path)
    with pytest.raises(WeightsError):
        measure_stages(listing, tmp_path, str(tmp_path / "nothing.safetensors"), cores=2)


def test_baseline_takes_every_photo_the_papers_way(photos, tmp_path):
    black = tmp_path / "black.png"
    cv2.imwrite(str(black), np.zeros((100, 100, 3), np.uint8))
    rate, found = measure_baseline([black, photos[0]], tmp_path)
    assert (rate.count, found) == (2, 1)
    for name in ("crop", "mask", "normals"):
        assert cv2.imread(str(tmp_path / f"{name}.jpg")).shape == (256, 256, 3)


def test_baseline_names_a_file_that_is_no_photo(tmp_path):
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(InputError, match=r"text\.jpg"):
        measure_baseline([tmp_path / "text.jpg"], tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_a_command_takes_covers_the_whole_process_tree():
    hold = "import time; data = b'x' * 200_000_000; end = time.process_time() + 1\n"
    hold += "while time.process_time() < end: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}], check=True)"
    usage = run_command([sys.executable, "-c", child])
    assert 200_000_000 < usage.largest_bytes < usage.peak_bytes < 300_000_000
    assert usage.cpu_s > 0.5
    assert usage.rays_bytes == 0
    with pytest.raises(PlanError, match="no such luck"):
        run_command([sys.executable, "-c", "raise SystemExit('no such luck')"])


@pytest.fixture(scope="module")
def weights_file(weights, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "fresh.safetensors"
    save_weights(weights.network, path)
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)  # two whole commands
def test_whole_runs_are_measured(photos, weights_file, tmp_path):
    options = BenchOptions(("local", "stages"), photos[0].parent, count=4, weights=str(weights_file))
    told = []
    report = run_bench(options, tmp_path, told.append)
    stages = "Stages on one core, all at work"
    assert [line.split(":")[0] for line in told] == [
        "measuring local ...",
        "Photos",
        "End to end",
        "measuring stages ...",
        stages,
        "End to end",  # beside the stages, now
    ]
    assert report.photos[0]["distinct"] == len(photos)
    (run,) = report.engines
    assert (run.engine, run.kind, run.images) == ("local", "yours", (1, 4))
    assert min(run.faces) > 0
    assert 0 < run.at_work_s < run.usage[1].seconds - run.after_s < run.usage[1].seconds
    assert min(run.usage[0].seconds, run.usage[0].cpu_s) > 0
    assert min(run.usage[1].peak_bytes, run.usage[1].largest_bytes) > 100_000_000
    assert [rate.count for rate in report.stages["yours"]] == [len(photos)] * 4
    assert [row["way"] for row in report.tables()["End to end"]] == ["local"]


def test_command_line_writes_json(photos, tmp_path):
    out = tmp_path / "bench.json"
    arguments = ["baseline", "--photos", str(photos[0].parent), "--json", str(out)]
    result = CliRunner().invoke(bench_command, arguments, catch_exceptions=False)
    assert "End to end" in result.stdout
    values = json.loads(out.read_text())
    (row,) = values["tables"]["End to end"]
    assert row["images"] == values["tables"]["Photos"][0]["distinct"] == len(photos)


def test_lists_repeat_photos_under_distinct_names(photos, tmp_path):
    listing = write_list(photos, 10, tmp_path)
    paths = [Path(line) for line in listing.read_text().splitlines()]
    assert len(paths) == len(set(paths)) == 10
    assert paths[0].read_bytes() == photos[0].read_bytes()
    assert len({path.read_bytes() for path in paths}) == 10
    assert np.array_equal(cv2.imread(str(paths[4])), cv2.imread(str(photos[0])))
    assert write_list(photos, 10, tmp_path) == listing, "writing it again changes nothing"
    command = job_command("local", listing, tmp_path / "out", "compact")
    assert command[1:5] == ["-m", "jobs.normals", str(listing), str(tmp_path / "out")]
    assert command[5:9] == ["--engine", "local", "--weights", "compact"]


def test_a_run_that_lost_photos_is_an_error(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"counts": {"images": 3, "found": {"faces": 5}}}))
    assert count_faces(tmp_path, 3) == 5
    with pytest.raises(PlanError, match="3 of 4"):
        count_faces(tmp_path, 4)


def engine_run(seconds: tuple[float, float]) -> EngineRun:
    short, long = (Usage(wall, wall / 2, 10**8, 10**7, 10**7) for wall in seconds)
    return EngineRun("ray", "portraits", (100, 400), (110, 440), (short, long), 3.0, 1.5)


def test_rates_follow_from_two_runs():
    run = engine_run((25.0, 55.0))
    assert run.per_second == pytest.approx(10)
    assert run.cpu_ms_each == pytest.approx(50)


def test_report_derives_efficiency_and_speedup():
    report = Report(
        describe_machine() | {"cores": 2, "gpus": []},
        photos=[{"kind": "portraits", "distinct": 4, "megapixels": 0.5}],
        stages={"portraits": [Rate("crop", 10, (0.5,)), Rate("normals", 10, (0.5,))]},
        engines=[engine_run((20.0, 40.0))],
        baseline=Rate("baseline", 2, (2.0,)),
        rates=[Rate("render on one core", 8, (1.0,), "heads")],
    )
    assert report.stages_alone("portraits") == pytest.approx(20)
    tables = json.loads(json.dumps(report.to_json()))["tables"]
    ray, baseline = tables["End to end"]
    assert ray["of_stages_alone"] == pytest.approx(0.75)
    assert ray["times_baseline"] == pytest.approx(15)
    assert ray["faces_a_second"] == pytest.approx(16.5)
    assert (ray["at_work_after_s"], ray["report_and_end_s"]) == (3.0, 1.5)
    assert (ray["mb"], ray["grown"]) == (100, 1)
    assert baseline["photos_a_second"] == 1
    text = printed(report)
    for expected in ("of stages alone", "local 4, ray 15", "20.00", "heads", "portraits"):
        assert expected in text


def test_a_gpu_makes_the_stages_on_cores_no_measure_of_a_run():
    report = Report(
        describe_machine() | {"gpus": ["H100"]},
        stages={"portraits": [Rate("crop", 10, (0.5,))]},
        engines=[engine_run((20.0, 40.0))],
    )
    assert report.tables()["End to end"][0]["of_stages_alone"] is None


def printed(report: Report) -> str:
    sink = io.StringIO()
    report.print(Console(file=sink, width=160))
    return sink.getvalue()


def test_report_of_nothing_prints():
    report = Report(describe_machine())
    assert "cores" in printed(report)
    assert report.to_json()["tables"] == {}


def test_training_sample_is_a_sphere():
    sample = make_sample(64, 0)
    assert sample.normals.shape == sample.image.shape == (64, 64, 3)
    length = np.linalg.norm(sample.normals, axis=-1)
    np.testing.assert_allclose(length[sample.regions > 0], 1, atol=1e-5)
    assert (length[sample.regions == 0] == 0).all()
    assert sample.normals[0, 32, 1] > 0.9, "y is up"


def test_training_counts_paired_rows_only():
    rate = measure_training(steps=2, batch_size=2, size=64)
    assert rate.count == 4
    assert rate.unit == "pairs"


def test_planning_and_resuming_are_measured(tmp_path):
    plan = scale.measure_plan(500, tmp_path)
    assert plan["images"] == 500
    assert plan["plan_mb"] > 0
    resume = scale.measure_resume(12, tmp_path)
    assert resume["shards"] == 12
    table = printed(Report(describe_machine(), figures={"plan": [plan], "resume": [resume]}))
    assert "plan mb" in table


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("gpus", "ideal", "images"), [(0, 95.2, 96), (1, 200, 200)])
def test_pretended_workers_do_a_whole_run(tmp_path, monkeypatch, gpus, ideal, images):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    seconds = {"read": 0.001, "crop": 0.02, "normals": 0.02, "write": 0.001}
    found = scale.measure_workers(4, gpus, seconds, 1.0, tmp_path, chunk_size=8)
    assert found["ideal"] == pytest.approx(ideal, rel=0.01)
    assert found["efficiency"] == pytest.approx(found["per_second"] / found["ideal"])
    store = Store(str(tmp_path / f"workers-4-{gpus}"))
    markers = read_markers(store, committed_shards(store))
    assert sum(marker.counts.images for marker in markers) == images


@pytest.mark.slow
def test_heads_are_timed_step_by_step(tmp_path):
    rates = measure_heads(Path(__file__).resolve().parents[1] / "photos" / "rendered_1.jpg", rounds=1)
    names = ["fit", "fit of a pair", "displacement", "maps", "maps as PNG and JPEG", "GLB"]
    assert [rate.name for rate in rates] == names
    assert all(rate.per_second > 0 for rate in rates)
    blank = tmp_path / "blank.png"
    blank.write_bytes(encode_png(np.full((200, 200, 3), 90, np.uint8)))
    with pytest.raises(InputError, match="no face"):
        measure_heads(blank)
