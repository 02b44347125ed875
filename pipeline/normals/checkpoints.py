"""Checkpoints of a training run as files, and networks loaded from them."""

import io
from collections.abc import Sequence
from typing import Any

import torch

from pipeline.errors import OutputError, TrainingError
from pipeline.normals.architectures import build_network, load_weights
from pipeline.normals.network import CrossModalNet
from pipeline.storage.store import Store

FORMAT = 1
"""Version of what a checkpoint holds."""


def load_network(weights: str) -> CrossModalNet:
    """Loads weights by name or path, or the moving average of a training checkpoint (.pt), in eval mode.

    Raises:
        WeightsError: There are no such weights, or they are altered.
        TrainingError: The checkpoint cannot be read.
    """
    if weights.endswith(".pt"):
        state = read(weights)
        network = build_network(state["architecture"], extra_head=True)
        network.load_state_dict(state["ema"])
        return network.eval().requires_grad_(False)
    return load_weights(weights).network


def load_mean(weights: Sequence[str]) -> CrossModalNet:
    """Loads one network or the mean of several, parameter by parameter.

    Where one was trained on from the other, the mean is often better than both (Wortsman et al., "Model
    soups", ICML 2022).

    Raises:
        WeightsError: There are no such weights, or they are altered.
        TrainingError: A checkpoint cannot be read, or the networks are not of one architecture.
    """
    networks = [load_network(item) for item in weights]
    states = [network.state_dict() for network in networks]
    if any(state.keys() != states[0].keys() for state in states):
        raise TrainingError(f"The networks are not of one architecture: {', '.join(weights)}.")
    for name, tensor in states[0].items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([state[name] for state in states]).mean(0))
    return networks[0]


def read(path: str) -> dict[str, Any]:
    """Reads the checkpoint at a path or URL.

    Raises:
        TrainingError: It cannot be read.
    """
    try:
        return from_bytes(Store(path).read(""))
    except (OutputError, FileNotFoundError) as error:
        raise TrainingError(f"Cannot read the checkpoint {path}: {error}") from error


def to_bytes(state: dict[str, Any]) -> bytes:
    """Serialises a state of tensors, numbers, strings, lists and dictionaries."""
    stream = io.BytesIO()
    torch.save({"format": FORMAT, **state}, stream)
    return stream.getvalue()


def from_bytes(data: bytes) -> dict[str, Any]:
    """Reads a state; pickled code is refused.

    Raises:
        TrainingError: The bytes are no checkpoint of this program.
    """
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a torn or hostile file can raise anything
        raise TrainingError(f"The checkpoint cannot be read: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainingError("The file is not a checkpoint of a training run.")
    return state


def check_architecture(given: str, architecture: str) -> None:
    """Refuses the parameters of another network.

    Raises:
        TrainingError: It is of another architecture.
    """
    if given != architecture:
        raise TrainingError(
            f"The checkpoint is of a {given} network, the run trains {architecture}: choose "
            "another output folder or the same architecture."
        )
