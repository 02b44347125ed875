"""Training learns, is written down, and goes on where it stopped."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.faces.points import COUNT
from pipeline.points.draw import Example
from pipeline.points.network import LOG_SIGMA, PointsOutput
from pipeline.points.train import CHECKPOINT, Heads, PointsTrainer, loss_of, stack_examples
from pipeline.samples.schema import RENDERED_SCHEMA
from pipeline.synth.rows import encode_batch
from pipeline.synth.sample import SampleConfig, Sampler


def batch(count: int = 4) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    return stack_examples(
        [
            Example(
                np.zeros((128, 128, 3), np.uint8),
                rng.normal(0, 0.2, (COUNT, 2)).astype(np.float32),
                rng.random(COUNT) < 0.7,
                np.eye(3, dtype=np.float32),
            )
            for _ in range(count)
        ]
    )


def answer(targets, error: float, log_sigma: float) -> PointsOutput:
    points = targets["points"] + torch.tensor([error, 0.0])
    return PointsOutput(
        points, torch.full(points.shape[:2], log_sigma), targets["visible"] * 8.0 - 4, targets["axes"]
    )


def test_the_best_sigma_is_the_error_per_axis():
    targets = batch()
    error = 0.02
    sigmas = np.linspace(*LOG_SIGMA, 321)
    losses = [float(loss_of(answer(targets, error, sigma), targets)) for sigma in sigmas]
    assert np.exp(sigmas[np.argmin(losses)]) == pytest.approx(error / np.sqrt(2), rel=0.05)


def test_hidden_points_count_less():
    targets = batch()
    for wrong, least in ((targets["visible"], 0.8), (~targets["visible"], 0.0)):
        output = answer(targets, 0.0, -3.0)
        output.points[wrong] += torch.tensor([0.1, 0.0])
        share = (loss_of(output, targets) - loss_of(answer(targets, 0.0, -3.0), targets)) / (
            loss_of(answer(targets, 0.1, -3.0), targets) - loss_of(answer(targets, 0.0, -3.0), targets)
        )
        assert least <= share <= least + 0.2


@pytest.mark.slow
def test_training_stops_and_goes_on(ict_facekit, tmp_path):
    def render(seed: int) -> None:
        rows = encode_batch(Sampler(SampleConfig(size=64), seed, model=ict_facekit).render([0, 1]), "r-")
        pq.write_table(pa.Table.from_pylist(rows, RENDERED_SCHEMA), tmp_path / f"{seed}.parquet")

    render(1)
    heads = Heads([tmp_path], ict_facekit)
    first = PointsTrainer(tmp_path / "out", heads, minutes=0.05, rates=(1e-4, 1e-3), batch=2)
    first.run()
    assert first.step > 1
    render(2)
    heads.refresh()
    assert len(heads.heads) == 4
    again = PointsTrainer(tmp_path / "out", heads, minutes=0.1, rates=(1e-4, 1e-3), batch=2)
    assert (again.step, again.seconds) == (first.step, first.seconds)
    again.run()
    assert again.step > first.step
    state = torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)
    assert state["vertices"] == heads.vertices
    assert state["step"] == again.step
