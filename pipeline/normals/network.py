"""The cross-modal network: images and normals share one latent space.

Two encoders (image, normals), one latent space, two decoders (normals, image). Skip connections lead from
the image encoder to the normal decoder and can be switched off, so that the same decoder also answers for
a latent that came from normals. After V. F. Abrevaya, A. Boukhayma, P. H. S. Torr, E. Boyer, "Cross-modal
Deep Face Normals with Deactivable Skip Connections", CVPR 2020 (arXiv 2003.09691).

Two sizes of this design: `pipeline.normals.compact` (the default) and `pipeline.normals.resnet_unet` (the
paper's). Images are RGB in 0..1 without ImageNet statistics; height and width are multiples of 32.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHORTEST = 1e-6
"""A raw vector shorter than this has no direction; its normal faces the viewer."""


class NormalsOutput(NamedTuple):
    """What the normal decoder answers.

    Attributes:
        raw: (B, 3, H, W) fp32, normals before they are made unit length.
        mask_logits: (B, 1, H, W) fp32, > 0 where the answer is meant, or None.
        log_confidence: (B, 1, H, W) fp32, logarithm of the concentration of the answer, or None.
    """

    raw: Tensor
    mask_logits: Tensor | None
    log_confidence: Tensor | None

    @property
    def normals(self) -> Tensor:
        """Unit normals (B, 3, H, W) fp32; a raw vector without direction faces the viewer, (0, 0, 1)."""
        raw = self.raw.float()
        length = torch.linalg.vector_norm(raw, dim=1, keepdim=True)
        viewer = raw.new_tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
        return torch.where(length < SHORTEST, viewer, raw / length.clamp_min(SHORTEST))


class CrossModalNet(nn.Module, ABC):
    """Base of both sizes; a subclass gives the two encoders and the two decoders."""

    architecture: str

    @abstractmethod
    def encode_image(self, image: Tensor, skips: bool = True) -> tuple[Tensor, list[Tensor] | None]:
        """Encodes images (B, 3, H, W) in 0..1.

        Returns:
            The latent (B, C, H/32, W/32) and the laterals, coarse to fine, all >= 0; None for the laterals
            when `skips` is False, in which case they are not computed.
        """

    @abstractmethod
    def encode_normals(self, normals: Tensor) -> Tensor:
        """Encodes normals (B, 3, H, W) in -1..1 into the latent (B, C, H/32, W/32)."""

    @abstractmethod
    def decode_normals(self, latent: Tensor, skips: Sequence[Tensor] | None) -> NormalsOutput:
        """Decodes normals (B, 3, H, W) from a latent; `skips` None equals laterals that are all zero."""

    @abstractmethod
    def decode_image(self, latent: Tensor) -> Tensor:
        """Decodes images (B, 3, H, W), about 0..1 and not clamped, from a latent."""

    def image_to_normals(self, image: Tensor, skips: bool = True) -> NormalsOutput:
        """The pass that answers the user's question."""
        return self.decode_normals(*self.encode_image(image, skips))

    def image_to_image(self, image: Tensor) -> Tensor:
        """The pass for images without normals."""
        return self.decode_image(self.encode_image(image, skips=False)[0])

    def normals_to_normals(self, normals: Tensor) -> NormalsOutput:
        """The pass for normals without images; skips are off, as there is no image to take them from."""
        return self.decode_normals(self.encode_normals(normals), None)

    def forward(self, image: Tensor, skips: bool = True) -> NormalsOutput:
        return self.image_to_normals(image, skips)


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


def conv_relu(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Sequential:
    """Returns a convolution that keeps height and width, and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2), nn.ReLU(inplace=True)
    )


def double(x: Tensor, align_corners: bool = False) -> Tensor:
    """Doubles height and width, bilinearly; `align_corners` as torch has it."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=align_corners)


def max_merge(decoder: Tensor, lateral: Tensor | None) -> Tensor:
    """Takes a lateral into the last channels of a decoder's tensor by element-wise maximum.

    Args:
        decoder: (B, C, H, W), all >= 0.
        lateral: (B, K, H, W), K <= C, all >= 0; None leaves the decoder's tensor as it is, which is the
            same as a lateral of zeros.

    Returns:
        (B, C, H, W): the first C - K channels pass through, the last K are the larger of the two.
    """
    if lateral is None:
        return decoder
    if torch.is_grad_enabled():
        return _MaxMerge.apply(decoder, lateral.to(decoder.dtype))
    keep = decoder.shape[1] - lateral.shape[1]
    if keep == 0:
        return torch.maximum(decoder, lateral)
    return torch.cat([decoder[:, :keep], torch.maximum(decoder[:, keep:], lateral)], dim=1)


class _MaxMerge(torch.autograd.Function):
    """`max_merge` with one boolean map for the way back; built-in slices and `maximum` take far longer."""

    @staticmethod
    def forward(ctx: Any, decoder: Tensor, lateral: Tensor) -> Tensor:
        keep = decoder.shape[1] - lateral.shape[1]
        from_lateral = lateral > decoder[:, keep:]
        ctx.save_for_backward(from_lateral)
        ctx.keep = keep
        if keep == 0:
            return torch.maximum(decoder, lateral)
        return torch.cat([decoder[:, :keep], torch.maximum(decoder[:, keep:], lateral)], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        (from_lateral,) = ctx.saved_tensors
        last = gradient[:, ctx.keep :]
        to_lateral = last * from_lateral
        if ctx.keep == 0:
            return gradient - to_lateral, to_lateral
        return torch.cat([gradient[:, : ctx.keep], last - to_lateral], dim=1), to_lateral


def fp32_conv(conv: nn.Module, x: Tensor) -> Tensor:
    """Runs a last convolution in fp32 whatever came before: steps of bf16 are visible in relit faces."""
    with torch.autocast(x.device.type, enabled=False):
        return conv(x.float())


def initialise(module: nn.Module) -> None:
    """He initialisation for convolutions followed by ReLU, in place; biases zero, norms one.

    K. He et al., "Delving Deep into Rectifiers", ICCV 2015; fan-out keeps the gradient's scale.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.BatchNorm2d):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)


def initialise_head(head: nn.Conv2d, bias: Sequence[float]) -> None:
    """Starts a last convolution from a constant answer and small weights, in place."""
    nn.init.normal_(head.weight, std=0.01)
    with torch.no_grad():
        assert head.bias is not None
        head.bias.copy_(torch.tensor(bias))
