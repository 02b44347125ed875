"""`facet plan`: a plan that `facet normals` goes on from, its extension, and what a run will take."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from click.testing import CliRunner, Result
from faulty_store import FaultyStore
from normals_run import make_plan, run_normals

from jobs import normals, plan
from pipeline.config import load_config
from pipeline.errors import ConfigError, OutputError
from pipeline.images.items import ListedFile, one_photo_each
from pipeline.recipes.normals import RECIPE, NormalsRun
from pipeline.run.config import EngineConfig, EstimateConfig, PlanConfig
from pipeline.run.estimate import Resources, describe_estimate, estimate_run, find_resources
from pipeline.run.new_items import NewItems
from pipeline.run.plan import read_plan
from pipeline.run.plan_photos import write_plan
from pipeline.run.sample import PlanSample, spread_items
from pipeline.run.state import OWN_NAMES, read_state
from pipeline.run.status import run_status
from pipeline.storage.store import Store


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """Folder of files that are no photos: their records are quickly made."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    add_files(tmp_path / "in", range(5))
    return tmp_path / "in"


def add_files(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number:03}.jpg").write_bytes(b"no image %d" % number)


@pytest.fixture
def settings(random_weights) -> list[str]:
    options = ["plan.shard_size=2", "engine.cpus=1", "output.report=false", "estimate.sample=0"]
    return [f"normals.weights={random_weights}", *options]


@pytest.fixture
def facet(source, settings, tmp_path):
    """Runs a job over the folder, with shards of two files."""

    def invoke(job, *options: str, code: int | type[Exception] = 0) -> Result:
        given = [word for setting in settings for word in ("--set", setting)]
        arguments = [str(source), str(tmp_path / "out"), *given, *options]
        done = CliRunner().invoke(job.command, arguments)
        if isinstance(code, int):
            expected = code or int(job is normals)  # 1: every file fails
            assert done.exit_code == expected, (done.output, done.exception)
        else:
            assert isinstance(done.exception, code), done.output
        return done

    return invoke


def test_run_goes_on_from_its_plan(facet, source, tmp_path):
    done = facet(plan, "--set", "estimate.cpus=2", "--set", "estimate.gpus=0")
    assert "5 photos, 0.0 MB, in 3 shards of up to 2 in chunks of 2." in done.stdout
    assert "on 2 CPU cores as the configuration says" in done.stdout
    store = Store(str(tmp_path / "out"))
    state = read_state(store)
    assert state is not None
    assert (state["status"], state["plan"]["images"], run_status(store).status) == ("planned", 5, "planned")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "plan").iterdir()}
    done = facet(normals)
    assert "holds the plan of this run" in done.stderr
    assert done.stdout.startswith("5 photos: ")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "plan").iterdir()} == before
    assert run_status(store).status == "complete"


def test_any_recipe_is_planned(facet, source, tmp_path):
    add_files(source / "anna", range(2))
    done = facet(plan, "--recipe", "multiview", "--set", "estimate.cpus=1", "--set", "estimate.gpus=0")
    assert "2 people in 7 photos, 0.0 MB, in 1 shard of up to 2 in chunks of 1." in done.stdout
    planned = read_plan(Store(str(tmp_path / "out")))
    assert planned is not None
    assert (planned.images, planned.items) == (7, 2)
    done = facet(normals, code=OutputError)
    assert "multiview" in str(done.exception)


def test_plan_that_is_there_is_not_made_again(facet, source, tmp_path):
    facet(plan)
    add_files(source, range(5, 6))
    done = facet(plan, code=OutputError)
    assert "holds a plan of 5 photos already" in str(done.exception)
    facet(plan, "--bits", "16", code=OutputError)
    facet(plan, "--on-existing", "overwrite", "--bits", "16")
    planned = read_plan(Store(str(tmp_path / "out")))
    assert planned is not None
    assert planned.images == 6
    done = facet(normals, code=OutputError)
    assert "output.bits: 16 -> 8" in str(done.exception)


@pytest.mark.parametrize("again", [["--on-existing", "overwrite"], []])
@pytest.mark.parametrize("removed", range(len(OWN_NAMES)))
def test_overwriting_that_was_killed_is_done_again(facet, source, settings, tmp_path, removed, again):
    add_files(source, range(5, 9))
    facet(normals)
    for number in range(5, 9):
        (source / f"{number:03}.jpg").unlink()
    left = iter(range(removed))

    def killed(name):
        if next(left, None) is None:
            raise RuntimeError("killed")

    store = FaultyStore(str(tmp_path / "out"), killed, "remove")
    config = load_config(NormalsRun, None, [*settings, "output.bits=16"])
    with pytest.raises(RuntimeError, match="killed"):
        run_normals(str(source), store, config, on_existing="overwrite")
    facet(normals, *again, "--bits", "16")
    status = run_status(Store(str(tmp_path / "out")))
    assert (status.status, status.counts.images) == ("complete", 5)
    assert len(list((tmp_path / "out" / "records").iterdir())) == 3


def test_plan_without_its_photos_is_said(facet, source, tmp_path):
    facet(plan)
    for path in (tmp_path / "out" / "plan").glob("photos-*"):
        path.unlink()
    done = facet(normals, code=OutputError)
    assert "The plan in" in str(done.exception)


def test_limit_that_is_lifted_while_a_run_goes_on(facet, source, settings, tmp_path):
    def lifted(counts):
        facet(plan, "--extend")

    config = load_config(NormalsRun, None, settings)
    run_normals(str(source), str(tmp_path / "out"), config, limit=2, watch=lifted)
    status = run_status(Store(str(tmp_path / "out")))
    assert (status.status, status.counts.images) == ("complete", 5)
    assert facet(normals).stdout.startswith("5 photos: ")


def test_limit_in_run_json_is_mended_by_another_extension(facet, tmp_path):
    facet(normals, "--limit", "2")
    before = (tmp_path / "out" / "run.json").read_bytes()
    facet(plan, "--extend")
    (tmp_path / "out" / "run.json").write_bytes(before)  # killed in between
    facet(normals, code=OutputError)
    facet(plan, "--extend")
    assert facet(normals).stdout.startswith("5 photos: ")


def test_new_photos_are_added_to_a_run_that_is_complete(facet, source, tmp_path):
    done = facet(plan, "--extend", code=OutputError)
    assert "no plan" in str(done.exception)
    facet(normals)
    out = tmp_path / "out"
    kept = {path: path.read_bytes() for path in [*(out / "records").iterdir(), *(out / "_done").iterdir()]}
    add_files(source, range(5, 8))
    (source / "001.jpg").unlink()
    assert "facet plan --extend" in str(facet(normals, code=OutputError).exception)
    done = facet(plan, "--extend")
    assert "3 photos added." in done.stdout
    assert "1 photo of the plan gone from the input" in done.stdout
    assert "8 photos" in done.stdout
    assert "3 photos of them are still to be done." in done.stdout
    assert run_status(Store(str(out))).status == "planned"
    assert facet(normals).stdout.startswith("8 photos: ")
    assert {path: path.read_bytes() for path in kept} == kept
    uris = ds.dataset(f"{out}/records").to_table()["uri"].to_pylist()
    assert sorted(uris) == [str(source / f"{number:03}.jpg") for number in range(8)]
    before = (out / "plan" / "plan.json").read_bytes()
    assert "There are no new photos" in facet(plan, "--extend").stdout
    assert (out / "plan" / "plan.json").read_bytes() == before
    assert run_status(Store(str(out))).status == "complete"


def test_trial_with_a_limit_is_extended_to_all(facet, source, tmp_path):
    facet(plan, "--limit", "2")
    done = facet(plan, "--extend")
    assert "3 photos added." in done.stdout
    state = read_state(Store(str(tmp_path / "out")))
    assert state is not None
    assert state["limit"] is None
    assert facet(normals).stdout.startswith("5 photos: ")


def test_planner_that_was_killed_is_in_nobodys_way(facet, tmp_path, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_new", killed)
        done = facet(plan, code=130)
    assert "Stopped" in done.stderr
    assert run_status(Store(str(tmp_path / "out"))).status == "planning"
    assert facet(normals, "--bits", "16").stdout.startswith("5 photos: ")
    assert len(list((tmp_path / "out" / "plan").iterdir())) == 2


def test_another_run_that_is_planned_meanwhile_is_not_mixed_up(source, random_weights, tmp_path):
    """Both found the folder empty: the plan belongs to the first, and the second is told."""
    out = str(tmp_path / "out")
    first, second = (
        load_config(NormalsRun, None, [f"normals.weights={random_weights}", f"output.bits={bits}"])
        for bits in (8, 16)
    )
    store = FaultyStore(out, lambda name: make_plan(str(source), out, first), "write_new")
    with pytest.raises(OutputError, match="another run"):
        make_plan(str(source), store, second)


def test_new_items_are_found_in_flat_memory(tmp_path):
    """A million ids, and nothing else of the plan, are held."""
    store = Store(str(tmp_path))
    count = 20_000
    files = [ListedFile(number * 977, f"/photos/{number:0100}.jpg") for number in range(count)]
    new = NewItems(store, write_plan(store, one_photo_each(files), PlanConfig()), one_photo_each(files))
    held = [value for value in vars(new).values() if isinstance(value, np.ndarray)]
    assert sum(value.nbytes for value in held) == 9 * count
    assert list(new) == []


def test_some_photos_are_worked_on_for_the_estimate(source, facet, tmp_path):
    for name in ("astronaut", "rendered_two"):
        photo = Path(__file__).parents[1] / "photos" / f"{name}.jpg"
        (source / photo.name).write_bytes(photo.read_bytes())
    done = facet(plan, "--set", "estimate.sample=100", "--set", "estimate.cpu_hour_price=1")
    assert "Measured on 7 photos of them" in done.stdout
    assert "0.4 faces a photo." in done.stdout
    assert "for a million faces" in done.stdout
    assert not (tmp_path / "out" / "records").exists()


def test_a_sample_is_spread_over_the_whole_plan(tmp_path):
    files = [ListedFile(number, f"/photos/{number}.jpg") for number in range(20)]
    store = Store(str(tmp_path))
    planned = write_plan(store, one_photo_each(files), PlanConfig(shard_size=3))
    for number, ids in ((4, [0, 5, 10, 15]), (99, list(range(20)))):
        assert [item.id for item in spread_items(store, planned, number)] == ids


SAMPLE = PlanSample(10, 15, "faces", 1_000_000, Counter(read=1.0, crop=0.4, normals=0.5, write=0.1), 36.0)


class TestEstimate:
    def test_cpus_alone(self):
        config = EstimateConfig(cpu_hour_price=0.05, currency="EUR")
        resources = Resources(20, 0, "of the cluster")
        assert describe_estimate(RECIPE, 3_600_000, resources, config, SAMPLE) == [
            "Measured on 10 photos of them, on one core of this machine: "
            "read 100, crop 40, normals 50, write 10 ms a photo; 1.5 faces a photo.",
            "The records will take about 360.0 GB.",
            "Time on 20 CPU cores of the cluster: about 5 h 0 min, at 200 photos and 300 faces a second.",
            "Cost: about 5.01 EUR, 0.93 for a million faces.",
        ]
        config = EstimateConfig(images_per_cpu=10, cpu_hour_price=0.05)
        assert estimate_run(3_600_000, resources, config, None) == (200, 5, 5, [])
        assert describe_estimate(RECIPE, 1000, resources, config)[:1] == [
            "The records will take about 200.0 MB."
        ]

    @pytest.mark.parametrize(("cpus", "rate"), [(20, 400), (60, 1000)])
    def test_gpus_and_the_cores_that_feed_them(self, cpus, rate):
        config = EstimateConfig(images_per_gpu=500, cpu_hour_price=0.1, gpu_hour_price=1)
        core_seconds = SAMPLE.core_seconds(RECIPE, on_gpu=True)
        found = estimate_run(3_600_000, Resources(cpus, 2, "x"), config, core_seconds)
        assert found.rate == pytest.approx(rate)
        assert found.cost == pytest.approx(found.hours * (cpus * 0.1 + 2))

    @pytest.mark.parametrize(
        ("resources", "config", "lacking"),
        [
            (Resources(4, 1, "x"), {}, ["images_per_gpu", "cpu_hour_price", "gpu_hour_price"]),
            (Resources(4, 0, "x"), {"gpu_hour_price": 1}, ["images_per_cpu", "cpu_hour_price"]),
            (Resources(None, None, "x"), {"cpu_hour_price": 1, "gpu_hour_price": 1}, ["cpus", "gpus"]),
            (Resources(None, 0, "x"), {"cpu_hour_price": 1}, ["cpus"]),
        ],
    )
    def test_what_is_not_known_is_said_and_not_invented(self, resources, config, lacking):
        config = EstimateConfig(**config)
        found = estimate_run(1000, resources, config, None)
        assert (found.rate, found.hours, found.cost, found.lacking) == (None, None, None, lacking)
        wanted = ", ".join(f"estimate.{name}" for name in lacking)
        lines = describe_estimate(RECIPE, 1000, resources, config)
        assert lines[2:] == ["Cost: not known.", f"To know more, give {wanted}."]

    def test_resources(self, monkeypatch):
        monkeypatch.delenv("RAY_ADDRESS", raising=False)

        def found(engine=None, of_cluster=(64, 4), **config):
            settings = NormalsRun(engine=EngineConfig(**(engine or {})), **config)
            return find_resources(RECIPE, settings, lambda cpus: (cpus or 8, 1), lambda address: of_cluster)

        assert (found().cpus, found().gpus) == (8, 1)
        assert found({"cpus": 3}).cpus == 3
        assert found(normals={"device": "cpu"}).gpus == 0
        assert found({"address": "auto"}).gpus == 4
        assert found({"address": "auto", "request_gpus": 9}).gpus == 9
        assert found({"address": "auto", "name": "local"}).gpus == 1
        given = found(estimate={"cpus": 100, "gpus": 0})
        assert (given.cpus, given.gpus) == (100, 0)
        assert found({"address": "10.0.0.1:6379"}, (None, None)).cpus is None


def test_prices_cannot_be_negative():
    with pytest.raises(ConfigError):
        load_config(NormalsRun, None, ["estimate.cpu_hour_price=-1"])


def test_folders_whose_names_are_not_utf8(random_weights, tmp_path):
    source, out = (tmp_path / os.fsdecode(name) for name in (b"caf\xe9", b"out\xe9"))
    add_files(source, range(2))
    command = [
        sys.executable,
        "-m",
        "jobs.normals",
        source,
        out,
        "--set",
        f"normals.weights={random_weights}",
    ]
    # As a process of its own: pytest-xdist cannot carry what such a run logs.
    done = subprocess.run([*command, "--set", "engine.cpus=1"], capture_output=True, check=False)
    assert done.returncode == 1, done.stderr  # all files fail
    assert done.stdout.startswith(b"2 photos: ")
    state = read_state(Store(str(out)))
    assert state is not None
    assert state["input"].endswith(r"caf\udce9")
    assert (out / "report" / "index.html").exists()
