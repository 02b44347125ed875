"""Networks as the trainer builds them: with a mask and a confidence in both sizes."""

from __future__ import annotations

from pipeline.normals import network
from pipeline.normals.network import CrossModalNet

_OPTIONS = {"compact": {}, "resnet_unet": {"extra_head": True}}
# The published resnet_unet has neither mask nor confidence: its keys are those of the authors' weights.


def build_network(architecture: str) -> CrossModalNet:
    """Builds a network with fresh weights, ready to learn mask and confidence too.

    Args:
        architecture: "compact" or "resnet_unet".
    """
    return network.build_network(architecture, **_OPTIONS[architecture])
