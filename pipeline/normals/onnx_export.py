"""The way from photo to normals as an ONNX file, for programs without Python or torch.

    image        (N, 3, 256, 256) float32, RGB in 0..1      N is free
    normals      (N, 3, 256, 256) float32, unit length, camera space: x right, y up, z to the viewer
    mask         (N, 256, 256) float32, probability that the normal is meant; above 0.5 it counts
    confidence   (N, 256, 256) float32 > 0, concentration of the answer, see `pipeline.normals.inference`

A network that learns neither mask nor confidence gives normals alone. Parameters are fp32, batch norms are
folded into the convolutions, and the encoder of normals and the decoder of images are left out. What the
weights are, under which licence, and the axes stand in the file's metadata.
"""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import WeightsError
from pipeline.normals.architectures import LoadedWeights
from pipeline.normals.estimated import LARGEST_LOG_CONFIDENCE
from pipeline.normals.network import CrossModalNet
from pipeline.normals.torch_network import fold_batch_norms
from pipeline.weights import WeightsEntry, write_file

SIZE = 256
"""Side of the crops, the one that the shipped weights are trained at."""

OPSET = 20
"""Version of the operators; onnxruntime knows it from 1.17 (2024) on."""

AXES = "camera space: x right, y up, z to the viewer"
INPUT = "RGB face crop in 0..1: a square of 1.2 times the box of the 68 landmarks, 256 x 256 pixels"


class PhotoToNormals(nn.Module):
    """The part of a network that inference needs."""

    def __init__(self, network: CrossModalNet):
        super().__init__()
        self.network = fold_batch_norms(network)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps images (N, 3, H, W) in 0..1 to normals and, where there are any, mask and confidence."""
        output = self.network.image_to_normals(image)
        found = [output.normals]
        if output.mask_logits is not None:
            found.append(output.mask_logits[:, 0].sigmoid())
        if output.log_confidence is not None:
            log = output.log_confidence[:, 0]
            found.append(log.clamp(-LARGEST_LOG_CONFIDENCE, LARGEST_LOG_CONFIDENCE).exp())
        return tuple(found)


def export_onnx(loaded: LoadedWeights, path: Path) -> None:
    """Writes loaded weights as an ONNX file, whole or not at all.

    Raises:
        WeightsError: A package is missing, or the file cannot be written.
    """
    onnx = import_exporter()
    module = PhotoToNormals(loaded.network).eval()
    example = torch.zeros(2, 3, SIZE, SIZE)
    with torch.no_grad():
        names = ["normals", "mask", "confidence"][: len(module(example))]
    model = to_onnx(module, example, names)
    onnx.helper.set_model_props(model, metadata_of(loaded.entry))
    onnx.checker.check_model(model, full_check=True)
    write_file(path, model.SerializeToString())


def to_onnx(module: nn.Module, example: Tensor, names: list[str]) -> Any:
    """Returns a module as an ONNX model without traces of the machine; the number of images is free.

    Args:
        module: In evaluation mode; takes "image" alone.
        example: Two images: of a batch of one the exporter would take the number for fixed.
        names: Of what it returns.
    """
    with torch.no_grad(), quiet_exporter():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=["image"],
            output_names=names,
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    remove_traces(model.graph)
    return model


def metadata_of(entry: WeightsEntry) -> dict[str, str]:
    """Returns what the file says about itself."""
    return {
        "name": entry.name,
        "architecture": entry.architecture,
        "licence": entry.licence,
        "trained_how": entry.trained_how,
        "weights_sha256": entry.sha256,
        "input": INPUT,
        "axes": AXES,
    }


def import_exporter() -> Any:
    """Returns the package onnx.

    Raises:
        WeightsError: It or the exporter's is missing.
    """
    try:
        importlib.import_module("onnxscript")
        return importlib.import_module("onnx")
    except ImportError as error:
        raise WeightsError(
            "Writing ONNX needs the packages onnx and onnxscript: pip install onnx onnxscript."
        ) from error


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silences what torch's exporter says about torch itself and about packages that we do not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def remove_traces(graph: Any) -> None:
    """Removes the source lines that the exporter notes at every node, with the paths of this machine."""
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
