"""Configuration of `facet synth`."""

from pydantic import Field

from pipeline.config import Section
from pipeline.synth.dataset import ExecutionConfig
from pipeline.synth.shards import DatasetConfig
from pipeline.synth.view_sets import MultiviewConfig


class SynthConfig(Section):
    """Configuration of `facet synth`."""

    dataset: DatasetConfig = Field(default_factory=DatasetConfig)
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)
    multiview: MultiviewConfig = Field(default_factory=MultiviewConfig)
