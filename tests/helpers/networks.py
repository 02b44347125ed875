"""Networks for tests: one whose answer is known, and real ones whose every layer counts."""

import torch
from torch import Tensor

from pipeline.normals.architectures import build_network
from pipeline.normals.network import CrossModalNet, NormalsOutput


class Tilted(CrossModalNet):
    """Answers everywhere the same: `degrees` to the right, plus `reads` degrees times the mean brightness."""

    architecture = "tilted"

    def __init__(self, degrees: float = 0.0, reads: float = 0.0):
        super().__init__()
        self.degrees = degrees
        self.reads = reads

    def encode_image(self, image, skips=True):
        return image, None

    def decode_normals(self, latent, skips):
        angle = torch.deg2rad(self.degrees + self.reads * latent.mean((1, 2, 3)))
        one = torch.ones_like(latent[:, 0])
        x, z = (part[:, None, None] * one for part in (angle.sin(), angle.cos()))
        return NormalsOutput(2 * torch.stack([x, 0 * one, z], 1), None, None)  # raw: of any length

    def encode_normals(self, normals: Tensor) -> Tensor:
        raise NotImplementedError

    def decode_image(self, latent: Tensor) -> Tensor:
        raise NotImplementedError


def random_network(architecture: str = "compact", **options) -> CrossModalNet:
    """A network in evaluation mode, its heads and norms away from their start values."""
    torch.manual_seed(0)
    network = build_network(architecture, **options).eval()
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
        elif "head" in name or "conv_last" in name:
            torch.nn.init.normal_(module.weight, std=0.1)
    return network
