"""Rates of rendering training data and of training."""

import time

import numpy as np
import torch

from pipeline.bench.timing import Rate, measure, one_core
from pipeline.device import use_bf16
from pipeline.normals.architectures import build_network
from pipeline.regions import Region
from pipeline.samples.batch import collate
from pipeline.samples.sample import Sample
from pipeline.synth.sample import SampleConfig, Sampler
from pipeline.train import optimise
from pipeline.train.config import LossConfig, OptimiserConfig, PassConfig
from pipeline.train.passes import NEEDS, TrainingStep, passes_of_step

RENDERED_AT_ONCE = {"cpu": 4, "cuda": 64}


def measure_rendering(heads: int, device: str = "cpu") -> Rate:
    """Times the rendering of whole samples: photo, normals, regions, depth, landmarks.

    Every sample is rendered once, so that what neighbouring samples share is counted as in a real run.

    Raises:
        AssetsError: The head model is not there.
    """
    sampler = Sampler(SampleConfig(), seed=0, device=device)
    batch = RENDERED_AT_ONCE[device]

    def render(start: int) -> None:
        sampler.render(range(start, start + batch))
        if device == "cuda":
            torch.cuda.synchronize()

    starts = range(batch, batch + heads, batch)
    with one_core():
        render(0)
        begun = time.perf_counter()
        for start in starts:
            render(start)
    seconds = time.perf_counter() - begun
    place = "one GPU" if device == "cuda" else "one core"
    return Rate(f"render on {place}", batch * len(starts), (seconds,), "heads")


def measure_training(steps: int, batch_size: int = 16, size: int = 256, device: str = "cpu") -> Rate:
    """Times optimiser steps with the configured mix of passes, in the precision that a run would take.

    Returns:
        Paired rows per second; those of the other passes are not counted.
    """
    place = torch.device(device)
    passes = PassConfig()
    network = build_network("compact").to(place).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not declare it
    step_module = TrainingStep(network, LossConfig(), place)
    optimiser = torch.optim.AdamW(optimise.parameter_groups(network, OptimiserConfig().weight_decay))
    batch = collate([make_sample(size, index) for index in range(batch_size)]).to(place)
    bf16 = use_bf16("auto", place)

    def train(step: int) -> None:
        batches = dict.fromkeys(passes_of_step(step, passes), batch)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(place.type, torch.bfloat16, enabled=bf16):
            total, _ = step_module(batches)
        total.backward()
        optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()

    paired = next(iter(NEEDS))
    rate, _ = measure(
        f"train at {size} px on {'one GPU' if device == 'cuda' else 'all cores'}",
        train,
        range(steps),
        weight=lambda step: batch_size * (paired in passes_of_step(step, passes)),
        rounds=1,
        unit="pairs",
    )
    return rate


def make_sample(size: int, seed: int) -> Sample:
    """Makes a training row: a sphere, all of it skin, under noise."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) * (2 / size) - 1
    inside = (x * x + y * y < 1)[..., None]
    normals = np.stack([x, -y, np.sqrt(np.clip(1 - x * x - y * y, 0, 1))], -1) * inside
    return Sample(
        id=str(seed),
        image=rng.integers(0, 256, (size, size, 3), np.uint8),
        normals=normals,
        regions=np.where(inside[..., 0], Region.SKIN, Region.BACKGROUND).astype(np.uint8),
        has_regions=True,
    )
