"""Registered weights with int8 convolutions, as an ONNX file for processors that are fast at them.

    python -m pipeline.normals.quantise compact out/faces

writes `compact.int8.onnx` beside the weights, made for crops of rendered shards, and binds it to their entry
in the registry: its digest there, theirs in its metadata. Weights that are registered anew lose it.

Weights have a scale for each output channel. Every activation that enters or leaves an int8 convolution has
one scale, the one with the smallest mean square error over the crops: the largest values are so rare that it
is better to clip them. The first layer and the last ones, whose errors show most, stay fp32.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq

from pipeline.images.png import decode_png
from pipeline.normals.architectures import LoadedWeights, build_loaded
from pipeline.normals.graph_export import PREFIX, raw_model
from pipeline.normals.onnx_export import import_exporter, metadata_of
from pipeline.normals.torch_network import fold_batch_norms
from pipeline.weights import Int8File, find_weights, read_weights, register_weights, write_file

KEPT = ("image_encoder.stem", "decoder.2", "decoder.3", "head")
"""Layers of `compact` that stay fp32."""

CROPS = 48
SAMPLES = 4096
"""Values of each activation that are looked at in each crop."""

SHARES = np.linspace(0.25, 1, 31)
"""Ranges that are tried, as shares of the whole."""


def quantise(loaded: LoadedWeights, crops: np.ndarray, kept: Sequence[str] = KEPT) -> bytes:
    """Returns the network from crops to raw answers with int8 convolutions, as ONNX.

    The crops, (N, 256, 256, 3) uint8 RGB, are some dozens of typical ones; layers whose names begin as `kept`
    says stay fp32.

    Raises:
        WeightsError: The exporter is missing.
    """
    onnx = import_exporter()
    begins = tuple(PREFIX + name for name in kept)
    model = quantise_convolutions(raw_model(fold_batch_norms(loaded.network)), crops, begins)
    onnx.helper.set_model_props(model, metadata_of(loaded.entry))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def quantise_convolutions(
    model: Any, crops: np.ndarray, kept: tuple[str, ...], kinds: tuple[str, ...] = ("Conv",)
) -> Any:
    """Returns an ONNX model with int8 convolutions, without metadata.

    Args:
        model: It takes one "image" at a time.
        crops: (N, H, W, 3) uint8 RGB, some dozens of typical ones.
        kept: Beginnings of the names of the weights that stay fp32.
        kinds: Operators that are made int8; "Gemm", a linear layer, takes int8 and answers in fp32.

    Raises:
        WeightsError: The exporter is missing.
    """
    onnx = import_exporter()
    from onnxruntime import quantization
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        plain, ready, done = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "ready", "done"))
        onnx.save(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        model = onnx.load(ready)
        layers = [node for node in model.graph.node if node.op_type in kinds]
        chosen = [node for node in layers if not node.input[1].startswith(kept)]
        convolutions = [node for node in chosen if node.op_type == "Conv"]
        relus = {node.input[0]: node for node in model.graph.node if node.op_type == "Relu"}
        followed = {node.name: relus[node.output[0]] for node in convolutions if node.output[0] in relus}
        entering = {node.input[0] for node in chosen}
        leaving = {followed.get(node.name, node).output[0] for node in convolutions}
        ranges = find_ranges(onnx, model, sorted(entering | leaving), crops)
        for node in convolutions:
            if node.name in followed:
                # A range that begins at 0 does what a ReLU does, and rounds once instead of twice.
                node.output[0] = followed[node.name].output[0]
                model.graph.node.remove(followed[node.name])
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=quantization.QuantType.QInt8,
            activation_qType=quantization.QuantType.QUInt8,
            tensors_range=TensorsData(
                quantization.CalibrationMethod.MinMax,
                {name: TensorData(lowest=low, highest=high) for name, (low, high) in ranges.items()},
            ),
            nodes_to_quantize=[node.name for node in chosen],
            nodes_to_exclude=[],
            op_types_to_quantize=list(kinds),
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(done)
        return onnx.load(done)


def find_ranges(
    onnx: Any, model: Any, names: Sequence[str], crops: np.ndarray
) -> dict[str, tuple[np.float32, np.float32]]:
    """Returns for each activation the range with the smallest mean square error in eight bits.

    Args:
        onnx: The package.
        model: A model that takes "image"; not changed.
        names: Of activations.
        crops: (N, 256, 256, 3) uint8 RGB.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options)
    rng = np.random.default_rng(0)
    values: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for crop in crops:
        for name, answer in zip(names, session.run(list(names), {"image": crop[None]}), strict=True):
            ends = answer.min(), answer.max()
            values[name].append(np.append(rng.choice(answer.ravel(), SAMPLES), ends))
    return {name: _best_range(np.concatenate(parts)) for name, parts in values.items()}


def _best_range(values: np.ndarray) -> tuple[np.float32, np.float32]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 1e-6)

    def error(share: float) -> float:
        scale = share * (high - low) / 255
        zero = np.rint(-share * low / scale)
        again = (np.rint(values / scale) + zero).clip(0, 255) - zero
        return float(np.mean((again * scale - values) ** 2))

    share = min(SHARES, key=error)
    return np.float32(share * low), np.float32(share * high)


def rendered_crops(folder: Path, count: int = CROPS) -> np.ndarray:
    """Returns crops of rendered shards, (N, 256, 256, 3) uint8 RGB."""

    def images() -> Iterator[np.ndarray]:
        for path in sorted(folder.glob("*.parquet")):
            for data in pq.read_table(path, columns=["image"])["image"].to_pylist():
                yield decode_png(data)

    return np.stack([image for image, _ in zip(images(), range(count), strict=False)])


def main() -> None:
    """Runs the command above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", help="of registered weights")
    parser.add_argument("crops", type=Path, help="folder that `facet synth` wrote")
    options = parser.parse_args()
    entry, path = find_weights(options.name)
    data = quantise(build_loaded(read_weights(options.name)), rendered_crops(options.crops))
    file = Int8File(file=f"{entry.name}.int8.onnx", sha256=hashlib.sha256(data).hexdigest())
    write_file(path.with_name(file.file), data)
    register_weights(entry.model_copy(update={"int8": file}), path.parent)


if __name__ == "__main__":
    main()
