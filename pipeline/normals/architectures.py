"""Networks by name: built with fresh parameters, or loaded from weights."""

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.errors import WeightsError
from pipeline.normals.compact import CompactNet
from pipeline.normals.network import CrossModalNet
from pipeline.normals.parameters import read_parameters
from pipeline.normals.resnet_unet import ResNetUNet
from pipeline.weights import WeightsEntry, WeightsFile, read_weights

ARCHITECTURES = ("compact", "resnet_unet")


@dataclass(frozen=True)
class LoadedWeights:
    """A network in evaluation mode, on the CPU in fp32, and the entry that it was loaded by."""

    network: CrossModalNet
    entry: WeightsEntry


def build_network(architecture: str, extra_head: bool = False) -> CrossModalNet:
    """Builds a network with fresh parameters.

    Args:
        architecture: One of `ARCHITECTURES`.
        extra_head: Let `resnet_unet` answer with mask and confidence too, which its authors' weights do not;
            `compact` always does.

    Raises:
        WeightsError: There is no such architecture.
    """
    if architecture == "compact":
        return CompactNet()
    if architecture == "resnet_unet":
        return ResNetUNet(extra_head)
    raise WeightsError(f"There is no architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}.")


def load_weights(name_or_path: str | Path) -> LoadedWeights:
    """Loads weights by their registered name, or from a safetensors file.

    Raises:
        WeightsError: The name is not known, the file is missing, altered or not of the architecture.
    """
    return build_loaded(read_weights(name_or_path))


def build_loaded(weights: WeightsFile) -> LoadedWeights:
    """Builds the network of weights that were read.

    Raises:
        WeightsError: The file is not of the architecture.
    """
    entry = weights.entry
    _, state = read_parameters(weights)
    with torch.device("meta"):  # parameters come from the file: none are drawn
        network = build_network(entry.architecture, any(name.startswith("extra_head.") for name in state))
    # Tensors of their own: those of the file cannot be written to.
    tensors = {name: torch.tensor(values) for name, values in state.items()}
    network.load_state_dict(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()},
        assign=True,
    )
    return LoadedWeights(network.eval().requires_grad_(False), entry)
