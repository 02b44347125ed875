"""Networks by name: built with fresh parameters, or loaded from weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.normals.compact import CompactNet
from pipeline.normals.network import CrossModalNet
from pipeline.normals.resnet_unet import ResNetUNet
from pipeline.weights import WeightsEntry, read_weights

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

    Args:
        name_or_path: See `pipeline.weights.read_weights`.

    Raises:
        WeightsError: The name is not known, the file is missing, altered or not of the architecture.
    """
    entry, path, state = read_weights(name_or_path)
    network = build_network(entry.architecture, any(name.startswith("extra_head.") for name in state))
    wrong = mismatches({name: tensor.shape for name, tensor in network.state_dict().items()}, state)
    if wrong:
        raise WeightsError(
            f"{path} does not hold weights of the architecture {entry.architecture!r}. Entries {wrong}."
        )
    network.load_state_dict(state)
    return LoadedWeights(network.eval().requires_grad_(False), entry)


def mismatches(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> str:
    """Names parameters that are missing, unexpected or of another shape; empty where there are none."""
    kinds = {
        "missing": expected.keys() - state.keys(),
        "unexpected": state.keys() - expected.keys(),
        "of another shape": {name for name in expected.keys() & state if state[name].shape != expected[name]},
    }
    return "; ".join(f"{kind}: {_some(sorted(names))}" for kind, names in kinds.items() if names)


def _some(names: list[str], at_most: int = 5) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
