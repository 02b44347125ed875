"""`facet evaluate` scores points: errors in pixels, by group, and refuses what it cannot score."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from jobs import evaluate as evaluate_job
from pipeline.errors import ConfigError, DataError
from pipeline.faces.points import PointsFinder
from pipeline.faces.window import LOOSE
from pipeline.geometry.head_model import load_face_model
from pipeline.points.draw import true_window
from pipeline.points.evaluate import evaluate_file, evaluate_points
from pipeline.points.labels import read_heads
from pipeline.samples.schema import RENDERED_SCHEMA
from pipeline.synth.rows import encode_batch
from pipeline.synth.sample import SampleConfig, Sampler


@pytest.fixture(scope="module")
def folder(ict_facekit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    rows = encode_batch(Sampler(SampleConfig(size=96), 5, model=ict_facekit).render([0, 1, 2]), "r-")
    pq.write_table(pa.Table.from_pylist(rows, RENDERED_SCHEMA), folder / "faces.parquet")
    return folder


class Beside(PointsFinder):
    """Answers the truth, five pixels of 128 to the right of it, with a sigma of as much."""

    def __init__(self, answer):
        self._answer = answer

    def refine(self, image, window, passes=1):
        return self._answer


def test_errors_are_in_pixels_of_a_crop_of_128(folder, ict_facekit):
    head = next(iter(read_heads([str(folder)], load_face_model(ict_facekit))))
    window = true_window(head)
    image = np.zeros((96, 96, 3), np.uint8)
    found = PointsFinder().look(image, window)
    right = (head.points[0] + [5 * window.side / 128, 0]).astype(np.float32)
    found = type(found)(
        points=right[:500],
        landmarks=right[500:],
        sigma=np.full(568, 4 * window.side / 128),
        visible=found.visible,
        rotation=found.rotation,
        window=window,
        change=0.0,
    )
    (score,) = evaluate_points(Beside(found), [head])
    assert score["error"] == pytest.approx(5, abs=1e-3)
    assert score["landmarks"] == pytest.approx(5, abs=1e-3)
    assert score["box_percent"] == pytest.approx(100 * 5 * LOOSE / 128, abs=1e-3)
    # To the right by more than one sigma and less than two, down by nothing.
    assert score["within_1"] == pytest.approx(0.5)
    assert score["within_2"] == pytest.approx(1)


def test_the_command_writes_a_table_and_a_line_per_head(folder, ict_facekit, tmp_path):
    table = evaluate_file("points", [str(folder)], tmp_path, str(ict_facekit))
    assert table["all"]["heads"] == 3
    assert sum(row["heads"] for name, row in table.items() if name.startswith("yaw")) == 3
    assert sum(row["heads"] for name, row in table.items() if name.startswith("roll")) == 3
    assert {"face of 30 pixels", "first window turned by 90"} <= table.keys()
    assert json.loads((tmp_path / "points.json").read_text()) == table
    lines = [json.loads(line) for line in (tmp_path / "heads.jsonl").read_text().splitlines()]
    assert np.mean([line["error"] for line in lines]) == pytest.approx(table["all"]["error"])
    assert "| all | 3 |" in (tmp_path / "points.md").read_text()


def test_what_cannot_be_scored_is_refused(folder, ict_facekit, tmp_path):
    with pytest.raises(DataError, match="no Parquet file"):
        evaluate_file("points", [str(tmp_path)], model=str(ict_facekit))
    rows = pq.read_table(folder / "faces.parquet").drop_columns(["depth"])
    pq.write_table(rows, tmp_path / "faces.parquet")
    with pytest.raises(DataError, match="no rendered heads"):
        evaluate_file("points", [str(tmp_path)], model=str(ict_facekit))
    result = CliRunner().invoke(evaluate_job.command, ["points", str(folder), "--mirror"])
    assert isinstance(result.exception, ConfigError)
