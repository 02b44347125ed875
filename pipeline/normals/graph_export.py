"""The ways from crops to raw answers as ONNX graphs without parameters, which CPUs run without torch.

    python -m pipeline.normals.graph_export            writes graphs/ anew, after a change of an architecture

    image        (N, H, W, 3) uint8 RGB                      H and W multiples of 32
    raw          (N, 3, H, W) float32, see `pipeline.normals.network.NormalsOutput`
    mask         (N, 1, H, W) float32, logits                these two are lacking
    confidence   (N, 1, H, W) float32, logarithms            where a network has none

Batch norms are folded. Beside each graph a JSON file has the names and shapes of the parameters of the
weights' file ("file"), and the names of those that the graph takes once norms are folded ("graph").
"""

import json
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.normals.architectures import build_network
from pipeline.normals.network import CrossModalNet
from pipeline.normals.onnx_export import SIZE, import_exporter, to_onnx
from pipeline.normals.parameters import GRAPHS
from pipeline.normals.torch_network import fold_batch_norms
from pipeline.weights import write_file

OUTPUTS = ("raw", "mask", "confidence")
PREFIX = "network."


class CropToRaw(nn.Module):
    """A network from pixels to raw answers."""

    def __init__(self, network: CrossModalNet):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Maps (N, H, W, 3) uint8 to what the network answers with."""
        answer = self.network.image_to_normals(image.permute(0, 3, 1, 2).float() / 255)
        return tuple(part for part in answer if part is not None)


def raw_model(network: CrossModalNet) -> Any:
    """Returns a network, batch norms folded, as an ONNX model for crops of any number and size."""
    module = CropToRaw(network).eval()
    example = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
    with torch.no_grad():
        outputs = OUTPUTS[: len(module(example))]
    model = to_onnx(module, example, list(outputs))
    del model.graph.value_info[:]  # of the example's size
    for value in model.graph.input:
        _free_sides(value, 1)
    for value in model.graph.output:
        _free_sides(value, 2)
    return model


def _free_sides(value: Any, first: int) -> None:
    dims = value.type.tensor_type.shape.dim
    dims[first].dim_param, dims[first + 1].dim_param = "height", "width"


def export_graph(architecture: str, extra_head: bool = False) -> tuple[bytes, bytes]:
    """Returns the graph of an architecture and the JSON file beside it.

    Raises:
        WeightsError: The exporter is missing.
    """
    onnx = import_exporter()
    network = build_network(architecture, extra_head).eval()
    folded = fold_batch_norms(network)
    for parameter in folded.parameters():
        nn.init.normal_(parameter)  # the exporter joins equal ones, such as biases that are zero
    model = raw_model(folded)
    taken = [tensor for tensor in model.graph.initializer if tensor.name.startswith(PREFIX)]
    for tensor in taken:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights")
    names = {
        "file": {name: list(tensor.shape) for name, tensor in network.state_dict().items()},
        "graph": [tensor.name.removeprefix(PREFIX) for tensor in taken],
    }
    return model.SerializeToString(), json.dumps(names).encode()


def main() -> None:
    """Runs the command above."""
    for name in ("compact", "resnet_unet", "resnet_unet_masked"):
        graph, names = export_graph(name.removesuffix("_masked"), name.endswith("_masked"))
        write_file(GRAPHS / f"{name}.onnx", graph)
        write_file(GRAPHS / f"{name}.json", names)


if __name__ == "__main__":
    main()
