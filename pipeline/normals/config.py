"""Configuration of the network."""

from __future__ import annotations

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
        precision: auto (bf16 where the device is faster at it), bf16 or fp32.
    """

    weights: str = "compact"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    batch_size: int | None = Field(default=None, ge=1)
    mirror: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"
