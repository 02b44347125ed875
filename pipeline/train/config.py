"""Configuration of a training run: what `configs/train.yaml` may say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.config import Section
from pipeline.samples.schema import SIZE
from pipeline.storage.places import StorageConfig


class AugmentConfig(Section):
    """Random changes of a training sample; the labels follow the geometric ones exactly."""

    flip: float = Field(default=0.5, ge=0, le=1, description="Share of mirrored samples.")
    rotation: float = Field(
        default=8.0, ge=0, le=180, description="In-plane rotation, standard deviation in degrees."
    )
    scale: float = Field(default=0.11, ge=0, lt=0.5, description="Largest change of size, as a fraction.")
    shift: float = Field(default=0.05, ge=0, le=0.5, description="Largest shift, as a fraction of the crop.")
    border: float = Field(
        default=0.1, ge=0, le=1, description="Share whose picture ends in the crop: grey, black, repeated ..."
    )
    colour: float = Field(
        default=0.8, ge=0, le=1, description="Share with changed gain, gamma, contrast and cast."
    )
    grey: float = Field(default=0.08, ge=0, le=1, description="Share turned to greyscale.")
    blur: float = Field(default=0.12, ge=0, le=1, description="Share blurred.")
    noise: float = Field(default=0.2, ge=0, le=1, description="Share with sensor noise.")
    jpeg: float = Field(default=0.15, ge=0, le=1, description="Share compressed as JPEG.")


class DataConfig(Section):
    """How training rows are read."""

    memory_gb: float = Field(
        default=10.0, gt=0, description="Memory for decoded samples; more data is read in windows."
    )
    threads: int = Field(
        default=2, ge=1, description="Threads that decode and augment while the network computes."
    )
    render_seed: int | None = Field(
        default=None,
        ge=0,
        description="Render the paired samples as training goes, of this seed; for GPUs.",
    )
    validation: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Share of the rows kept for validation when no validation data is given.",
    )
    validation_limit: int = Field(default=256, ge=1, description="Most validation rows used.")


class LossConfig(Section):
    """Weights of the loss terms and of the labelled regions. See `pipeline.train.losses`."""

    cosine: float = Field(default=1.0, ge=0)
    chord: float = Field(default=0.35, ge=0)
    gradient: float = Field(default=0.3, ge=0)
    unit: float = Field(default=0.02, ge=0)
    mask: float = Field(default=0.1, ge=0)
    confidence: float = Field(default=0.02, ge=0)
    image: float = Field(default=1.0, ge=0)
    skin: float = Field(default=1.0, ge=0)
    eye: float = Field(default=0.5, ge=0)
    mouth: float = Field(default=0.25, ge=0)
    neck: float = Field(default=0.25, ge=0)
    hair: float = Field(default=0.25, ge=0)


class PassConfig(Section):
    """Which passes run how often: every n-th step, 0 for never. See `pipeline.train.passes`."""

    image_to_normals: int = Field(default=1, ge=0)
    image_to_image: int = Field(default=4, ge=0)
    normals_to_normals: int = Field(default=4, ge=0)


class OptimiserConfig(Section):
    """AdamW with warm-up, cosine decay and an exponential moving average of the parameters."""

    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    warmup_steps: int = Field(default=300, ge=0)
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    ema: float = Field(default=0.999, ge=0, lt=1)


class TrainingStage(Section):
    """A stretch of the run with its own crop size, batch and emphasis."""

    share: float = Field(default=1.0, gt=0, le=1, description="Fraction of the run's steps or minutes.")
    size: int = Field(default=SIZE, ge=32, multiple_of=32, description="Side of the crops in pixels.")
    batch_size: int = Field(default=16, ge=1, description="Rows per step of each pass and worker.")
    augment: float = Field(default=1.0, ge=0, le=1, description="Strength of the augmentation.")
    gradient: float = Field(default=1.0, ge=0, description="Factor on the gradient term.")

    @model_validator(mode="after")
    def _enough_values(self) -> TrainingStage:
        # Batch norm needs two values per channel; at 1/32 of the size an image of 32 pixels has one.
        if self.batch_size * (self.size // 32) ** 2 < 2:
            raise ValueError("a batch of one crop of 32 pixels is too small for batch norm")
        return self


class TrainOutputConfig(Section):
    """How often a run logs, validates and saves."""

    log_seconds: float = Field(default=20.0, gt=0)
    validate_minutes: float = Field(default=10.0, gt=0)
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    keep: int = Field(default=3, ge=1, description="Checkpoints kept.")


class WorkerConfig(Section):
    """The workers of a run on Ray Train."""

    num_workers: int = Field(default=0, ge=0, description="0 trains in this process, without Ray.")
    gpus: bool = Field(default=False, description="One GPU per worker.")
    cpus_per_worker: float = Field(default=1.0, gt=0)
    max_failures: int = Field(default=3, ge=-1, description="Worker failures survived; -1 for any number.")


class TrainConfig(Section):
    """A whole training run."""

    architecture: Literal["compact", "resnet_unet"] = "compact"
    steps: int | None = Field(default=None, ge=1, description="Length in steps; or give duration_minutes.")
    duration_minutes: float | None = Field(default=None, gt=0, description="Length in minutes of training.")
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the network; all cores if not given."
    )
    stages: list[TrainingStage] = Field(default_factory=lambda: [TrainingStage()])
    storage: StorageConfig = Field(default_factory=StorageConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    passes: PassConfig = Field(default_factory=PassConfig)
    optimiser: OptimiserConfig = Field(default_factory=OptimiserConfig)
    output: TrainOutputConfig = Field(default_factory=TrainOutputConfig)
    workers: WorkerConfig = Field(default_factory=WorkerConfig)

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if (self.steps is None) == (self.duration_minutes is None):
            raise ValueError(
                "say how long to train, by one of steps and duration_minutes: --config configs/train.yaml, "
                "or --set steps=1000"
            )
        if not self.stages or abs(sum(stage.share for stage in self.stages) - 1) > 1e-6:
            raise ValueError("the shares of the stages must add up to 1")
        return self
