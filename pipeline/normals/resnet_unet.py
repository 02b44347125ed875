"""The paper's size of the cross-modal network: two ResNet-18 encoders and a U-Net decoder.

Module names are those of the published weights, so that a state dict of the authors loads as it is, once
the parts that no pass uses are dropped: `base_model.*` (the image encoder a second time, with the unused
classifier of ResNet-18) and the full-resolution convolutions of the normal encoder.

Section numbers and layers: V. F. Abrevaya et al., CVPR 2020 (arXiv 2003.09691), and its published form.
"""

from collections.abc import Sequence

from torch import Tensor, nn

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
        self.conv_original_size0 = conv_relu(3, 64)
        self.conv_original_size1 = conv_relu(64, 64)
        self.layer0_1x1 = conv_relu(64, 64, kernel=1)
        self.layer1_1x1 = conv_relu(64, 64, kernel=1)
        self.layer2_1x1 = conv_relu(128, 128, kernel=1)
        self.layer3_1x1 = conv_relu(256, 256, kernel=1)
        self.layer4_1x1 = conv_relu(512, 768, kernel=1)

        self.conv_up3 = conv_relu(768, 640)
        self.conv_up2 = conv_relu(640, 320)
        self.conv_up1 = conv_relu(320, 320)
        self.conv_up0 = conv_relu(320, 192)
        self.conv_original_size2 = conv_relu(192, 64)
        self.conv_last = nn.Conv2d(64, 3, 1)
        self.extra_head = nn.Conv2d(64, 2, 1) if extra_head else None

        self.conv_up3_2 = conv_relu(512, 512)
        self.conv_up2_2 = conv_relu(512, 256)
        self.conv_up1_2 = conv_relu(256, 256)
        self.conv_up0_2 = conv_relu(256, 128)
        self.conv_original_size2_2 = conv_relu(128, 64)
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
        stages = (self.layer0_2, self.layer1_2, self.layer2_2, self.layer3_2, self.layer4_2)
        return _run(stages, normals)[-1]

    def decode_normals(self, latent: Tensor, skips: Sequence[Tensor] | None) -> NormalsOutput:
        """See `CrossModalNet.decode_normals`; mask and confidence are None without `extra_head`."""
        x = self.layer4_1x1(latent)
        stages = (self.conv_up3, self.conv_up2, self.conv_up1, self.conv_up0, self.conv_original_size2)
        for i, stage in enumerate(stages):
            x = stage(max_merge(double(x, align_corners=True), skips[i] if skips is not None else None))
        raw = fp32_conv(self.conv_last, x)
        if self.extra_head is None:
            return NormalsOutput(raw, None, None)
        extra = fp32_conv(self.extra_head, x)
        return NormalsOutput(raw, extra[:, :1], extra[:, 1:])

    def decode_image(self, latent: Tensor) -> Tensor:
        x = latent
        for stage in (
            self.conv_up3_2,
            self.conv_up2_2,
            self.conv_up1_2,
            self.conv_up0_2,
            self.conv_original_size2_2,
        ):
            x = stage(double(x, align_corners=True))
        return fp32_conv(self.conv_last_2, x)


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


def _run(stages: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Returns what every stage of a chain gives."""
    levels = []
    for stage in stages:
        x = stage(x)
        levels.append(x)
    return levels
