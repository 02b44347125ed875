"""`facet weights export --onnx`: the same normals in onnxruntime, metadata, missing packages."""

import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from jobs import weights as job
from pipeline.errors import WeightsError
from pipeline.evaluate.metrics import angular_error
from pipeline.faces.crop import cut_face
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.normals.architectures import LoadedWeights, build_network, load_weights
from pipeline.normals.inference import NormalsEstimator
from pipeline.normals.onnx_export import export_onnx
from pipeline.weights import WeightsEntry

PHOTOS = Path(__file__).parents[1] / "photos"


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The shipped weights as ONNX, written by the command."""
    path = tmp_path_factory.mktemp("onnx") / "compact.onnx"
    result = CliRunner().invoke(job.command, ["export", "compact", "--onnx", str(path)])
    assert result.exit_code == 0, result.output
    # Nothing but the one line: the exporter has much to say about itself.
    assert result.output.splitlines() == [f"compact: {path}, {path.stat().st_size / 1e6:.1f} MB"]
    return path


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """The faces of the photos in tests/photos, as the network sees them: brighter on the left."""
    find = FaceFinder(DetectConfig())
    found = []
    for file in sorted(PHOTOS.glob("*.jpg")):
        photo = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        for face in find(photo):
            crop = cut_face(photo, face)[1]
            found.append(crop if crop[:, :128].sum() >= crop[:, 128:].sum() else crop[:, ::-1])
    return np.stack(found)


def answer(path: Path, crops: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = crops.transpose(0, 3, 1, 2).astype(np.float32) / 255
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": image}), strict=True))


@pytest.mark.slow
def test_onnxruntime_gives_the_normals_of_the_estimator(exported, crops):
    assert len(crops) >= 5
    expected = NormalsEstimator("compact", "cpu", precision="fp32")(crops)
    found = answer(exported, crops)
    normals = found["normals"].transpose(0, 2, 3, 1)
    assert angular_error(normals, expected.normals).max() < 0.1
    assert np.linalg.norm(normals, axis=-1) == pytest.approx(1, abs=1e-5)
    # A probability just at the border may round to either side.
    assert np.mean((found["mask"] > 0.5) != (expected.mask > 0)) < 1e-4
    np.testing.assert_allclose(found["confidence"], expected.confidence, rtol=1e-3)


@pytest.mark.slow
def test_the_batch_is_free(exported, crops):
    whole = answer(exported, crops[:3])["normals"]
    single = answer(exported, crops[:1])["normals"]
    assert single.shape == (1, 3, 256, 256)
    np.testing.assert_allclose(single, whole[:1], atol=1e-4)


@pytest.mark.slow
def test_the_file_says_what_it_is_and_nothing_of_the_machine(exported):
    model = onnx.load(exported)
    props = {prop.key: prop.value for prop in model.metadata_props}
    entry = load_weights("compact").entry
    assert props["weights_sha256"] == entry.sha256
    assert props["licence"] == entry.licence
    assert props["trained_how"] == entry.trained_how
    assert "x right, y up, z to the viewer" in props["axes"]
    assert "RGB" in props["input"]
    assert str(Path(job.__file__).parents[1]).encode() not in exported.read_bytes()
    # Without the encoder of normals and the decoder of images.
    names = [tensor.name for tensor in model.graph.initializer]
    assert not [name for name in names if "normal_encoder" in name or "image_decoder" in name]


@pytest.mark.slow
def test_a_network_without_mask_gives_normals_alone(tmp_path):
    torch.manual_seed(0)
    entry = WeightsEntry(name="plain", architecture="resnet_unet", file="plain.safetensors", sha256="0" * 64)
    loaded = LoadedWeights(build_network("resnet_unet").eval(), entry)
    export_onnx(loaded, tmp_path / "plain.onnx")
    crops = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    crops[:, :, 128:] //= 2
    found = answer(tmp_path / "plain.onnx", crops)
    assert list(found) == ["normals"]
    expected = NormalsEstimator(loaded, "cpu", precision="fp32")(crops).normals
    assert angular_error(found["normals"].transpose(0, 2, 3, 1), expected).max() < 0.1


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_missing_packages_are_named(missing, monkeypatch, tmp_path, random_weights):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(WeightsError, match="pip install onnx onnxscript"):
        export_onnx(load_weights(random_weights), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())
