"""The batches of every pass of a run: from Parquet, or rendered as training goes."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from pipeline.errors import DataError
from pipeline.samples.rows import BadRows, RowGroup, load_group
from pipeline.samples.sample import Sample
from pipeline.train.batches import BatchStream, PassStream, WorkerShare, augment_sample
from pipeline.train.config import TrainConfig, TrainingStage
from pipeline.train.data import GroupCache, RowOrder, sample_bytes, shard_groups
from pipeline.train.passes import NEEDS

log = logging.getLogger(__name__)


def open_streams(
    *,
    config: TrainConfig,
    stage: TrainingStage,
    groups: Sequence[RowGroup],
    share: WorkerShare,
    positions: Mapping[str, int],
    pool: ThreadPoolExecutor,
    bad: BadRows,
    device: torch.device,
) -> dict[str, BatchStream]:
    """Starts the batches of every pass that is on and has rows.

    `positions` says for each pass where to start; `bad` takes the rows that cannot be used.

    Raises:
        DataError: No pass finds rows.
    """
    stored = _stored_passes(config, stage, shard_groups(groups, *share), share, bad)
    streams: dict[str, BatchStream] = {}
    for number, name in enumerate(NEEDS):
        if not getattr(config.passes, name):
            continue
        seed = config.data.render_seed
        if seed is not None and (name == "image_to_normals" or name not in stored):
            # Imported here: a machine that trains on stored rows needs no renderer and no head model.
            from pipeline.train.rendering import rendered_batches

            streams[name] = rendered_batches(
                seed=seed + number,
                size=stage.size,
                batch_size=stage.batch_size,
                device=device,
                position=positions[name],
                share=share,
            )
            log.info("Pass %s: rendered as it goes at %d pixels", name, stage.size)
        elif name in stored:
            ahead = config.data.threads + 1
            streams[name] = stored[name].batches(positions[name], pool, ahead)
    if not streams:
        raise DataError("No pass finds rows to train on: see passes in the configuration.")
    return streams


def _stored_passes(
    config: TrainConfig, stage: TrainingStage, groups: Sequence[RowGroup], share: WorkerShare, bad: BadRows
) -> dict[str, PassStream]:
    budget = int(config.data.memory_gb * 1e9 / sample_bytes(stage.size))
    total = sum(int((group.kinds > 0).sum()) for group in groups)
    fits = total <= budget
    # Each pass works in one window and is about to enter the next one.
    window = total if fits else max(1, budget // (2 * len(NEEDS)))
    mean_rows = max(1.0, total / max(1, len(groups)))
    cache = GroupCache(
        lambda group: load_group(group, stage.size, bad),
        capacity=len(groups) if fits else max(1, int(budget / mean_rows)),
    )

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        return augment_sample(sample, rng, config.augment, stage.augment)

    streams = {}
    for number, (name, needs) in enumerate(NEEDS.items()):
        if not getattr(config.passes, name):
            continue
        try:
            order = RowOrder(groups, needs, config.seed + number, window)
        except DataError as error:
            log.info("Pass %s finds no stored rows: %s", name, error.message)
            continue
        streams[name] = PassStream(
            order=order,
            cache=cache,
            change=change,
            seed=(config.seed, share.rank, number),
            batch_size=stage.batch_size,
            image=name != "normals_to_normals",
            normals=name != "image_to_image",
        )
        log.info("Pass %s: %d rows at %d pixels", name, order.length, stage.size)
    return streams
