"""The points network as an ONNX file, the only form in which its weights are shipped.

    python -m pipeline.points.export out/points/checkpoint.pt weights --trained-how "on 5,000 heads"

writes `points.onnx` into a folder and its entry into the folder's registry.

    image     (N, 128, 128, 3) uint8 RGB, N is free: see `pipeline.faces.window`
    points    (N, 568, 2) float32, pixels of the crop: 500 surface points and the 68 landmarks
    sigma     (N, 568) float32, standard deviation of each, per axis, in the same pixels
    visible   (N, 568) float32, probability that a point is seen
    rotation  (N, 3, 3) float32, head space to the space of the crop camera, turned with the crop

Large parameters are stored as fp16, and made fp32 when the file is loaded. The metadata hold the digest of
the vertices that the points are.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.faces.points import SIZE
from pipeline.normals.onnx_export import import_exporter, to_onnx
from pipeline.normals.torch_network import fold_batch_norms
from pipeline.points.network import PointsNet
from pipeline.weights import WeightsEntry, register_weights, write_file

LARGE = 4096
"""Parameters of more numbers than this are stored as fp16."""


class CropToPoints(nn.Module):
    """The network from pixels to pixels.

    Args:
        network: A network; not changed.
        widen: Factor of sigma that makes it fit errors on heads that were not learned from.
    """

    def __init__(self, network: PointsNet, widen: float = 1.0):
        super().__init__()
        self.network = fold_batch_norms(network.eval())
        self.widen = widen

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Maps (N, 128, 128, 3) uint8 to points, sigma, visibility and rotation."""
        output = self.network(image.permute(0, 3, 1, 2).float() / 255)
        points = output.points * SIZE + (SIZE - 1) / 2
        right = output.axes[:, 0] / output.axes[:, 0].norm(dim=1, keepdim=True)
        up = output.axes[:, 1] - (output.axes[:, 1] * right).sum(1, keepdim=True) * right
        up = up / up.norm(dim=1, keepdim=True)
        forward = torch.stack(
            [
                right[:, 1] * up[:, 2] - right[:, 2] * up[:, 1],
                right[:, 2] * up[:, 0] - right[:, 0] * up[:, 2],
                right[:, 0] * up[:, 1] - right[:, 1] * up[:, 0],
            ],
            1,
        )
        rotation = torch.stack([right, up, forward], 2)
        return points, output.log_sigma.exp() * (SIZE * self.widen), output.visible.sigmoid(), rotation


def export_points(
    network: PointsNet,
    path: Path,
    metadata: dict[str, str],
    widen: float = 1.0,
) -> None:
    """Writes the network as ONNX, whole or not at all.

    Raises:
        WeightsError: A package is missing, or the file cannot be written.
    """
    onnx = import_exporter()
    example = torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)
    module = CropToPoints(network, widen).eval()
    model = to_onnx(module, example, ["points", "sigma", "visible", "rotation"])
    halve(onnx, model.graph)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    write_file(path, model.SerializeToString())


def halve(onnx: Any, graph: Any) -> None:
    """Stores large fp32 parameters of an ONNX graph as fp16."""
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size <= LARGE:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        cast = onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT)
        graph.node.insert(0, cast)


def main() -> None:
    """Runs the command above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="points")
    parser.add_argument("--widen", type=float, default=1.0, help="factor of sigma, from an evaluation")
    parser.add_argument("--licence", default="Apache-2.0")
    parser.add_argument("--trained-how", required=True)
    options = parser.parse_args()
    state = torch.load(options.checkpoint, weights_only=True)
    network = PointsNet()
    network.load_state_dict(state["mean"])
    about = {"licence": options.licence, "trained_how": options.trained_how}
    path = options.folder / f"{options.name}.onnx"
    export_points(network, path, {**about, "vertices": state["vertices"]}, options.widen)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = WeightsEntry(name=options.name, architecture="points", file=path.name, sha256=digest, **about)
    register_weights(entry, options.folder)


if __name__ == "__main__":
    main()
