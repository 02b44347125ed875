"""What a measurement was made on: without it a figure means nothing."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pipeline.processes import available_cpus

PACKAGES = ("torch", "ray", "opencv-python-headless", "dlib-bin", "numpy", "pyarrow")


def describe_machine() -> dict[str, Any]:
    """Returns processor, usable cores, memory, GPUs, and the versions that speed depends on."""
    return {
        "cpu": _cpu_model(),
        "cores": available_cpus(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "load_before": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
