"""Parameters of networks: checked against their architecture, and folded for its graph. Without torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import WeightsError
from pipeline.weights import WeightsFile

GRAPHS = Path(__file__).parent / "graphs"
"""Written by `pipeline.normals.graph_export`."""

NORM_EPSILON = 1e-5
"""Of torch's batch norms."""


def read_parameters(weights: WeightsFile) -> tuple[Path, dict[str, np.ndarray]]:
    """Returns the graph of the architecture of weights, and their parameters by name.

    Raises:
        WeightsError: There is no such architecture, or the weights are not of it; the message names what
            differs.
    """
    parameters = weights.parameters()
    architecture = weights.entry.architecture
    masked = architecture == "resnet_unet" and any(name.startswith("extra_head.") for name in parameters)
    graph = GRAPHS / f"{architecture}{'_masked' if masked else ''}.onnx"
    if not graph.is_file():
        known = sorted(path.stem for path in GRAPHS.glob("*.onnx") if not path.stem.endswith("_masked"))
        raise WeightsError(f"There is no architecture {architecture!r}; known: {', '.join(known)}.")
    if wrong := mismatches(_names(graph)["file"], parameters):
        raise WeightsError(
            f"{weights.path} does not hold weights of the architecture {architecture!r}. Entries {wrong}."
        )
    return graph, parameters


def graph_parameters(graph: Path, parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the parameters that a graph takes, each batch norm folded into the convolution before it.

    Returns:
        Weight and bias of every convolution, float32.
    """
    folded = {name: values.astype(np.float32) for name, values in parameters.items()}
    for name in parameters:
        norm, _, what = name.rpartition(".")
        if what != "running_mean":
            continue
        # In all of our networks "bn1" follows "conv1", and ".1" follows ".0".
        parent, _, last = norm.rpartition(".")
        conv = f"{parent}.{f'conv{last[2:]}' if last.startswith('bn') else int(last) - 1}"
        scale, bias, mean, variance = (
            folded.pop(f"{norm}.{part}").astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale /= np.sqrt(variance + NORM_EPSILON)
        folded[f"{conv}.weight"] = (folded[f"{conv}.weight"] * scale[:, None, None, None]).astype(np.float32)
        before = folded.get(f"{conv}.bias", np.zeros(()))
        folded[f"{conv}.bias"] = ((before - mean) * scale + bias).astype(np.float32)
    return {name: folded[name] for name in _names(graph)["graph"]}


def _names(graph: Path) -> dict[str, Any]:
    return json.loads(graph.with_suffix(".json").read_text("utf-8"))


def mismatches(expected: Mapping[str, Sequence[int]], state: Mapping[str, Any]) -> str:
    """Names parameters that are missing, unexpected or of another shape; empty where there are none."""
    kinds = {
        "missing": expected.keys() - state.keys(),
        "unexpected": state.keys() - expected.keys(),
        "of another shape": {
            name for name in expected.keys() & state if tuple(state[name].shape) != tuple(expected[name])
        },
    }
    return "; ".join(f"{kind}: {_some(sorted(names))}" for kind, names in kinds.items() if names)


def _some(names: list[str], at_most: int = 5) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
