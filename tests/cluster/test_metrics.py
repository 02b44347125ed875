"""Metrics as Prometheus sees them: scraped from a Ray that exports them."""

import json
import re
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from normals_run import run_normals
from ports import free_ports
from prometheus_client.parser import text_string_to_metric_families
from ray._common.utils import get_default_ray_temp_dir
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

from pipeline.config import load_config
from pipeline.errors import PlanError
from pipeline.recipes.normals import NormalsRun
from pipeline.run.counts import Counts
from pipeline.run.engines import metrics

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(port: int) -> list[Any]:
    """Returns all samples that Ray exports."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    except OSError:
        return []
    return [sample for family in families for sample in family.samples]


def scrape(port: int) -> dict[Sample, float]:
    """Returns our samples: (name without Ray's prefix, our labels) -> value."""
    found = {}
    for sample in samples(port):
        if sample.name.startswith("ray_facet_"):
            labels = {
                name: sample.labels[name]
                for name in ("status", "code", "stage", "kind")
                if name in sample.labels
            }
            found[sample.name.removeprefix("ray_"), frozenset(labels.items())] = sample.value
    return found


def expected(counts: Counts, shards: int) -> dict[Sample, float]:
    """Returns the samples that a run with such counts ends with."""

    def sample(name: str, **labels: str) -> Sample:
        return name, frozenset(labels.items())

    values = {
        sample("facet_found_total", kind="faces"): counts.found["faces"],
        sample("facet_bytes_read_total"): counts.bytes_read,
        sample("facet_shards_total"): shards,
        sample("facet_photos_left"): 0,
        sample("facet_photos_uncommitted"): 0,
    }
    for status, images in counts.statuses.items():
        if status != "failed":
            values[sample("facet_photos_total", status=status, code="")] = images
    for code, images in counts.error_codes.items():
        values[sample("facet_photos_total", status="failed", code=code)] = images
    for stage, seconds in counts.seconds.items():
        values[sample("facet_stage_seconds_total", stage=stage)] = pytest.approx(seconds, abs=0.01)
    return values


@pytest.fixture(scope="module")
def metrics_port():
    """Port of a Ray of this process that exports metrics, and has a GPU that is a pretence."""
    import ray

    (port,) = free_ports(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve the workers
        ray.init(
            num_cpus=1,
            num_gpus=1,
            include_dashboard=False,
            log_to_driver=False,
            _metrics_export_port=port,
            _system_config={"metrics_report_interval_ms": 500},
        )
        yield port
        ray.shutdown()


def run_on_ray(source: Path, out: Path, weights: Path, *options: str) -> Counts:
    settings = [f"normals.weights={weights}", "plan.shard_size=16", "output.report=false", "engine.name=ray"]
    config = load_config(NormalsRun, None, [*settings, *options])
    return run_normals(str(source), str(out), config, say=lambda line: None).counts


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("metrics_port")
def test_cuda_is_refused_where_only_ray_believes_in_a_gpu(mixed_photos, random_weights, tmp_path):
    with pytest.raises(PlanError, match="CUDA shows 0 here"):
        run_on_ray(mixed_photos[0], tmp_path, random_weights, "normals.device=cuda")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_is_scraped(mixed_photos, random_weights, tmp_path, metrics_port):
    counts = run_on_ray(mixed_photos[0], tmp_path, random_weights)
    shards = len(list((tmp_path / "records").iterdir()))
    assert counts.error_codes
    assert counts.statuses["ok"]

    wanted = expected(counts, shards)
    deadline = time.monotonic() + 300
    while (found := scrape(metrics_port)) != wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found == wanted
    assert {name for name, _ in found} == {*metrics.COUNTERS, *metrics.GAUGES}
    # Ray's own, of what waits before each stage.
    operators = {sample.labels.get("operator") for sample in samples(metrics_port)}
    assert {"Map(Crop)_2", "Map(Normals)_3", "Map(Write)_4"} <= operators, operators


class BrokenCounter(metrics.Counter):
    def inc(self, *_):
        raise RuntimeError("no agent")


def test_broken_metrics_do_not_stop_a_run(caplog):
    broken = metrics.RunMetrics(10, BrokenCounter)
    broken.add(Counts(images=1, found=Counter(faces=1)))
    broken.commit(Counts(images=1))
    assert caplog.text.count("A metric could not be set.") == 2


def dashboard_expressions() -> list[str]:
    panels = json.loads((CLUSTER / "grafana.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_the_dashboard_shows_the_metrics_that_there_are():
    names = set(re.findall(r"\bray_(facet_\w+)", " ".join(dashboard_expressions())))
    assert names == {*metrics.COUNTERS, *metrics.GAUGES}


def test_the_dashboard_asks_for_labels_that_there_are():
    for expression in dashboard_expressions():
        labels = set(re.findall(r"by \((\w+)\)|\{(\w+)=", expression))
        for label in filter(None, (name for found in labels for name in found)):
            known = {
                tag for name, (_, tags) in metrics.COUNTERS.items() if name in expression for tag in tags
            }
            assert label in known | {"operator"}, expression


def test_the_panels_of_the_dashboard_do_not_overlap():
    panels = json.loads((CLUSTER / "grafana.json").read_text())["panels"]
    places = [
        (x, y)
        for box in (panel["gridPos"] for panel in panels)
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(places) == len(set(places))
    assert {x for x, _ in places} == set(range(24))


def test_prometheus_reads_the_file_that_ray_writes():
    [job] = yaml.safe_load((CLUSTER / "prometheus.yaml").read_text())["scrape_configs"]
    [[path]] = [where["files"] for where in job["file_sd_configs"]]
    assert Path(path) == Path(get_default_ray_temp_dir()) / PROMETHEUS_SERVICE_DISCOVERY_FILE


def test_the_guide_explains_every_metric():
    guide = (CLUSTER / "README.md").read_text()
    for name, text in {
        **metrics.GAUGES,
        **{name: text for name, (text, _) in metrics.COUNTERS.items()},
    }.items():
        assert re.search(rf"^\| `{name}[`{{].*\| {re.escape(text)}", guide, re.MULTILINE), name
