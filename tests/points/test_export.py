"""The exported network answers as torch does, says which vertices it means, and is refused when damaged."""

import numpy as np
import pytest
import torch

from pipeline.errors import WeightsError
from pipeline.faces.points import COUNT, SIZE, PointsFinder
from pipeline.faces.window import RolledWindow
from pipeline.points.export import CropToPoints, export_points
from pipeline.points.network import PointsNet


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = PointsNet()
    torch.nn.init.normal_(network.axes.weight, std=0.2)
    torch.nn.init.normal_(network.lookup.answers.weight, std=0.02)
    torch.nn.init.normal_(network.lookup.offset, std=0.01)
    return network


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("points") / "points.onnx"
    export_points(network, path, {"vertices": "abc"}, widen=1.5)
    return path


def test_onnx_answers_as_torch(network, exported):
    finder = PointsFinder(exported)
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    # A window that is the picture itself.
    found = finder.look(image, RolledWindow((SIZE - 1) / 2, (SIZE - 1) / 2, SIZE))
    with torch.no_grad():
        points, sigma, visible, rotation = (
            answer[0].numpy() for answer in CropToPoints(network, 1.5)(torch.from_numpy(image[None]))
        )
    assert np.abs(np.concatenate([found.points, found.landmarks]) - points).max() < 0.05
    assert np.abs(found.sigma - sigma).max() < 0.05
    assert np.abs(found.visible - visible).max() < 1e-3
    assert np.abs(found.rotation - rotation).max() < 1e-3
    assert np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-5)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-5)
    assert points.shape == (COUNT, 2)


def test_it_says_what_it_is(exported):
    assert PointsFinder(exported).metadata["vertices"] == "abc"


def test_a_damaged_file_is_refused(exported, tmp_path):
    damaged = tmp_path / "points.onnx"
    damaged.write_bytes(exported.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="no network that can be run"):
        PointsFinder(damaged)
    with pytest.raises(WeightsError, match="Cannot read"):
        PointsFinder(tmp_path / "none.onnx")


def test_the_basis_begins_with_what_varies_most():
    rng = np.random.default_rng(0)
    place = rng.normal(0, 0.1, (400, 1, 2))
    points = torch.from_numpy((place + rng.normal(0, 0.01, (400, COUNT, 2)) + 0.2).astype(np.float32))
    network = PointsNet()
    network.start_basis(points)
    strength = network.basis.weight.norm(dim=0)
    assert strength[1] > 5 * strength[2]
    assert torch.allclose(network.basis.bias, points.flatten(1).mean(0), atol=1e-3)


def test_only_the_coarse_levels_learn():
    network = PointsNet()
    network.answers(network.features(torch.rand(2, 3, SIZE, SIZE), learning=3))[-1].points.sum().backward()
    assert network.encoder.stem[0].weight.grad is None
    assert network.encoder.stages[0][0].weight.grad is None
    assert network.encoder.stages[1][0].weight.grad is not None
