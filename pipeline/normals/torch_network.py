"""The network through torch: on GPUs, in bf16, and wherever a network is not read from a file."""

import copy
import os
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.device import choose_device, use_bf16
from pipeline.normals.architectures import LoadedWeights
from pipeline.normals.estimated import LARGEST_LOG_CONFIDENCE, Estimated
from pipeline.normals.network import CrossModalNet, NormalsOutput

_Net = TypeVar("_Net", bound=nn.Module)

CPU_BATCH = 8
"""Crops at a time on a CPU; from 2 to 16 the speed is the same, and more take more memory."""

CUDA_BATCH = 64


# The threads of torch are not there in a process that forks off one that has used them, as web servers do
# that load first: its network would wait for them for ever.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class TorchNetwork:
    """Weights on a device of torch; see `pipeline.normals.inference.Network`.

    "auto" precision is bf16 where the device is faster at it. Short batches are filled up on CUDA.

    Raises:
        PlanError: There is no such device.
    """

    def __init__(
        self, loaded: LoadedWeights, device: str, batch_size: int | None, mirror: bool, precision: str
    ):
        self._device = choose_device(device)
        self.device = str(self._device)
        self.batch_size = batch_size or (CUDA_BATCH if self._device.type == "cuda" else CPU_BATCH)
        self._bf16 = use_bf16(precision, self._device)
        self.precision = "bf16" if self._bf16 else "fp32"
        self._mirror = mirror
        network = fold_batch_norms(loaded.network)
        if self._device.type == "cpu" and not self._bf16:
            _replace_pointwise_convs(network)
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, crops: np.ndarray) -> Estimated:
        """Answers for (N, H, W, 3) uint8 crops, at most `batch_size`.

        Raises:
            MemoryError: The device's memory does not hold so many.
        """
        count = len(crops)
        # On a CPU a crop alone takes other kernels, whose rounding depends on the number of threads.
        least = self.batch_size if self._device.type == "cuda" else 2
        if count < least:
            crops = np.concatenate([crops, np.zeros((least - count, *crops.shape[1:]), np.uint8)])
        try:
            # (N, H, W, 3) in memory is (N, 3, H, W) channels-last: no copy but the one to the device.
            image = torch.from_numpy(np.ascontiguousarray(crops)).to(self._device).permute(0, 3, 1, 2)
            with (
                torch.inference_mode(),
                torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16),
            ):
                output = _answer(self._network, image.float() / 255, self._mirror)
            return _to_numpy(output, count)
        except torch.OutOfMemoryError as error:
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise MemoryError(str(error)) from error


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
