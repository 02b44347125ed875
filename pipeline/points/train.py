"""Training of the points network on rendered heads.

    python -m pipeline.points.train out/heads --out out/points --minutes 60

First the heads learn alone on the maps of the shipped encoder, of which the first tenth of the time is
enough; then everything learns. Folders are read again now and then, so that rendering may go on beside.
A checkpoint is written every few minutes; the same command goes on from it, and a longer time lengthens it.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.geometry.head_model import load_face_model
from pipeline.normals.architectures import load_weights
from pipeline.normals.compact import CompactNet
from pipeline.points.draw import Example, draw_example
from pipeline.points.labels import LabelledHead, point_vertices, read_heads, vertices_digest
from pipeline.points.network import PointsNet, PointsOutput

CHECKPOINT = "checkpoint.pt"
HIDDEN_WEIGHT = 0.2
"""Weight of a hidden point beside a visible one."""

WARMUP = 50
"""Steps until the learning rates are reached."""

EARLY_WEIGHT = 0.3
"""Weight of the loss of each earlier answer beside that of the last."""


class Heads:
    """The labelled heads of some folders of rendered shards; `refresh` reads what is new."""

    def __init__(self, folders: list[Path], model: str | Path | None = None):
        self._folders = folders
        self._model = load_face_model(model)
        self._read: set[Path] = set()
        self.heads: list[LabelledHead] = []
        self.refresh()

    @property
    def vertices(self) -> str:
        """Digest of the vertices that the points are."""
        return vertices_digest(point_vertices(self._model))

    def refresh(self) -> None:
        """Reads the shards that have not been read."""
        for folder in self._folders:
            new = sorted(set(folder.glob("*.parquet")) - self._read)
            if new:
                self.heads += read_heads([str(path) for path in new], self._model)
                self._read.update(new)


def stack_examples(examples: list[Example]) -> dict[str, Tensor]:
    """Puts examples into tensors: image (B, 3, S, S) float32 in 0..1, and the targets."""
    images = np.stack([example.image for example in examples])
    return {
        "image": torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255,  # channels last
        "points": torch.from_numpy(np.stack([example.points for example in examples])),
        "visible": torch.from_numpy(np.stack([example.visible for example in examples])),
        "axes": torch.from_numpy(np.stack([example.rotation[:, :2].T for example in examples])),
    }


def loss_of(output: PointsOutput, batch: dict[str, Tensor]) -> Tensor:
    """Gaussian negative log-likelihood of the points, with what helps it.

    One sigma per point and both axes (Wood et al., "3D face reconstruction with dense landmarks", ECCV 2022).
    Its gradient fades where sigma is large: half of a plain distance keeps hard heads learning.
    """
    difference = output.points - batch["points"]
    square = difference.square().sum(-1)
    likelihood = 2 * output.log_sigma + 0.5 * square * torch.exp(-2 * output.log_sigma)
    # A point far outside of the crop cannot be known; it must not rule the batch.
    distance = (square + 1e-8).sqrt()
    weight = torch.where(batch["visible"], 1.0, HIDDEN_WEIGHT)
    points = (weight * (likelihood + 25 * distance)).sum() / weight.sum()
    visible = nn.functional.binary_cross_entropy_with_logits(output.visible, batch["visible"].float())
    axes = (output.axes - batch["axes"]).square().sum((1, 2)).mean()
    # An error of six degrees is 0.02 here: weighted so that it counts beside the points.
    return points + 0.3 * visible + 20 * axes


def new_network(heads: list[LabelledHead], rng: np.random.Generator, start: Path | None = None) -> PointsNet:
    """A network with the weights of a checkpoint, or with the shipped encoder and the basis of some crops."""
    network = PointsNet()
    if start is not None:
        network.load_state_dict(torch.load(start, weights_only=True)["mean"])
        return network
    shipped = load_weights("compact").network
    assert isinstance(shipped, CompactNet)
    network.encoder.load_state_dict(shipped.image_encoder.state_dict())
    some = [draw_example(heads[i], rng).points for i in rng.integers(len(heads), size=2000)]
    network.start_basis(torch.from_numpy(np.stack(some)))
    return network


class PointsTrainer:
    """Network, optimiser and running mean of the weights; all of it is in the checkpoint."""

    def __init__(
        self,
        out: Path,
        heads: Heads,
        minutes: float,
        rates: tuple[float, float],
        batch: int,
        *,
        start: Path | None = None,
    ):
        self._out, self._heads, self._minutes, self._rates, self._batch = out, heads, minutes, rates, batch
        self._rng = np.random.default_rng()
        self.seconds, self.step = 0.0, 0
        # Channels last: a sixth less time on a CPU.
        self.network = new_network(heads.heads, self._rng, start)
        nn.Module.to(self.network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean = PointsNet()
        self.mean.load_state_dict(self.network.state_dict())
        parameters = dict(self.network.named_parameters())
        parts: list[dict[str, Any]] = [
            {"params": [p for name, p in parameters.items() if name.startswith("encoder.") == encoder]}
            for encoder in (True, False)
        ]
        self._optimiser = torch.optim.AdamW(parts, weight_decay=0.01)
        if (out / CHECKPOINT).exists():
            self._load(torch.load(out / CHECKPOINT, weights_only=True))

    def run(self, alone: float = 0.1, save_seconds: float = 180) -> None:
        """Learns until the time is used up."""
        saved = self.seconds
        losses: list[float] = []
        while (share := self.seconds / (60 * self._minutes)) < 1:
            start = time.monotonic()
            losses.append(self._learn(share, alone=share < alone))
            self.seconds += time.monotonic() - start
            if self.seconds - saved > save_seconds:
                print(
                    f"{self.seconds / 60:.1f} min, step {self.step}, {len(self._heads.heads)} heads, "
                    f"loss {np.mean(losses):.3f}",
                    flush=True,
                )
                saved, losses = self.seconds, []
                self.save()
                self._heads.refresh()
        self.save()

    def _learn(self, share: float, alone: bool) -> float:
        heads = self._heads.heads
        chosen = self._rng.integers(len(heads), size=self._batch)
        batch = stack_examples([draw_example(heads[i], self._rng) for i in chosen])
        warm = min(1.0, (self.step + 1) / WARMUP)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * share)) + 1e-5
        # Statistics of the batch norms stay those of the shipped encoder: batches are small.
        self.network.eval()
        # The two finest levels stay as they are: half of the cost, and the least to learn.
        answers = self.network.answers(self.network.features(batch["image"], learning=0 if alone else 3))
        losses = [loss_of(answer, batch) for answer in answers]
        loss = losses[-1] + EARLY_WEIGHT * torch.stack(losses[:-1]).sum()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self._optimiser.step()
        self.step += 1
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.mean.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        return float(losses[-1].detach())

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "vertices": self._heads.vertices,
        }
        self._out.mkdir(parents=True, exist_ok=True)
        torch.save(state, self._out / f"{CHECKPOINT}.part")
        (self._out / f"{CHECKPOINT}.part").replace(self._out / CHECKPOINT)

    def _load(self, state: dict[str, Any]) -> None:
        if state["vertices"] != self._heads.vertices:
            raise ValueError("the checkpoint is of other vertices than the head model's")
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]


def main() -> None:
    """Runs the command above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="folders of shards that the renderer wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--minutes", type=float, required=True, help="time in all, that of before counted in")
    parser.add_argument("--model", help="path of the head model")
    parser.add_argument("--rates", nargs=2, type=float, default=(4e-4, 1.5e-3), help="of encoder and head")
    parser.add_argument("--start", type=Path, help="checkpoint whose weights are the first")
    parser.add_argument(
        "--alone", type=float, default=0.1, help="share of the time that the heads learn alone"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    heads = Heads(options.data, options.model)
    PointsTrainer(
        options.out, heads, options.minutes, tuple(options.rates), options.batch, start=options.start
    ).run(options.alone)


if __name__ == "__main__":
    main()
