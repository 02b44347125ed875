"""Normals of many face crops: batches, the device's fast precision, results that do not depend on batches."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.device import choose_device, use_bf16
from pipeline.errors import PlanError
from pipeline.normals.architectures import LoadedWeights, load_weights
from pipeline.normals.network import STRIDE, CrossModalNet, NormalsOutput
from pipeline.weights import DEFAULT

logger = logging.getLogger(__name__)

_Net = TypeVar("_Net", bound=nn.Module)

CPU_BATCH = 8
"""Crops at a time on a CPU; from 2 to 16 the speed is the same, and more take more memory."""

CUDA_BATCH = 64

LARGEST_LOG_CONFIDENCE = 20.0
"""Bound of the learned confidence, so that its exponential is finite."""


class Estimated(NamedTuple):
    """Answers for N crops of H x W pixels.

    Attributes:
        normals: (N, H, W, 3) float32, unit length everywhere, camera space: x right, y up, z to the viewer.
        mask: (N, H, W) uint8, 255 where the answer is meant, else 0: the network's where it has learned
            one, else the hulls that were passed in; None where there is neither.
        confidence: (N, H, W) float32 > 0, the concentration of a von Mises-Fisher distribution around the
            normal: 1 is no idea, 1000 about 2 degrees; None for networks that do not learn one.
    """

    normals: np.ndarray
    mask: np.ndarray | None
    confidence: np.ndarray | None


class NormalsEstimator:
    """Estimates the surface normals of face crops with one set of weights on one device.

    Every image passes through the same arithmetic whatever its neighbours. On a CPU the results do not
    depend on the size of the batch: bit for bit in bf16, to 1e-6 in fp32; a crop alone is given an empty
    neighbour. On CUDA, where kernels are chosen by the size of the batch, short batches are filled up to the
    full one.

    Args:
        weights: Name or path of weights, or weights that are loaded already.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        batch_size: Crops at a time; None: what suits the device. Halved for good, and logged, when the
            device's memory does not hold it.
        mirror: Average with the answer for the mirrored crop: a little better at twice the time.
        precision: "auto" (bf16 where the device is faster at it), "bf16" or "fp32".

    Raises:
        WeightsError: The weights cannot be loaded.
        PlanError: There is no such device.
    """

    def __init__(
        self,
        weights: str | Path | LoadedWeights = DEFAULT,
        device: str = "auto",
        batch_size: int | None = None,
        mirror: bool = False,
        precision: str = "auto",
    ):
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.device = choose_device(device)
        loaded = weights if isinstance(weights, LoadedWeights) else load_weights(weights)
        self.entry = loaded.entry
        self.batch_size = batch_size or (CUDA_BATCH if self.device.type == "cuda" else CPU_BATCH)
        self._bf16 = use_bf16(precision, self.device)
        self._mirror = mirror
        network = fold_batch_norms(loaded.network)
        if self.device.type == "cpu" and not self._bf16:
            _replace_pointwise_convs(network)
        self._network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def precision(self) -> str:
        """What the convolutions compute in: "bf16" or "fp32"."""
        return "bf16" if self._bf16 else "fp32"

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
        parts: list[Estimated] = []
        start = 0
        while start < len(crops):
            try:
                part = self._estimate(crops[start : start + self.batch_size])
            except torch.OutOfMemoryError as error:
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
        return Estimated(normals, mask if mask is not None or hulls is None else hulls.copy(), confidence)

    def _estimate(self, crops: np.ndarray) -> Estimated:
        count = len(crops)
        # On a CPU a crop alone takes other kernels, whose rounding depends on the number of threads.
        least = self.batch_size if self.device.type == "cuda" else 2
        if count < least:
            crops = np.concatenate([crops, np.zeros((least - count, *crops.shape[1:]), np.uint8)])
        # (N, H, W, 3) in memory is (N, 3, H, W) channels-last: no copy but the one to the device.
        image = torch.from_numpy(np.ascontiguousarray(crops)).to(self.device).permute(0, 3, 1, 2)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            output = _answer(self._network, image.float() / 255, self._mirror)
        return _to_numpy(output, count)

    def _halve_batch(self, error: torch.OutOfMemoryError) -> None:
        if self.batch_size == 1:
            raise PlanError(f"The memory of {self.device} does not hold one crop: {error}.") from error
        self.batch_size //= 2
        logger.warning("The memory of %s is short: batches of %d from now on.", self.device, self.batch_size)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def fold_batch_norms(network: _Net) -> _Net:
    """Returns a copy in which each batch norm is folded into the convolution before it.

    Args:
        network: A network in evaluation mode; not changed. In all of ours the module registered before a
            batch norm is the convolution that it follows.
    """
    folded = copy.deepcopy(network)
    for parent in list(folded.modules()):
        before: tuple[str, nn.Module] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                assert before is not None
                assert isinstance(before[1], nn.Conv2d)
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], child))
                setattr(parent, name, nn.Identity())
            before = (name, child)
    return folded


class _PointwiseConv(nn.Module):
    """A 1x1 convolution as one matrix product over all pixels, in fp32 on a CPU.

    With one thread and less than 16 images torch leaves 1x1 convolutions to code that is slow and answers
    with channels first in memory, which slows down what follows as well.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight = nn.Parameter(conv.weight.flatten(1), requires_grad=False)
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, K, H, W), both with channels last in memory."""
        return F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


def _replace_pointwise_convs(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, nn.Conv2d) or (child.groups, child.padding) != (1, (0, 0)):
                continue
            if child.kernel_size == child.stride == (1, 1):
                setattr(parent, name, _PointwiseConv(child))


def _answer(network: CrossModalNet, image: Tensor, mirror: bool) -> NormalsOutput:
    output = network.image_to_normals(image)
    if not mirror:
        return output
    mirrored = network.image_to_normals(image.flip(3))
    sign = image.new_tensor([-1.0, 1.0, 1.0]).view(1, 3, 1, 1)
    return NormalsOutput(
        output.normals + sign * mirrored.normals.flip(3),
        _mean(output.mask_logits, mirrored.mask_logits),
        _mean(output.log_confidence, mirrored.log_confidence),
    )


def _mean(first: Tensor | None, mirrored: Tensor | None) -> Tensor | None:
    return None if first is None or mirrored is None else (first + mirrored.flip(3)) / 2


def _to_numpy(output: NormalsOutput, count: int) -> Estimated:
    normals = output.normals[:count]
    # Weights that overflow must not reach a file as NaN, or as zeros where only the length overflows; such
    # pixels face the viewer and are masked out.
    unit = torch.linalg.vector_norm(normals, dim=1, keepdim=True) > 0.5  # False for NaN
    viewer = normals.new_tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    normals = torch.where(unit, normals, viewer).permute(0, 2, 3, 1).contiguous()
    mask = confidence = None
    if output.mask_logits is not None:
        meant = (output.mask_logits[:count] > 0) & unit
        mask = (meant[:, 0].to(torch.uint8) * 255).cpu().numpy()
    if output.log_confidence is not None:
        log = output.log_confidence[:count, 0].float().nan_to_num(-LARGEST_LOG_CONFIDENCE)
        confidence = log.clamp(-LARGEST_LOG_CONFIDENCE, LARGEST_LOG_CONFIDENCE).exp().cpu().numpy()
    return Estimated(normals.cpu().numpy(), mask, confidence)


def _check(crops: np.ndarray, hulls: np.ndarray | None) -> None:
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[3] != 3:
        raise ValueError(f"crops must be (N, H, W, 3) uint8, got {crops.shape} {crops.dtype}")
    if crops.shape[1] % STRIDE or crops.shape[2] % STRIDE or 0 in crops.shape[1:3]:
        raise ValueError(f"height and width must be multiples of {STRIDE}, got {crops.shape[1:3]}")
    if hulls is not None and (hulls.dtype != np.uint8 or hulls.shape != crops.shape[:3]):
        raise ValueError(f"hulls must be {crops.shape[:3]} uint8, got {hulls.shape} {hulls.dtype}")
