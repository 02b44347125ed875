"""The registered points network with int8 convolutions, for processors that are fast at them.

    python -m pipeline.points.quantise points out/heads

writes `points.int8.onnx` beside the weights, made for heads of rendered shards, and binds it to their entry
in the registry; see `pipeline.normals.quantise`. Weights that are registered anew lose it.
"""

import argparse
import hashlib
from itertools import islice

import cv2
import numpy as np

from pipeline.faces.points import SIZE
from pipeline.geometry.head_model import load_face_model
from pipeline.normals.onnx_export import import_exporter
from pipeline.normals.quantise import CROPS, quantise_convolutions
from pipeline.points.draw import jitter, true_window
from pipeline.points.export import halve
from pipeline.points.labels import decode_bgr, read_heads
from pipeline.weights import Int8File, find_weights, read_onnx, register_weights, write_file

KEPT = ("network.encoder.stem", "network.shape", "network.basis", "network.axes")
"""Layers that stay fp32: what the first one rounds is lost to all others."""


def head_crops(folder: str, count: int = CROPS, model: str | None = None) -> np.ndarray:
    """Returns crops about rendered heads as detectors would give them, (N, SIZE, SIZE, 3) uint8 RGB."""
    rng = np.random.default_rng(0)
    crops = []
    for head in islice(read_heads([folder], load_face_model(model)), count):
        image = np.ascontiguousarray(decode_bgr(head.image, cv2.IMREAD_COLOR)[..., ::-1])
        crops.append(jitter(true_window(head), rng, any_roll=False).crop(image, SIZE))
    return np.stack(crops)


def quantise_points(data: bytes, crops: np.ndarray) -> bytes:
    """Returns the network of `pipeline.points.export` with int8 convolutions.

    Args:
        data: Its ONNX file.
        crops: (N, SIZE, SIZE, 3) uint8 RGB, some dozens of typical ones.

    Raises:
        WeightsError: The exporter is missing.
    """
    onnx = import_exporter()
    model = onnx.load_from_string(data)
    metadata = {item.key: item.value for item in model.metadata_props}
    model = quantise_convolutions(model, crops, KEPT, ("Conv", "Gemm"))
    halve(onnx, model.graph)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def main() -> None:
    """Runs the command above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="of registered weights")
    parser.add_argument("heads", help="folder that `facet synth` wrote")
    options = parser.parse_args()
    entry, path = find_weights(options.name)
    data = quantise_points(read_onnx(options.name), head_crops(options.heads))
    file = Int8File(file=f"{entry.name}.int8.onnx", sha256=hashlib.sha256(data).hexdigest())
    write_file(path.with_name(file.file), data)
    register_weights(entry.model_copy(update={"int8": file}), path.parent)


if __name__ == "__main__":
    main()
