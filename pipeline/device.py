"""Where and how precisely a network computes."""

from __future__ import annotations

import torch

from pipeline.normals.precision import faster_in_bf16


def pick_device(name: str) -> torch.device:
    """Resolves "auto" to CUDA where there is one, else to the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Tells whether to compute in bfloat16: where asked, or where the device is faster at it."""
    if precision != "auto":
        return precision == "bfloat16"
    return faster_in_bf16(device)
