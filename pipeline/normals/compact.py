"""The compact size of the cross-modal network: our default, built for speed on CPUs.

    level   image encoder                     normal decoder
    1/2     48, one wide convolution  ----->  48 -> two convolutions -> head -> unfold to full size
    1/4     64, residual block        ----->  128
    1/8     128, residual block       ----->  192
    1/16    192, residual blocks      ----->  256
    1/32    256, residual blocks      = latent

Nothing runs at full size: the finest level holds 2x2 pixels folded into its channels. Convolutions in bf16
need 32 channels or more to run at full speed, and thin tensors of many pixels cost memory traffic instead of
arithmetic. Batch norm stands in the encoders only, where each modality has its own; the decoders, which
images and normals share, have none.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.normals.network import (
    CrossModalNet,
    NormalsOutput,
    ResidualBlock,
    conv_relu,
    double,
    fp32_conv,
    initialise,
    initialise_head,
    max_merge,
)

FOLD = 2
"""Side of the pixel blocks that the heads unfold."""

WIDTHS = (48, 64, 128, 192, 256)
"""Channels of the encoders at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size."""


class Encoder(nn.Module):
    """Halves the size five times."""

    def __init__(self, blocks: Sequence[int]):
        super().__init__()
        # 6x6 with stride 2 is a 3x3 convolution over folded pixels, and runs faster than it.
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTHS[0], 6, stride=2, padding=2), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(WIDTHS[i], WIDTHS[i + 1], 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(WIDTHS[i + 1]),
                nn.ReLU(inplace=True),
                *(ResidualBlock(WIDTHS[i + 1], WIDTHS[i + 1]) for _ in range(count)),
            )
            for i, count in enumerate(blocks)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Returns the five levels, fine to coarse, of an input (B, 3, H, W)."""
        levels = [self.stem(x)]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        return levels


class CompactNet(CrossModalNet):
    """The compact cross-modal network."""

    architecture = "compact"

    def __init__(self) -> None:
        super().__init__()
        fine, quarter, eighth, sixteenth, latent = WIDTHS
        self.image_encoder = Encoder(blocks=(1, 1, 2, 2))
        self.normal_encoder = Encoder(blocks=(1, 1, 1, 1))

        # The laterals take a part of the channels where a level is wide, all of them at the finest.
        self.laterals = nn.ModuleList(
            [
                conv_relu(sixteenth, 128, kernel=1),
                conv_relu(eighth, 96, kernel=1),
                conv_relu(quarter, 64, kernel=1),
                conv_relu(fine, fine, kernel=1),
            ]
        )
        self.expand = conv_relu(latent, 256, kernel=1)
        self.decoder = nn.ModuleList(
            [
                conv_relu(256, 192),
                conv_relu(192, 128),
                conv_relu(128, fine),
                nn.Sequential(conv_relu(fine, fine), conv_relu(fine, fine)),
            ]
        )
        self.head = nn.Conv2d(fine, 5 * FOLD**2, 1)

        self.image_decoder = nn.ModuleList(
            [conv_relu(latent, 128), conv_relu(128, 96), conv_relu(96, 64), conv_relu(64, fine)]
        )
        self.image_head = nn.Conv2d(fine, 3 * FOLD**2, 1)

        initialise(self)
        # Start from a surface that faces the viewer, and from mid-grey.
        initialise_head(self.head, [v for v in (0.0, 0.0, 1.0, 0.0, 0.0) for _ in range(FOLD**2)])
        initialise_head(self.image_head, [0.5] * 3 * FOLD**2)

    def encode_image(self, image: Tensor, skips: bool = True) -> tuple[Tensor, list[Tensor] | None]:
        """See `CrossModalNet.encode_image`; the laterals are at 1/16, 1/8, 1/4 and 1/2 of the size."""
        *levels, latent = self.image_encoder(image - 0.5)
        if not skips:
            return latent, None
        coarse_to_fine = zip(self.laterals, reversed(levels), strict=True)
        return latent, [lateral(level) for lateral, level in coarse_to_fine]

    def encode_normals(self, normals: Tensor) -> Tensor:
        return self.normal_encoder(normals)[-1]

    def decode_normals(self, latent: Tensor, skips: Sequence[Tensor] | None) -> NormalsOutput:
        x = self.expand(latent)
        for i, stage in enumerate(self.decoder):
            x = stage(max_merge(double(x), skips[i] if skips is not None else None))
        answer = F.pixel_shuffle(fp32_conv(self.head, x), FOLD)
        return NormalsOutput(answer[:, :3], answer[:, 3:4], answer[:, 4:5])

    def decode_image(self, latent: Tensor) -> Tensor:
        x = latent
        for stage in self.image_decoder:
            x = stage(double(x))
        return F.pixel_shuffle(fp32_conv(self.image_head, x), FOLD)
