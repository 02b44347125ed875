"""What the benchmark found: figures that follow from the measurements, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

from pipeline.bench.end_to_end import EngineRun
from pipeline.bench.timing import Rate

TARGET_SPEEDUP = 15.0
"""End to end over the baseline, with the compact network on two cores."""

TARGET_EFFICIENCY = 0.85
"""Through Ray over what the stages alone would give."""


@dataclass
class Report:
    """Everything measured; what was not measured is empty.

    Attributes:
        machine: See `describe_machine`.
        photos: What the photos were.
        steps: Single functions on one core.
        stages: The stages of a run, on one core while all are at work.
        engines: The whole job.
        baseline: The seed's way.
        memory: Engine -> number of photos -> peak bytes.
        rates: Rendering and training.
        scale: Part of `pipeline.bench.scale` -> what was measured, one entry per size.
    """

    machine: dict[str, Any]
    photos: dict[str, Any] = field(default_factory=dict)
    steps: list[Rate] = field(default_factory=list)
    stages: list[Rate] = field(default_factory=list)
    engines: list[EngineRun] = field(default_factory=list)
    baseline: Rate | None = None
    memory: dict[str, dict[int, int]] = field(default_factory=dict)
    rates: list[Rate] = field(default_factory=list)
    scale: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    @property
    def stages_alone(self) -> float | None:
        """Images per second if every core ran the stages one after the other and nothing else."""
        if not self.stages:
            return None
        return self.machine["cores"] / sum(1 / stage.per_second for stage in self.stages)

    def efficiency(self, run: EngineRun) -> float | None:
        """Returns the rate of an engine over what the stages alone would give; None where a GPU helps it."""
        if self.stages_alone is None or self.machine["gpus"]:
            return None
        return run.per_second / self.stages_alone

    def speedup(self, run: EngineRun) -> float | None:
        """Returns the rate of an engine over the baseline."""
        return run.per_second / self.baseline.per_second if self.baseline else None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "machine": self.machine,
            "photos": self.photos,
            "steps": [rate.to_json() for rate in self.steps],
            "stages": [rate.to_json() for rate in self.stages],
            "stages_alone_per_second": self.stages_alone,
            "engines": [
                {**run.to_json(), "efficiency": self.efficiency(run), "speedup": self.speedup(run)}
                for run in self.engines
            ],
            "baseline": self.baseline.to_json() if self.baseline else None,
            "memory_bytes": self.memory,
            "rates": [rate.to_json() for rate in self.rates],
            "scale": self.scale,
        }

    def print(self, console: Console) -> None:
        """Prints the tables of all that was measured."""
        console.print(Group(*self._tables()), highlight=False)

    def _tables(self) -> Iterator[RenderableType]:
        machine = self.machine
        gpus = ", ".join(machine["gpus"]) or "no GPU"
        yield f"{machine['cpu']}, {machine['cores']} cores, {gpus}; load before: {machine['load_before']}"
        if self.photos:
            yield (
                f"{self.photos['distinct']} photos, {self.photos['megapixels']:.2f} megapixels and "
                f"{self.photos['kilobytes']:.0f} kB on average"
            )
        if self.steps:
            yield _rates("Single steps on one core", self.steps)
        if self.stages:
            yield _rates("Stages on one core, all at work", self.stages)
            yield f"Stages alone on {machine['cores']} cores: {self.stages_alone:.1f} images/s"
        if self.engines or self.baseline:
            yield self._end_to_end()
        if self.memory:
            yield self._memory()
        if self.rates:
            yield _rates("Rendering and training", self.rates)
        for part, rows in self.scale.items():
            yield _figures(part, rows)

    def _end_to_end(self) -> Table:
        table = _table("End to end", "images", "start-up s", "images/s", "of stages alone", "times baseline")
        for run in self.engines:
            table.add_row(
                run.engine,
                str(run.images[1]),
                f"{run.startup_s:.1f}",
                f"{run.per_second:.1f}",
                _optional(self.efficiency(run), ".0%", TARGET_EFFICIENCY if run.engine == "ray" else None),
                _optional(self.speedup(run), ".1f", TARGET_SPEEDUP),
            )
        if self.baseline:
            rate = self.baseline
            table.add_row("baseline", str(rate.count), "", f"{rate.per_second:.2f}", "", "1")
        return table

    def _memory(self) -> Table:
        counts = sorted({count for peaks in self.memory.values() for count in peaks})
        table = _table("Peak memory, MB", *(f"{count} images" for count in counts))
        for engine, peaks in self.memory.items():
            table.add_row(
                engine, *(f"{peaks[count] / 1e6:.0f}" if count in peaks else "" for count in counts)
            )
        return table


def _rates(title: str, rates: list[Rate]) -> Table:
    table = _table(title, "per second", "ms each", "of")
    for rate in rates:
        table.add_row(rate.name, f"{rate.per_second:.1f}", f"{1000 / rate.per_second:.1f}", rate.unit)
    return table


def _figures(title: str, rows: list[dict[str, float]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            *(f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" for value in row.values())
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _optional(value: float | None, form: str, target: float | None) -> str:
    if value is None:
        return ""
    mark = "" if target is None else f" (target {format(target, form)})"
    return format(value, form) + mark
