"""Configuration of every run: how it is read, cut, carried out and written."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from pipeline.config import Section
from pipeline.images.read import ReadConfig


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class LimitsConfig(Section):
    """What one photo may take; see `pipeline.run.isolate`.

    Photos within the limits do not notice them.

    Attributes:
        photo_seconds: Time in an isolated stage; None: any.
        photo_memory_mb: Memory of the process that does it, of which 350 MB are libraries and models. A photo
            of 100 megapixels takes 1,100 MB. None: any.
        attempts: How often a photo is tried that goes over a limit or makes native code crash.
    """

    photo_seconds: float | None = Field(default=120.0, gt=0)
    photo_memory_mb: int | None = Field(default=4096, ge=512)
    attempts: int = Field(default=2, ge=1, le=10)


class PlanConfig(Section):
    """How the list of items, photos or the photos of a folder, is cut into work.

    Attributes:
        shard_size: Items per shard: what a file of records holds, and what is redone after a crash.
            Small inputs are cut finer, so that all workers have work.
        chunk_size: Items that go through the stages together; bounds memory.
        include: Patterns of files that are taken, no others then; see `pipeline.images.names.matcher`.
        exclude: Patterns of files that are left out.
    """

    shard_size: int = Field(default=1000, ge=1, le=100_000)
    chunk_size: int = Field(default=32, ge=1, le=1024)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class OutputConfig(Section):
    """What is written.

    Attributes:
        files: Also write what the records hold as files: loose ones, or one tar per shard.
        report: Write report/index.html at the end.
    """

    files: Literal["none", "folder", "tar"] = "none"
    report: bool = True


class EngineConfig(Section):
    """What carries the run out. Nothing here changes the records.

    Attributes:
        name: local is this machine without Ray; ray a cluster, started here when there is none; auto
            takes ray when a cluster is given or there are more than `local_up_to` photos.
        local_up_to: See `name`.
        in_process_up_to: Up to so many items the local engine starts no processes: to import libraries in
            each takes about as long as these items, unless a detector is slow.
        cpus: CPUs of this machine to use, None for all; a cluster has its own number.
        address: Address of a Ray cluster; None takes RAY_ADDRESS, or starts Ray on this machine.
        workers: Stage -> processes on a cluster; of stages that are not named: worked out from the cluster.
        gpus_per_worker: Share of a GPU that a process with a network takes, where there are GPUs.
        request_cpus: CPUs to ask an autoscaling cluster for and to wait for; None: what is there is taken.
        request_gpus: GPUs, likewise.
        request_minutes: How long to wait; then the run goes on with what is there.
        max_failures: Photos that may fail before the run is stopped with the reasons: a number, or a share
            like 5%, which counts from the thousandth photo on. None: any.
    """

    name: Literal["auto", "local", "ray"] = "auto"
    local_up_to: int = Field(default=200, ge=0)
    in_process_up_to: int = Field(default=48, ge=0)
    cpus: int | None = Field(default=None, ge=1)
    address: str | None = None
    workers: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    gpus_per_worker: float = Field(default=1.0, gt=0, le=1)
    request_cpus: int | None = Field(default=None, ge=1)
    request_gpus: int | None = Field(default=None, ge=1)
    request_minutes: float = Field(default=20.0, ge=0)
    max_failures: Annotated[str | None, BeforeValidator(_number_as_text)] = Field(
        default=None, pattern=r"^[0-9]{1,12}$|^[0-9]{1,2}(\.[0-9]{1,6})?%$"
    )


class EstimateConfig(Section):
    """What `facet plan` works out the time and the price of a run with. Nothing here changes the run.

    Attributes:
        sample: Photos of the input that are worked on, for the time, the faces and the bytes of a photo; 0:
            none, and then `images_per_cpu` and the recipe's own figure of bytes count.
        images_per_cpu: Photos a second of one CPU core that does everything; None: that of the sample.
        images_per_gpu: Photos a second of one GPU that has enough CPU cores beside it; None: the cores beside
            it are what limits a run.
        cpus: CPU cores that the run will have; None: those of this machine, or of the cluster.
        gpus: GPUs, likewise.
        cpu_hour_price: Price of one CPU core for an hour; None: not known.
        gpu_hour_price: Price of one GPU for an hour, without CPU cores; None: not known.
        currency: Of the prices.
    """

    sample: int = Field(default=16, ge=0, le=1000)
    images_per_cpu: float | None = Field(default=None, gt=0)
    images_per_gpu: float | None = Field(default=None, gt=0)
    cpus: int | None = Field(default=None, ge=1)
    gpus: int | None = Field(default=None, ge=0)
    cpu_hour_price: float | None = Field(default=None, ge=0)
    gpu_hour_price: float | None = Field(default=None, ge=0)
    currency: str = "USD"


class ReadSection(Section):
    """The one section by which a run's folder is found, of the configuration of any recipe."""

    model_config = ConfigDict(extra="ignore")

    read: ReadConfig = Field(default_factory=ReadConfig)


class RunConfig(Section):
    """What the configuration of every recipe has."""

    read: ReadConfig = Field(default_factory=ReadConfig)
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    plan: PlanConfig = Field(default_factory=PlanConfig)
    output: OutputConfig = Field(default_factory=OutputConfig)
    engine: EngineConfig = Field(default_factory=EngineConfig)
    estimate: EstimateConfig = Field(default_factory=EstimateConfig)
