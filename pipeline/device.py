"""Which device a network computes on, and how precisely. torch is imported where it is asked."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PlanError

if TYPE_CHECKING:
    import torch


def may_have_cuda() -> bool:
    """Tells whether NVIDIA's driver is there and this process may use it: only then torch need be asked."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def has_fast_int8(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tells whether this processor multiplies int8 far faster than fp32, and without overflow: Intel's VNNI.

    Args:
        cpuinfo: Where Linux says what the processor can do; other systems are taken for unable.
    """
    try:
        lines = cpuinfo.read_text("utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "avx512_vnni" in flags or "avx_vnni" in flags


def choose_device(name: str, gpus: int | None = None) -> torch.device:
    """Resolves "auto", "cpu", "cuda" or "cuda:N".

    Args:
        name: What is asked for; "auto" is CUDA where there is a GPU, else the CPU.
        gpus: GPUs where it will be used; None: here.

    Raises:
        PlanError: There is no such device.
    """
    import torch

    if gpus is None:
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise PlanError(f"There is no device {name!r}: use auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda"):
        raise PlanError(f"The device {name!r} is not supported: use auto, cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise PlanError(f"There is no device {name!r}: CUDA shows {gpus} here.")
    return device


def use_bf16(precision: str, device: torch.device) -> bool:
    """Tells whether to compute in bf16.

    Args:
        precision: "auto" (where the device is faster at it), "bf16" or "fp32".
        device: Where.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"precision must be auto, bf16 or fp32, got {precision!r}")
    return precision == "bf16" or (precision == "auto" and faster_in_bf16(device))


def faster_in_bf16(device: torch.device) -> bool:
    """Tells whether a device convolves faster in bf16; where it has to emulate it, it is slower.

    Intel's cores without AMX have bf16 dot products, but oneDNN's convolutions with them take half as long
    again as in fp32: 89 against 57 ms for a crop through the compact network on one core of a Xeon with
    AVX512-BF16. AMD's cores gain from theirs.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    able = torch.cpu.get_capabilities()
    if able.get("amx_bf16") or able.get("arm_bf16") or able.get("bf16"):
        return True
    return bool(able.get("avx512_bf16")) and "intel" not in str(able.get("cpu_name", "")).lower()
