"""Batched inference and the call from Python: independence of batches, units, masks, devices, memory."""

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from networks import random_network

from pipeline import FaceNormals, estimate_normals, weights
from pipeline.errors import PlanError
from pipeline.faces.landmarks import Face
from pipeline.normals import torch_network
from pipeline.normals.architectures import LoadedWeights
from pipeline.normals.inference import NormalsEstimator
from pipeline.normals.torch_network import fold_batch_norms


def random_weights(architecture="compact", **options):
    entry = weights.WeightsEntry(
        name="random", architecture=architecture, file="a.safetensors", sha256="0" * 64
    )
    return LoadedWeights(random_network(architecture, **options), entry)


@pytest.fixture(scope="module")
def compact():
    return random_weights()


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), np.uint8, endpoint=False)


def degrees(first, second):
    """Largest angle between unit normals (..., 3)."""
    chord = np.linalg.norm(first.astype(np.float64) - second, axis=-1)
    return np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1))).max()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("architecture", ["compact", "resnet_unet"])
def test_results_do_not_depend_on_batches(architecture, precision, crops):
    loaded = random_weights(architecture, **({"extra_head": True} if architecture == "resnet_unet" else {}))
    count = 32 if architecture == "compact" else 9
    whole = NormalsEstimator(loaded, "cpu", 32, precision=precision)(crops[:count])
    for batch_size in (1, 7):
        parts = NormalsEstimator(loaded, "cpu", batch_size, precision=precision)(crops[:count])
        # A last bit of fp32 may differ; one of bf16 would be 0.2 degrees.
        assert degrees(parts.normals, whole.normals) < 1e-3
        assert np.mean(parts.mask != whole.mask) < 1e-4
        np.testing.assert_allclose(parts.confidence, whole.confidence, rtol=1e-3)


def test_results_do_not_depend_on_the_neighbours(compact, crops):
    estimator = NormalsEstimator(compact, "cpu", 8)
    order = np.random.default_rng(1).permutation(len(crops))
    shuffled = estimator(crops[order])
    assert degrees(shuffled.normals, estimator(crops).normals[order]) < 1e-3


@pytest.mark.parametrize("content", ["noise", "black", "white"])
def test_normals_are_finite_and_of_unit_length(compact, crops, content):
    images = {"noise": crops[:2], "black": np.zeros_like(crops[:2]), "white": np.full_like(crops[:2], 255)}
    answer = NormalsEstimator(compact, "cpu")(images[content])
    assert answer.normals.dtype == np.float32
    assert answer.normals.shape == (2, 64, 64, 3)
    assert answer.normals.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(answer.normals, axis=-1), 1, atol=1e-6)
    assert np.isfinite(answer.confidence).all()
    assert (answer.confidence > 0).all()


@pytest.mark.parametrize("factor", [1e30, float("inf")])
def test_weights_that_overflow_give_masked_normals_to_the_viewer(crops, factor):
    loaded = random_weights()
    with torch.no_grad():
        loaded.network.head.weight.mul_(factor)
    answer = NormalsEstimator(loaded, "cpu")(crops[:1])
    assert (answer.normals == (0, 0, 1)).all()
    assert (answer.mask == 0).all()
    assert np.isfinite(answer.confidence).all()


def test_the_mask_is_the_networks_where_it_has_one(compact, crops):
    hulls = np.full(crops.shape[:3], 7, np.uint8)
    bright = crops[:3] // 2 + np.uint8(128) * (np.arange(64) < 32)[:, None].astype(np.uint8)
    answer = NormalsEstimator(compact, "cpu", precision="fp32")(bright, hulls[:3])
    with torch.no_grad():
        image = torch.from_numpy(bright).permute(0, 3, 1, 2) / 255
        logits = compact.network(image).mask_logits[:, 0].numpy()
    sure = np.abs(logits) > 1e-3
    assert 0.05 < np.mean(logits > 0) < 0.95
    np.testing.assert_array_equal(answer.mask[sure], np.where(logits > 0, 255, 0)[sure])


def test_the_mask_is_the_hull_where_the_network_has_none(crops):
    hulls = np.random.default_rng(2).integers(0, 2, crops.shape[:3], np.uint8) * 255
    estimator = NormalsEstimator(random_weights("resnet_unet"), "cpu", batch_size=2)
    answer = estimator(crops[:3], hulls[:3])
    np.testing.assert_array_equal(answer.mask, hulls[:3])
    assert answer.confidence is None
    assert estimator(crops[:1]).mask is None


def test_no_crops_give_no_normals(compact, crops):
    answer = NormalsEstimator(compact, "cpu")(crops[:0], np.zeros((0, 64, 64), np.uint8))
    assert answer.normals.shape == (0, 64, 64, 3)
    assert answer.mask.shape == (0, 64, 64)


@pytest.mark.parametrize("average", [False, True])
def test_mirrored_crops_give_mirrored_normals(compact, crops, average):
    estimator = NormalsEstimator(compact, "cpu", mirror=average, precision="fp32")
    first, second = estimator(crops[:2]), estimator(np.ascontiguousarray(crops[:2, :, ::-1]))
    # Where two averaged answers cancel out the direction is ill-defined: nearly all pixels, not all.
    close = np.linalg.norm(first.normals - second.normals[:, :, ::-1] * (-1, 1, 1), axis=-1) < 1e-3
    assert close.mean() > 0.999
    assert np.mean(first.mask != second.mask[:, :, ::-1]) < 1e-3
    np.testing.assert_allclose(first.confidence, second.confidence[:, :, ::-1], rtol=1e-3)


@pytest.mark.parametrize("architecture", ["compact", "resnet_unet"])
def test_folding_batch_norms_changes_nothing(architecture):
    network = random_weights(architecture).network
    folded = fold_batch_norms(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    image = torch.rand(1, 3, 64, 64)
    normals = torch.nn.functional.normalize(torch.randn(1, 3, 64, 64), dim=1)
    with torch.no_grad():
        torch.testing.assert_close(folded(image).raw, network(image).raw, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            folded.normals_to_normals(normals).raw,
            network.normals_to_normals(normals).raw,
            rtol=1e-3,
            atol=1e-3,
        )


def test_bf16_is_close_to_fp32(compact, crops):
    answers = [NormalsEstimator(compact, "cpu", precision=name)(crops[:4]) for name in ("bf16", "fp32")]
    chord = np.linalg.norm(answers[0].normals - answers[1].normals, axis=-1)
    assert np.degrees(chord.mean()) < 1


def test_short_memory_halves_the_batch_and_says_so(compact, crops, monkeypatch, caplog):
    answer = torch_network._answer
    seen = []

    def short_of_memory(network, image, mirror):
        seen.append(len(image))
        if len(image) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return answer(network, image, mirror)

    expected = NormalsEstimator(compact, "cpu", 8)(crops[:5])
    monkeypatch.setattr(torch_network, "_answer", short_of_memory)
    estimator = NormalsEstimator(compact, "cpu", 8)
    with caplog.at_level(logging.WARNING):
        got = estimator(crops[:5])
    assert seen == [5, 4, 2, 2, 2]  # the last one alone, with an empty neighbour
    assert "batches of 2" in caplog.text
    assert degrees(got.normals, expected.normals) < 1e-3
    seen.clear()
    estimator(crops[:5])
    assert seen == [2, 2, 2]


def test_memory_for_not_even_one_crop_is_an_error(compact, crops, monkeypatch):
    def out_of_memory(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch_network, "_answer", out_of_memory)
    with pytest.raises(PlanError, match="one crop"):
        NormalsEstimator(compact, "cpu", 4)(crops[:2])


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "meta"])
def test_a_device_that_is_not_there_is_named(compact, device):
    with pytest.raises(PlanError, match=device):
        NormalsEstimator(compact, device)


def test_wrong_crops_are_refused(compact, crops):
    estimator = NormalsEstimator(compact, "cpu")
    for wrong in (crops[0], crops.astype(np.float32), crops[..., :1], crops[:, :60]):
        with pytest.raises(ValueError, match=r"crops must|multiples of 32"):
            estimator(wrong)
    with pytest.raises(ValueError, match="hulls"):
        estimator(crops[:2], np.zeros((3, 64, 64), np.uint8))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_results_on_a_gpu_do_not_depend_on_batches_and_agree_with_the_cpu(compact, crops):
    whole = NormalsEstimator(compact, "cuda", 32)(crops)
    estimator = NormalsEstimator(compact, "cuda", 32)
    parts = np.concatenate([estimator(crops[i : i + 7]).normals for i in range(0, 32, 7)])
    assert degrees(parts, whole.normals) < 1e-3
    on_cpu = NormalsEstimator(compact, "cpu", precision="fp32")(crops).normals
    on_gpu = NormalsEstimator(compact, "cuda", precision="fp32")(crops).normals
    assert np.degrees(np.linalg.norm(on_cpu - on_gpu, axis=-1).mean()) < 0.5


def test_estimate_normals_of_a_photo(compact, astronaut):
    faces = estimate_normals(astronaut, compact)
    assert len(faces) == 1
    face = faces[0]
    assert isinstance(face, FaceNormals)
    assert face.normals.shape == (256, 256, 3)
    assert face.mask.shape == face.confidence.shape == (256, 256)
    assert face.crop.shape == (256, 256, 3)
    left, top, size = face.window.left, face.window.top, face.window.size
    inside = (face.landmarks > (left, top)) & (face.landmarks < (left + size, top + size))
    assert inside.all()
    np.testing.assert_array_equal(face.normals, NormalsEstimator(compact)(face.crop[None]).normals[0])


def test_estimate_normals_of_a_list(compact, astronaut):
    estimator = NormalsEstimator(compact, "cpu")
    empty = np.zeros((300, 200, 3), np.uint8)
    none, one = estimate_normals([empty, astronaut], estimator, detect="paper")
    assert none == []
    assert len(one) == 1
    assert estimate_normals([], estimator) == []


def test_estimate_normals_takes_landmarks_from_elsewhere(compact):
    photo = np.random.default_rng(3).integers(0, 256, (200, 300, 3), np.uint8)
    points = np.random.default_rng(4).uniform((100, 50), (200, 150), (68, 2)).astype(np.float32)
    faces = [Face(i, (100, 50, 200, 150), 1.0, points + i) for i in range(2)]
    found = estimate_normals(photo, compact, detect=lambda image: faces)
    assert [face.index for face in found] == [0, 1]
    assert found[1].window.left == found[0].window.left + 1


def test_estimate_normals_refuses_what_is_no_photo(compact):
    empty = np.zeros((0, 4, 3), np.uint8)
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), empty, 7):
        with pytest.raises(ValueError, match="an image must be"):
            estimate_normals(wrong, compact)


def test_importing_the_package_is_light():
    code = (
        "import sys, pipeline; print('torch' in sys.modules, 'cv2' in sys.modules); pipeline.estimate_normals"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
