"""The weights that the authors of the paper published: their `model.pth`, imported as our `resnet_unet`.

Names and layers: V. F. Abrevaya et al., CVPR 2020 (arXiv 2003.09691), and its published form.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.normals.parameters import mismatches
from pipeline.normals.resnet_unet import ResNetUNet
from pipeline.weights import WeightsEntry, export_weights

_UNUSED_SHAPES = {
    "base_model.fc.weight": (1000, 512),
    "base_model.fc.bias": (1000,),
    "conv_original_size0_2.0.weight": (64, 3, 3, 3),
    "conv_original_size0_2.0.bias": (64,),
    "conv_original_size1_2.0.weight": (64, 64, 3, 3),
    "conv_original_size1_2.0.bias": (64,),
}
"""Tensors of the published model that no pass uses."""


def import_published(path: Path, name: str = "resnet_unet", folder: Path | None = None) -> WeightsEntry:
    """Imports the authors' `model.pth` as registered safetensors.

    The pickle is opened with `weights_only`, which runs no code of the file.

    Raises:
        WeightsError: The file cannot be opened safely, or is not the published network's.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}.", code="weights_missing") from error
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise WeightsError(
            f"{path} is no file of tensors that can be opened safely ({type(error).__name__})."
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        for name, tensor in state.items()
    ):
        raise WeightsError(f"{path} does not hold a state dict: names and tensors.")
    network = ResNetUNet()
    network.load_state_dict(convert_published(state))
    return export_weights(
        network,
        name,
        folder,
        licence="CC-BY-NC-4.0",
        trained_how="By the authors of arXiv 2003.09691 (CVPR 2020); imported from their published file.",
        half=False,
    )


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the 404 entries of the published state dict."""
    with torch.device("meta"):
        own = {name: tuple(tensor.shape) for name, tensor in ResNetUNet().state_dict().items()}
    copies = {f"base_model.{old}": own[new] for old, new in _base_model_names(own).items()}
    return {**copies, **own, **_UNUSED_SHAPES}


def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turns a state dict of the authors into one of `ResNetUNet`, strictly.

    Both forms are read: 404 entries, and 344 without the counters of the batch norms. The image encoder is
    there twice; the copy outside `base_model` counts.

    Args:
        state: Names and tensors as in the authors' `model.pth`.

    Returns:
        A state dict that `ResNetUNet().load_state_dict` takes strictly, fp32.

    Raises:
        WeightsError: Entries are missing, unexpected or of another shape; the message names them.
    """
    shapes = published_shapes()
    counters = {name for name in shapes if name.endswith("num_batches_tracked")}
    required = set(shapes) - (set() if counters & set(state) else counters)
    wrong = mismatches({name: shapes[name] for name in required}, state)
    if wrong:
        raise WeightsError(f"These are not the published resnet_unet weights. Entries {wrong}.")
    kept = [name for name in shapes if not name.startswith("base_model.") and name not in _UNUSED_SHAPES]
    zero = torch.zeros((), dtype=torch.int64)
    converted = {name: state.get(name, zero) for name in kept}
    # Clones: tensors that share storage, as the doubled encoder's do, cannot be written as safetensors.
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).clone().contiguous()
        for name, tensor in converted.items()
    }


def _base_model_names(names: Mapping[str, object]) -> dict[str, str]:
    """Maps names inside `base_model`, those of torchvision's ResNet-18, to ours."""
    renamed = {}
    for name in names:
        if match := re.fullmatch(r"layer0\.([01])\.(.+)", name):
            renamed[f"{'conv1' if match[1] == '0' else 'bn1'}.{match[2]}"] = name
        elif match := re.fullmatch(r"layer1\.1\.(.+)", name):
            renamed[f"layer1.{match[1]}"] = name
        elif re.fullmatch(r"layer[234]\..+", name):
            renamed[name] = name
    return renamed
