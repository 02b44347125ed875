"""The training loop: plain PyTorch, one process; a worker of many looks the same to it.

What ties it to its surroundings, a lone process or Ray Train, is a `Worker`: rank, clock, checkpoints.
"""

import copy
import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

from pipeline.device import choose_device, use_bf16
from pipeline.errors import TrainingError
from pipeline.normals.architectures import build_network
from pipeline.normals.checkpoints import check_architecture
from pipeline.samples.batch import Batch
from pipeline.samples.rows import BadRows
from pipeline.train import optimise
from pipeline.train.batches import BatchStream, WorkerShare
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import TrainConfig, TrainingStage
from pipeline.train.data import TrainingData
from pipeline.train.folder import TrainingFolder
from pipeline.train.meter import Meter
from pipeline.train.passes import NEEDS, TrainingStep, passes_of_step
from pipeline.train.streams import open_streams
from pipeline.train.validate import validate, validation_samples
from pipeline.weights import save_weights

log = logging.getLogger(__name__)


class Worker(Protocol):
    """What the loop asks of its surroundings."""

    rank: int
    world: int

    def wrap(self, step: TrainingStep) -> nn.Module:
        """Makes the step average its gradients over all workers."""

    def clock(self, seconds: float) -> float:
        """Returns the seconds of the first worker, so that all take the same decisions."""

    def load(self) -> dict[str, Any] | None:
        """Returns the state of the last checkpoint."""

    def save(self, state: dict[str, Any], metrics: dict[str, float]) -> None:
        """Stores a checkpoint; called by every worker at the same step."""


class LocalWorker:
    """A lone process."""

    rank = 0
    world = 1

    def __init__(self, store: CheckpointStore):
        self._store = store

    def wrap(self, step: TrainingStep) -> nn.Module:
        return step

    def clock(self, seconds: float) -> float:
        return seconds

    def load(self) -> dict[str, Any] | None:
        return self._store.load()

    def save(self, state: dict[str, Any], metrics: dict[str, float]) -> None:
        self._store.save(state)


class Trainer:
    """One training run of one worker.

    The first worker alone has the folder, for logs, sheets and weights.

    Raises:
        DataError: No pass finds rows to train on.
        TrainingError: The checkpoint is of another architecture.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        folder: TrainingFolder | None,
        worker: Worker,
        initial: dict[str, torch.Tensor] | None = None,
    ):
        self.config = config
        self.groups = data.groups
        self.folder = folder
        self.worker = worker
        self.device = choose_device(config.device)
        self.bf16 = use_bf16(config.precision, self.device)
        torch.manual_seed(config.seed)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        network = build_network(config.architecture, extra_head=True)
        if initial is not None:
            _load_parameters(network, initial)
        self.network = network
        self.network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = optimise.MovingAverage(copy.deepcopy(self.network), config.optimiser.ema)
        self.step_module = TrainingStep(self.network, config.loss, self.device)
        self.optimiser = torch.optim.AdamW(
            optimise.parameter_groups(self.network, config.optimiser.weight_decay),
            lr=config.optimiser.learning_rate,
        )
        self.bad = BadRows()
        sizes = sorted({stage.size for stage in config.stages})
        self.validation = (
            validation_samples(data.validation, sizes, config.data.validation_limit) if folder else {}
        )
        self.step = 0
        self.elapsed = 0.0
        self.positions = dict.fromkeys(NEEDS, 0)
        state = worker.load()
        if state is not None:
            self._restore(state)
        self._wrapped = worker.wrap(self.step_module)

    def run(self) -> dict[str, float]:
        """Trains to the end of the schedule and returns the last validation metrics."""
        pool = ThreadPoolExecutor(self.config.data.threads, thread_name_prefix="facet-data")
        try:
            return self._run(pool)
        finally:
            pool.shutdown(cancel_futures=True)

    def _run(self, pool: ThreadPoolExecutor) -> dict[str, float]:
        output = self.config.output
        started = time.monotonic() - self.elapsed
        meter = Meter(self.elapsed)
        stage_index, streams = -1, {}
        saved = validated = self.elapsed
        metrics: dict[str, float] = {}
        while (done := optimise.progress(self.config, self.step, self.elapsed)) < 1:
            if (index := optimise.stage_at(self.config.stages, done)) != stage_index:
                stage_index, stage = index, self.config.stages[index]
                streams = self._open_streams(stage, pool)
            terms, rows = self._train_step(streams, stage, done)
            self.elapsed = self.worker.clock(time.monotonic() - started)
            meter.add(terms, rows * self.worker.world)
            if self.elapsed - meter.since >= output.log_seconds:
                self._log(meter.flush(self.elapsed))
            if self.elapsed - validated >= 60 * output.validate_minutes:
                metrics, validated = self._validate(stage), self.elapsed
            if self.elapsed - saved >= 60 * output.checkpoint_minutes:
                self._save(metrics)
                saved = self.elapsed
        if meter.steps:
            self._log(meter.flush(self.elapsed))
        metrics = self._validate(self.config.stages[-1])
        self._save(metrics)
        self._export()
        return metrics

    def _train_step(
        self, streams: dict[str, BatchStream], stage: TrainingStage, done: float
    ) -> tuple[dict[str, torch.Tensor], int]:
        batches: dict[str, Batch] = {}
        for name in passes_of_step(self.step, self.config.passes):
            if name in streams:
                self.positions[name], batch = next(streams[name])
                batches[name] = batch.to(self.device)
        rate = optimise.learning_rate(self.config.optimiser, self.step, done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.step += 1
        if not batches:
            return {}, 0
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        with self._autocast():
            total, terms = self._wrapped(batches, gradient=stage.gradient)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimiser.clip)
        # Gradients are averaged over the workers, so that all of them stop at the same step.
        if not math.isfinite(float(norm)):
            values = ", ".join(f"{name} {float(value):.4g}" for name, value in terms.items())
            raise TrainingError(
                f"The loss or its gradient is not finite at step {self.step} ({values}). Start again "
                "from the last checkpoint with a lower optimiser.learning_rate or precision=fp32."
            )
        self.optimiser.step()
        self.average.update(self.network, self.step - 1)
        terms = {"total": total.detach(), "gradient_norm": norm, **terms}
        return terms, sum(len(batch) for batch in batches.values())

    def _open_streams(self, stage: TrainingStage, pool: ThreadPoolExecutor) -> dict[str, BatchStream]:
        return open_streams(
            config=self.config,
            stage=stage,
            groups=self.groups,
            share=WorkerShare(self.worker.rank, self.worker.world),
            positions=self.positions,
            pool=pool,
            bad=self.bad,
            device=self.device,
        )

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _validate(self, stage: TrainingStage) -> dict[str, float]:
        samples = self.validation.get(stage.size, [])
        if self.folder is None or not samples:
            return {}
        metrics, picture = validate(self.average.network, samples, self.device, self.bf16)
        self.folder.record("validation", self.step, {"minutes": self.elapsed / 60, **metrics})
        self.folder.write_picture(f"sheets/step-{self.step:09d}.png", picture)
        log.info(
            "step %d  validation at %d px: mean %.2f  median %.2f  below 11.25: %.0f%%  gradient %.2f",
            self.step,
            stage.size,
            metrics["mean"],
            metrics["median"],
            100 * metrics["within_11.25"],
            metrics["gradient"],
        )
        return metrics

    def _log(self, values: dict[str, float]) -> None:
        if self.folder is None:
            return
        done = optimise.progress(self.config, self.step, self.elapsed)
        remaining = self.elapsed * (1 - done) / max(done, 1e-9)
        rate = self.optimiser.param_groups[0]["lr"]
        self.folder.record(
            "train",
            self.step,
            {
                "minutes": self.elapsed / 60,
                "learning_rate": rate,
                "bad_rows": len(self.bad.reasons),
                **values,
            },
        )
        shown = "  ".join(
            f"{name.replace('image_to_normals/', '')} {value:.4f}"
            for name, value in values.items()
            if name != "images_per_second"
        )
        log.info(
            "step %d  %.1f min  %.1f img/s  lr %.2e  ETA %.0f min  %s",
            self.step,
            self.elapsed / 60,
            values["images_per_second"],
            rate,
            remaining / 60,
            shown,
        )

    def _save(self, metrics: dict[str, float]) -> None:
        state = {
            "architecture": self.config.architecture,
            "step": self.step,
            "elapsed": self.elapsed,
            "positions": dict(self.positions),
            "model": self.network.state_dict(),
            "ema": self.average.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        self.worker.save(state, metrics)
        if self.folder is not None:
            self.folder.sync()

    def _export(self) -> None:
        if self.folder is not None:
            path = self.folder.local / "weights" / f"{self.config.architecture}.safetensors"
            save_weights(self.average.network, path)

    def _restore(self, state: dict[str, Any]) -> None:
        check_architecture(state["architecture"], self.config.architecture)
        self.network.load_state_dict(state["model"])
        self.average.network.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.elapsed = state["elapsed"]
        self.positions = dict(state["positions"])
        log.info("Resumed at step %d, %.1f minutes", self.step, self.elapsed / 60)


def _load_parameters(network: nn.Module, parameters: dict[str, torch.Tensor]) -> None:
    """Takes parameters over; those of mask and confidence may be missing, as in the published weights."""
    missing, unexpected = network.load_state_dict(parameters, strict=False)
    if unexpected or any(not name.startswith("extra_head.") for name in missing):
        raise TrainingError(
            f"The parameters to start from do not fit the network: {', '.join([*missing, *unexpected][:5])}."
        )
