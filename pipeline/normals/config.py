"""Configuration of the network."""

from typing import Literal

from pydantic import Field

from pipeline.config import Section


class NormalsConfig(Section):
    """The network; see `pipeline.normals.inference.NormalsEstimator`.

    Attributes:
        weights: Name of registered weights, or path of a safetensors file.
        device: auto (CUDA where there is one), cpu, cuda or cuda:N.
        batch_size: Faces at a time; None: what suits the device.
        mirror: Average with the answer for the mirrored crop: a little better at twice the time.
        precision: auto (int8 on CPUs that are fast at it, for weights that have it; bf16 on GPUs; else
            fp32), int8, bf16 or fp32.
        runtime: auto (onnx on CPUs, torch on GPUs and for bf16), onnx or torch.
    """

    weights: str = "compact"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    batch_size: int | None = Field(default=None, ge=1)
    mirror: bool = False
    precision: Literal["auto", "int8", "bf16", "fp32"] = "auto"
    runtime: Literal["auto", "onnx", "torch"] = "auto"
