"""Learning rate, moving average and stages: small functions of the progress of a run."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from pipeline.normals.network import CrossModalNet
from pipeline.train.config import OptimiserConfig, TrainConfig, TrainingStage

_LAST = 0.002
# Fraction of the learning rate at the end of the cosine.


def progress(config: TrainConfig, step: int, elapsed: float) -> float:
    """Returns the fraction of the run that is done, 0..1, by steps or by seconds of training."""
    if config.steps is not None:
        return min(1.0, step / config.steps)
    assert config.duration_minutes is not None
    return min(1.0, elapsed / (60 * config.duration_minutes))


def learning_rate(config: OptimiserConfig, step: int, done: float) -> float:
    """Returns the learning rate of a step: linear warm-up, then a cosine of the progress `done`."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    cosine = _LAST + (1 - _LAST) * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * warmup * cosine


def stage_at(stages: Sequence[TrainingStage], done: float) -> int:
    """Returns the index of the stage that a progress of `done` falls in."""
    end = 0.0
    for index, stage in enumerate(stages):
        end += stage.share
        if done < end - 1e-9:
            return index
    return len(stages) - 1


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Splits parameters: weights decay; biases and the scales of norms do not."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


class MovingAverage:
    """Exponential moving average of a network's parameters and buffers, in `network`.

    Early on the average is over as many steps as there were, so that the fresh weights fade out.
    """

    def __init__(self, network: CrossModalNet, decay: float):
        self.network = network
        self.network.eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, source: nn.Module, step: int) -> None:
        """Moves towards the network in training after step `step` (from 0)."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        floats: list[list[torch.Tensor]] = [[], []]
        for mine, its in zip(_tensors(self.network), _tensors(source), strict=True):
            if mine.is_floating_point():
                floats[0].append(mine)
                floats[1].append(its)
            else:
                mine.copy_(its)
        torch._foreach_lerp_(floats[0], floats[1], weight)


def _tensors(network: nn.Module) -> Iterable[torch.Tensor]:
    return network.state_dict().values()
