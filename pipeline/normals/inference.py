"""Normals of many face crops: the runtime and its precision chosen, results that do not depend on batches.

On a CPU ONNX Runtime computes, and torch is not imported; on a GPU torch does.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import cv2
import numpy as np

from pipeline.device import has_fast_int8, may_have_cuda
from pipeline.errors import PlanError, WeightsError
from pipeline.normals.estimated import Estimated
from pipeline.weights import DEFAULT, WeightsFile, read_weights

if TYPE_CHECKING:
    from pipeline.normals.architectures import LoadedWeights

logger = logging.getLogger(__name__)

STRIDE = 32
"""Height and width of crops must be multiples of this."""

Runtime = Literal["onnx", "torch"]


class Network(Protocol):
    """Weights that compute.

    Attributes:
        device: Where.
        precision: What the convolutions compute in: "int8", "bf16" or "fp32".
        batch_size: Crops at a time; may be lowered.
    """

    device: str
    precision: str
    batch_size: int

    def __call__(self, crops: np.ndarray) -> Estimated:
        """Answers for (N, H, W, 3) uint8 crops, at most `batch_size`; MemoryError where they do not fit."""


class NormalsEstimator:
    """Estimates the surface normals of face crops with one set of weights on one device.

    Every image passes through the same arithmetic whatever its neighbours. Through ONNX Runtime, which
    takes one crop at a time, the results are the same bit for bit, however crops fall into batches. With
    torch on a CPU they are in bf16, and to 1e-6 in fp32, where a crop alone is given an empty neighbour; on
    CUDA, where kernels are chosen by the size of the batch, short batches are filled up to the full one.

    A crop that is brighter on its right is shown mirrored: a photo and its mirror image, on which the network
    alone differs by some 5 degrees, get the same answer, mirrored.

    Args:
        weights: Name or path of weights, their file, or a network that is loaded already, which torch runs.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        batch_size: Crops at a time; None: what suits the device. Halved for good, and logged, when the
            device's memory does not hold it.
        mirror: Average with the answer for the mirrored crop: a little better at twice the time.
        precision: "auto" (the fastest of those that answer alike), "int8", "bf16" or "fp32".
        runtime: "auto" (onnx on CPUs, torch on GPUs and for bf16), "onnx" or "torch".

    Raises:
        WeightsError: The weights cannot be loaded, or not in this precision.
        PlanError: There is no such device, or the runtime cannot do what is asked.
    """

    def __init__(
        self,
        weights: str | Path | WeightsFile | LoadedWeights = DEFAULT,
        device: str = "auto",
        batch_size: int | None = None,
        mirror: bool = False,
        precision: str = "auto",
        *,
        runtime: str = "auto",
    ):
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if isinstance(weights, str | os.PathLike):
            weights = read_weights(weights)
        if not isinstance(weights, WeightsFile) and runtime == "auto":
            runtime = "torch"
        self.entry = weights.entry
        self.runtime = choose_runtime(runtime, device, precision)
        if self.runtime == "onnx":
            from pipeline.normals.onnx_network import OnnxNetwork

            if not isinstance(weights, WeightsFile):
                raise PlanError("The runtime onnx takes weights from files.")
            precision = choose_precision(precision, weights)
            self._network: Network = OnnxNetwork(weights, batch_size, mirror, precision)
        else:
            from pipeline.normals.architectures import build_loaded
            from pipeline.normals.torch_network import TorchNetwork

            loaded = build_loaded(weights) if isinstance(weights, WeightsFile) else weights
            self._network = TorchNetwork(loaded, device, batch_size, mirror, precision)

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda" or "cuda:N"."""
        return self._network.device

    @property
    def batch_size(self) -> int:
        """Crops at a time."""
        return self._network.batch_size

    @property
    def precision(self) -> str:
        """What the convolutions compute in: "int8", "bf16" or "fp32"."""
        return self._network.precision

    def __call__(self, crops: np.ndarray, hulls: np.ndarray | None = None) -> Estimated:
        """Estimates the normals of crops.

        Args:
            crops: (N, H, W, 3) uint8 RGB, H and W multiples of 32; made for 256 x 256. N may be 0.
            hulls: (N, H, W) uint8 masks that take the place of the network's where it has none.

        Raises:
            ValueError: The crops have another shape or type.
            PlanError: Not even one crop fits into the memory of the device.
        """
        _check(crops, hulls)
        turned = _brighter_on_the_right(crops)
        shown = np.where(turned[:, None, None, None], crops[:, :, ::-1], crops)
        parts: list[Estimated] = []
        start = 0
        while start < len(crops):
            try:
                part = self._network(shown[start : start + self.batch_size])
            except MemoryError as error:
                self._halve_batch(error)
                continue
            parts.append(part)
            start += len(part.normals)
        if not parts:
            empty = np.empty(crops.shape, np.float32)
            return Estimated(empty, None if hulls is None else hulls.copy(), None)
        normals, mask, confidence = (
            None if part[0] is None else np.concatenate(part) for part in zip(*parts, strict=True)
        )
        assert normals is not None
        for values in (normals, mask, confidence):
            if values is not None:
                values[turned] = values[turned][:, :, ::-1]
        normals[turned, ..., 0] *= -1
        return Estimated(normals, mask if mask is not None or hulls is None else hulls.copy(), confidence)

    def _halve_batch(self, error: MemoryError) -> None:
        if self.batch_size == 1:
            raise PlanError(f"The memory of {self.device} does not hold one crop: {error}.") from error
        self._network.batch_size //= 2
        logger.warning("The memory of %s is short: batches of %d from now on.", self.device, self.batch_size)


def choose_runtime(runtime: str, device: str = "auto", precision: str = "auto") -> Runtime:
    """Returns what computes: ONNX Runtime on CPUs, torch on GPUs and in bf16.

    Raises:
        PlanError: The runtime cannot do what is asked.
    """
    if runtime not in ("auto", "onnx", "torch") or precision not in ("auto", "int8", "bf16", "fp32"):
        raise ValueError(f"there is no runtime {runtime!r} or no precision {precision!r}")
    if runtime == "onnx" and (device not in ("auto", "cpu") or precision == "bf16"):
        raise PlanError(
            f"The runtime onnx computes on CPUs, in int8 or fp32, not on {device} in {precision}."
        )
    if precision == "int8" and (runtime == "torch" or device not in ("auto", "cpu")):
        raise PlanError("int8 is for CPUs and the runtime onnx.")
    if runtime == "onnx" or precision == "int8":
        return "onnx"
    if runtime == "torch" or precision == "bf16" or device not in ("auto", "cpu"):
        return "torch"
    if device == "auto" and may_have_cuda():
        from pipeline.device import choose_device

        return "torch" if choose_device("auto").type == "cuda" else "onnx"
    return "onnx"


def choose_precision(precision: str, weights: WeightsFile) -> str:
    """Returns what ONNX Runtime computes in here: "int8" or "fp32".

    "auto" is int8 where the weights and the processor have it.

    Raises:
        WeightsError: int8 is asked for, and the weights have none.
        PlanError: The processor has no fast int8, and what it has instead overflows.
    """
    able = has_fast_int8()
    if precision == "auto":
        return "int8" if weights.int8 is not None and able else "fp32"
    if precision == "int8" and weights.int8 is None:
        raise WeightsError(f"The weights {weights.entry.name!r} have no int8 file: use precision fp32.")
    if precision == "int8" and not able:
        raise PlanError("This processor has no fast int8 (VNNI): use precision fp32.")
    return precision


def _brighter_on_the_right(crops: np.ndarray) -> np.ndarray:
    half = crops.shape[2] // 2
    sums = [[sum(cv2.sumElems(side)) for side in (crop[:, :half], crop[:, half:])] for crop in crops]
    return np.array([left < right for left, right in sums], bool)


def _check(crops: np.ndarray, hulls: np.ndarray | None) -> None:
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[3] != 3:
        raise ValueError(f"crops must be (N, H, W, 3) uint8, got {crops.shape} {crops.dtype}")
    if crops.shape[1] % STRIDE or crops.shape[2] % STRIDE or 0 in crops.shape[1:3]:
        raise ValueError(f"height and width must be multiples of {STRIDE}, got {crops.shape[1:3]}")
    if hulls is not None and (hulls.dtype != np.uint8 or hulls.shape != crops.shape[:3]):
        raise ValueError(f"hulls must be {crops.shape[:3]} uint8, got {hulls.shape} {hulls.dtype}")
