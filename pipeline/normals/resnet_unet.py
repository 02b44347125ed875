"""The paper's size of the cross-modal network: two ResNet-18 encoders and a U-Net decoder.

Module names are those of the published weights, so that a state dict of the authors loads as it is, once
the parts that no pass uses are dropped: `base_model.*` (the image encoder a second time, with the unused
classifier of ResNet-18) and the full-resolution convolutions of the normal encoder.

Section numbers and layers: V. F. Abrevaya et al., CVPR 2020 (arXiv 2003.09691), and its published form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import WeightsError
from pipeline.normals.network import (
    CrossModalNet,
    NormalsOutput,
    fp32_conv,
    initialise,
    initialise_head,
    max_merge,
)

PUBLISHED_PARAMETERS = 35_780_654
"""Parameters of the published model, each counted once, unused ones included."""

_UNUSED_SHAPES = {
    "base_model.fc.weight": (1000, 512),
    "base_model.fc.bias": (1000,),
    "conv_original_size0_2.0.weight": (64, 3, 3, 3),
    "conv_original_size0_2.0.bias": (64,),
    "conv_original_size1_2.0.weight": (64, 64, 3, 3),
    "conv_original_size1_2.0.bias": (64,),
}
"""Tensors of the published model that no pass uses."""


class ResidualBlock(nn.Module):
    """The basic block of ResNet-18 (K. He et al., CVPR 2016)."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Sequential()
        if stride != 1:
            self.downsample.append(nn.Conv2d(channels_in, channels, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C_in, H, W) to (B, C, H/stride, W/stride), all >= 0."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(residual + self.downsample(x), inplace=True)


class ResNetUNet(CrossModalNet):
    """The paper's network.

    Args:
        extra_head: Adds a 1x1 convolution for the mask and the confidence beside the three components of
            the normal. The authors' weights have none.
    """

    architecture = "resnet_unet"

    def __init__(self, extra_head: bool = False):
        super().__init__()
        self.layer0, self.layer1, self.layer2, self.layer3, self.layer4 = _resnet18_stages()
        self.layer0_2, self.layer1_2, self.layer2_2, self.layer3_2, self.layer4_2 = _resnet18_stages()
        self.conv_original_size0 = _conv_relu(3, 64)
        self.conv_original_size1 = _conv_relu(64, 64)
        self.layer0_1x1 = _conv_relu(64, 64, kernel=1)
        self.layer1_1x1 = _conv_relu(64, 64, kernel=1)
        self.layer2_1x1 = _conv_relu(128, 128, kernel=1)
        self.layer3_1x1 = _conv_relu(256, 256, kernel=1)
        self.layer4_1x1 = _conv_relu(512, 768, kernel=1)

        self.conv_up3 = _conv_relu(768, 640)
        self.conv_up2 = _conv_relu(640, 320)
        self.conv_up1 = _conv_relu(320, 320)
        self.conv_up0 = _conv_relu(320, 192)
        self.conv_original_size2 = _conv_relu(192, 64)
        self.conv_last = nn.Conv2d(64, 3, 1)
        self.extra_head = nn.Conv2d(64, 2, 1) if extra_head else None

        self.conv_up3_2 = _conv_relu(512, 512)
        self.conv_up2_2 = _conv_relu(512, 256)
        self.conv_up1_2 = _conv_relu(256, 256)
        self.conv_up0_2 = _conv_relu(256, 128)
        self.conv_original_size2_2 = _conv_relu(128, 64)
        self.conv_last_2 = nn.Conv2d(64, 3, 1)

        initialise(self)
        # Start from a surface that faces the viewer, and from mid-grey.
        initialise_head(self.conv_last, [0.0, 0.0, 1.0])
        initialise_head(self.conv_last_2, [0.5, 0.5, 0.5])
        if self.extra_head is not None:
            initialise_head(self.extra_head, [0.0, 0.0])

    def encode_image(self, image: Tensor, skips: bool = True) -> tuple[Tensor, list[Tensor] | None]:
        """See `CrossModalNet.encode_image`; the laterals are at 1/16, 1/8, 1/4, 1/2 and full size."""
        *levels, latent = _run((self.layer0, self.layer1, self.layer2, self.layer3, self.layer4), image)
        if not skips:
            return latent, None
        convs = (self.layer3_1x1, self.layer2_1x1, self.layer1_1x1, self.layer0_1x1)
        laterals = [conv(level) for conv, level in zip(convs, reversed(levels), strict=True)]
        return latent, [*laterals, self.conv_original_size1(self.conv_original_size0(image))]

    def encode_normals(self, normals: Tensor) -> Tensor:
        """See `CrossModalNet.encode_normals`."""
        stages = (self.layer0_2, self.layer1_2, self.layer2_2, self.layer3_2, self.layer4_2)
        return _run(stages, normals)[-1]

    def decode_normals(self, latent: Tensor, skips: Sequence[Tensor] | None) -> NormalsOutput:
        """See `CrossModalNet.decode_normals`; mask and confidence are None without `extra_head`."""
        x = self.layer4_1x1(latent)
        stages = (self.conv_up3, self.conv_up2, self.conv_up1, self.conv_up0, self.conv_original_size2)
        for i, stage in enumerate(stages):
            x = stage(max_merge(_double(x), skips[i] if skips is not None else None))
        raw = fp32_conv(self.conv_last, x)
        if self.extra_head is None:
            return NormalsOutput(raw, None, None)
        extra = fp32_conv(self.extra_head, x)
        return NormalsOutput(raw, extra[:, :1], extra[:, 1:])

    def decode_image(self, latent: Tensor) -> Tensor:
        """See `CrossModalNet.decode_image`."""
        x = latent
        for stage in (
            self.conv_up3_2,
            self.conv_up2_2,
            self.conv_up1_2,
            self.conv_up0_2,
            self.conv_original_size2_2,
        ):
            x = stage(_double(x))
        return fp32_conv(self.conv_last_2, x)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the 404 entries of the published state dict."""
    with torch.device("meta"):
        own = {name: tuple(tensor.shape) for name, tensor in ResNetUNet().state_dict().items()}
    copies = {f"base_model.{old}": own[new] for old, new in _base_model_names(own).items()}
    return {**copies, **own, **_UNUSED_SHAPES}


def published_parameter_count() -> int:
    """Counts the parameters of the published form, the doubled image encoder once: 35,780,654."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    copies = {f"base_model.{old}" for old in _base_model_names(published_shapes())}
    return sum(
        torch.Size(shape).numel()
        for name, shape in published_shapes().items()
        if not name.endswith(buffers) and name not in copies
    )


def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turns a state dict of the authors into one of `ResNetUNet`, strictly.

    Both forms are read: 404 entries, and 344 without the counters of the batch norms. The image encoder is
    there twice; the copy outside `base_model` counts.

    Args:
        state: Names and tensors as in the authors' `model.pth`.

    Returns:
        A state dict that `ResNetUNet().load_state_dict` takes strictly, fp32.

    Raises:
        WeightsError: Entries are missing, unexpected or of another shape; the message names them.
    """
    shapes = published_shapes()
    counters = {name for name in shapes if name.endswith("num_batches_tracked")}
    required = set(shapes) - (set() if counters & set(state) else counters)
    shaped = {name for name in required & set(state) if tuple(state[name].shape) != shapes[name]}
    problems = [
        f"{what}: {_some(sorted(names))}"
        for what, names in (
            ("missing", required - set(state)),
            ("unexpected", set(state) - required),
            ("of another shape", shaped),
        )
        if names
    ]
    if problems:
        raise WeightsError(f"These are not the published resnet_unet weights. Entries {'; '.join(problems)}.")
    kept = [name for name in shapes if not name.startswith("base_model.") and name not in _UNUSED_SHAPES]
    zero = torch.zeros((), dtype=torch.int64)
    converted = {name: state.get(name, zero) for name in kept}
    # Clones: tensors that share storage, as the doubled encoder's do, cannot be written as safetensors.
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).clone().contiguous()
        for name, tensor in converted.items()
    }


def _resnet18_stages() -> tuple[nn.Sequential, ...]:
    """ResNet-18 without its classifier; the max-pool heads layer1, so that layer0 is a level of its own."""
    stem = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    return (
        nn.Sequential(stem, nn.BatchNorm2d(64), nn.ReLU(inplace=True)),
        nn.Sequential(
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Sequential(ResidualBlock(64, 64), ResidualBlock(64, 64)),
        ),
        nn.Sequential(ResidualBlock(64, 128, stride=2), ResidualBlock(128, 128)),
        nn.Sequential(ResidualBlock(128, 256, stride=2), ResidualBlock(256, 256)),
        nn.Sequential(ResidualBlock(256, 512, stride=2), ResidualBlock(512, 512)),
    )


def _base_model_names(names: Mapping[str, object]) -> dict[str, str]:
    """Maps names inside `base_model`, those of torchvision's ResNet-18, to ours."""
    renamed = {}
    for name in names:
        if match := re.fullmatch(r"layer0\.([01])\.(.+)", name):
            renamed[f"{'conv1' if match[1] == '0' else 'bn1'}.{match[2]}"] = name
        elif match := re.fullmatch(r"layer1\.1\.(.+)", name):
            renamed[f"layer1.{match[1]}"] = name
        elif re.fullmatch(r"layer[234]\..+", name):
            renamed[name] = name
    return renamed


def _run(stages: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Returns what every stage of a chain gives."""
    levels = []
    for stage in stages:
        x = stage(x)
        levels.append(x)
    return levels


def _conv_relu(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2), nn.ReLU(inplace=True)
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _some(names: list[str], at_most: int = 8) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
