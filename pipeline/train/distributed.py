"""The same training loop on Ray Train: any number of CPU or GPU workers, DDP, survives lost workers.

Every worker reads its own share of the row groups. The first worker writes logs and sheets and reports the
checkpoints; Ray Train stores them beside the logs in the run's folder. A run that is started again with the
same folder, after a lost worker, node or driver, goes on from the last one.
"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2.api.exceptions import WorkerGroupError
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.config import dump_config
from pipeline.errors import FacetError, PlanError, TrainingError
from pipeline.normals import checkpoints
from pipeline.ray_cluster import cluster
from pipeline.storage.store import Store
from pipeline.train.config import TrainConfig, WorkerConfig
from pipeline.train.folder import TrainingFolder
from pipeline.train.local import initial_parameters, load_data
from pipeline.train.loop import Trainer
from pipeline.train.passes import TrainingStep

STATE_FILE = "state.pt"


class RayWorker:
    """One worker of a run on Ray Train."""

    def __init__(self) -> None:
        context = ray.train.get_context()
        self.rank = context.get_world_rank()
        self.world = context.get_world_size()
        self.device = get_device()

    def wrap(self, step: TrainingStep) -> nn.Module:
        """Averages gradients over the workers; a pass that a step leaves out has unused parameters."""
        return DistributedDataParallel(step, find_unused_parameters=True)

    def clock(self, seconds: float) -> float:
        value = torch.tensor([seconds], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(value, src=0)
        return float(value)

    def load(self) -> dict[str, Any] | None:
        last = ray.train.get_checkpoint()
        if last is None:
            return None
        with last.as_directory() as folder:
            return checkpoints.from_bytes((Path(folder) / STATE_FILE).read_bytes())

    def save(self, state: dict[str, Any], metrics: dict[str, float]) -> None:
        """Reports a checkpoint: a barrier, so every worker comes here at the same step."""
        values = {**metrics, "step": state["step"]}
        if self.rank != 0:
            ray.train.report(values)
            return
        with tempfile.TemporaryDirectory(prefix="facet-checkpoint-") as folder:
            (Path(folder) / STATE_FILE).write_bytes(checkpoints.to_bytes(state))
            ray.train.report(values, checkpoint=ray.train.Checkpoint.from_directory(folder))


def train_distributed(
    config: TrainConfig,
    paths: Sequence[str],
    out: str,
    validation: Sequence[str] = (),
    init: str | None = None,
) -> dict[str, float]:
    """Trains on Ray, on `workers` of the configuration; else the same as `pipeline.train.local.train_local`.

    What the paths name must be readable from every worker, and `out` lie on storage that all nodes share.

    Raises:
        PlanError: The cluster lacks the CPUs or GPUs for the workers.
        TrainingError: Workers failed more often than `workers.max_failures`.
    """
    with cluster(quiet=False) as (cpus, gpus):
        check_resources(config.workers, {"CPU": cpus, "GPU": gpus})
        store = Store(out, config.storage)
        root = Path(store.path())
        trainer = TorchTrainer(
            _train_worker,  # type: ignore[arg-type]  # what it returns comes back in the result
            train_loop_config={
                "config": config.model_dump(mode="json"),
                # Scanned here once and not by every worker; wrong data ends the run before it starts.
                "data": load_data(config, paths, validation),
                "initial": initial_parameters(init, config.architecture),
                "store": store,
            },
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.workers.num_workers,
                use_gpu=config.workers.gpus,
                resources_per_worker={"CPU": config.workers.cpus_per_worker},
            ),
            run_config=ray.train.RunConfig(
                name=root.name,
                storage_path=str(root.parent),
                storage_filesystem=None
                if store.is_local
                else pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(store.filesystem)),
                failure_config=ray.train.FailureConfig(max_failures=config.workers.max_failures),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.output.keep),
            ),
        )
        try:
            result = trainer.fit()
        except WorkerGroupError as error:
            for failure in error.worker_failures.values():
                cause = failure if isinstance(failure, FacetError) else failure.__cause__
                if isinstance(cause, FacetError):
                    raise cause from error
            raise TrainingError(f"The workers failed too often: {error}") from error
        return result.return_value  # type: ignore[attr-defined]  # of the second version of Ray Train


def check_resources(workers: WorkerConfig, cluster: dict[str, float]) -> None:
    """Refuses a plan that would wait for ever.

    Raises:
        PlanError: The cluster has too few CPUs or GPUs.
    """
    for kind, needed in (
        ("CPU", workers.num_workers * workers.cpus_per_worker),
        ("GPU", workers.num_workers * workers.gpus),
    ):
        if needed > cluster.get(kind, 0):
            raise PlanError(
                f"{workers.num_workers} workers need {needed:g} {kind}s, the cluster has "
                f"{cluster.get(kind, 0):g}: lower workers.num_workers or workers.cpus_per_worker."
            )


def _train_worker(job: dict[str, Any]) -> dict[str, float]:
    worker = RayWorker()
    # Ray has set up the root logger: what all workers log alike is for the first to say.
    logging.getLogger("pipeline").setLevel(logging.INFO if worker.rank == 0 else logging.WARNING)
    config = TrainConfig.model_validate({**job["config"], "device": str(worker.device)})
    if worker.rank != 0:
        return Trainer(config, job["data"], None, worker, job["initial"]).run()
    with TrainingFolder(job["store"]) as folder:
        folder.write_text("config.yaml", dump_config(config))
        return Trainer(config, job["data"], folder, worker, job["initial"]).run()
