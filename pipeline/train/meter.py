"""Means of the loss terms and the speed between two log lines."""

import torch


class Meter:
    """Means of the loss terms and the speed since the last log line."""

    def __init__(self, now: float):
        self._start(now)

    def _start(self, now: float) -> None:
        self.since = now
        self.steps = 0
        self._rows = 0
        self._terms: dict[str, list[torch.Tensor]] = {}

    def add(self, terms: dict[str, torch.Tensor], rows: int) -> None:
        self.steps += 1
        self._rows += rows
        for name, value in terms.items():
            self._terms.setdefault(name, []).append(value)

    def flush(self, now: float) -> dict[str, float]:
        values = {name: float(torch.stack(found).mean()) for name, found in self._terms.items()}
        values["images_per_second"] = self._rows / max(now - self.since, 1e-9)
        self._start(now)
        return values
