"""Rates of a run's stages on one core: what an engine without any cost of its own would reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.bench.timing import Rate, measure, one_core
from pipeline.images.sources import list_input
from pipeline.run.config import NormalsConfig, RunConfig
from pipeline.run.plan import chunk_photos, write_plan
from pipeline.run.stages import CropStage, NormalsStage, ReadStage, Work, WriteStage
from pipeline.run.store import Store
from pipeline.weights import LoadedWeights


def measure_stages(photos: Path, folder: Path, weights: LoadedWeights) -> list[Rate]:
    """Times the stages of a run over photos, each alone; together they hold all that a run does to a photo.

    Args:
        photos: Folder or list of photos.
        folder: Scratch folder for the records.
        weights: Weights of the network, which runs on the CPU.
    """
    config = RunConfig(normals=NormalsConfig(device="cpu"))
    store = Store(str(folder / "stages"))
    plan = write_plan(store, list_input(str(photos)), config.plan)
    work = Work(store, "bench", plan, config)
    chunks = [(shard, chunk) for shard in range(plan.shards) for chunk in range(plan.shard_chunks(shard))]
    sizes = {reference: len(chunk_photos(store, plan, *reference)) for reference in chunks}
    read = ReadStage(work)
    rates = []
    with one_core():
        rate, messages = measure("read", lambda item: read(*item), chunks, weight=sizes.__getitem__)
        rates.append(rate)
        stages: dict[str, Any] = {
            "crop": CropStage(config),
            "normals": NormalsStage(config, weights),
            "write": WriteStage(work),
        }
        for name, stage in stages.items():
            rate, messages = measure(
                name, stage, messages, weight=lambda message: sizes[message.shard, message.chunk]
            )
            rates.append(rate)
    return rates
