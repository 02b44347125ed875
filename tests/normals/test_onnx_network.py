"""Normals on CPUs through ONNX Runtime: as through torch, one by one, and without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_network

from pipeline.device import has_fast_int8
from pipeline.errors import PlanError, WeightsError
from pipeline.normals.inference import NormalsEstimator, choose_precision, choose_runtime
from pipeline.weights import WeightsFile, read_weights, save_weights

NETWORKS = [("compact", {}), ("resnet_unet", {}), ("resnet_unet", {"extra_head": True})]


def random_file(folder: Path, architecture: str = "compact", factor: float = 1.0, **options) -> WeightsFile:
    network = random_network(architecture, **options)
    if factor != 1:
        with torch.no_grad():
            network.head.weight.mul_(factor)
    save_weights(network, folder / "a.safetensors")
    return read_weights(folder / "a.safetensors")


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 64, 96, 3), np.uint8, endpoint=False)


def degrees(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles between unit normals (..., 3)."""
    chord = np.linalg.norm(first.astype(np.float64) - second, axis=-1)
    return np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("architecture", "options"), NETWORKS)
def test_fp32_is_that_of_torch(architecture, options, mirror, crops, tmp_path):
    """Also a test that the graphs are those of the networks as they are now."""
    weights = random_file(tmp_path, architecture, **options)
    onnx = NormalsEstimator(weights, "cpu", mirror=mirror, precision="fp32")(crops)
    expected = NormalsEstimator(weights, "cpu", mirror=mirror, precision="fp32", runtime="torch")(crops)
    # Where a raw vector is nearly zero its direction hangs on the last bit.
    assert degrees(onnx.normals, expected.normals).mean() < 0.001
    assert np.quantile(degrees(onnx.normals, expected.normals), 0.999) < 0.01
    assert onnx.normals.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(onnx.normals, axis=-1), 1, atol=1e-6)
    if expected.mask is None:
        assert onnx.mask is onnx.confidence is None
    else:
        assert np.mean(onnx.mask != expected.mask) < 1e-3
        np.testing.assert_allclose(onnx.confidence, expected.confidence, rtol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_results_do_not_depend_on_batches_and_neighbours_by_a_bit(precision, shipped, crops):
    if precision == "int8" and not has_fast_int8():
        pytest.skip("this processor has no fast int8")
    whole = NormalsEstimator(shipped, "cpu", 8, precision=precision)(crops)
    order = [3, 0, 4, 1, 2]
    for batch_size in (1, 2):
        parts = NormalsEstimator(shipped, "cpu", batch_size, precision=precision)(crops[order])
        for one, other in zip(parts, whole, strict=True):
            np.testing.assert_array_equal(one, other[order])


@pytest.mark.parametrize("factor", [1e30, float("inf"), 0.0])
def test_weights_that_overflow_or_vanish_give_normals_all_the_same(factor, crops, tmp_path):
    path = tmp_path / "a.safetensors"
    network = random_network()
    with torch.no_grad():
        network.head.weight.mul_(min(factor, 1e30))
        if factor == 0:
            network.head.bias.zero_()
    save_weights(network, path)
    answer = NormalsEstimator(path, "cpu", precision="fp32")(crops[:1])
    assert (answer.normals == (0, 0, 1)).all()
    assert (answer.mask == 0).all()
    assert np.isfinite(answer.confidence).all()


@pytest.fixture(scope="module")
def shipped() -> WeightsFile:
    return read_weights("compact")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("auto", "cpu", "auto"), "onnx"),
        (("auto", "cpu", "bf16"), "torch"),
        (("auto", "cuda", "auto"), "torch"),
        (("torch", "cpu", "fp32"), "torch"),
        (("onnx", "auto", "fp32"), "onnx"),
        (("auto", "auto", "int8"), "onnx"),
    ],
)
def test_cpus_take_onnx_and_gpus_torch(asked, expected):
    assert choose_runtime(*asked) == expected


@pytest.mark.parametrize(
    "asked", [("onnx", "cuda", "auto"), ("onnx", "cpu", "bf16"), ("torch", "cpu", "int8")]
)
def test_what_a_runtime_cannot_do_is_refused(asked):
    with pytest.raises(PlanError, match="CPUs"):
        choose_runtime(*asked)


def test_int8_is_taken_where_weights_and_processor_have_it(tmp_path):
    plain = random_file(tmp_path)
    assert choose_precision("auto", plain) == "fp32"
    with pytest.raises(WeightsError, match="no int8"):
        choose_precision("int8", plain)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512_vnni\nprocessor : 1\n", True),
        ("flags : fpu avx2 avx_vnni\n", True),
        ("flags : fpu avx2 avx512f\n", False),
        ("Features : fp asimd asimddp\n", False),
    ],
)
def test_fast_int8_is_told_by_the_processors_flags(text, expected, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    assert has_fast_int8(tmp_path / "cpuinfo") is expected
    assert not has_fast_int8(tmp_path / "missing")


RUN = """
import sys
from jobs.cli import main
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
found = {name.partition(".")[0] for name in sys.modules} & {"torch", "ray", "pandas"}
assert not found, found
"""


def test_a_run_on_cpus_never_imports_torch(tmp_path):
    photos = Path(__file__).parents[1] / "photos"
    options = ["--engine", "local", "--set", "normals.device=cpu", "--set", "engine.cpus=1"]
    command = [sys.executable, "-c", RUN, "normals", str(photos), str(tmp_path / "out"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"runtime": "onnx' in (tmp_path / "out" / "run.json").read_text()
