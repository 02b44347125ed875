"""What the benchmark found: figures that follow from the measurements, as JSON and as tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.bench.end_to_end import EngineRun
from pipeline.bench.timing import Rate

TARGETS = {"of_stages_alone": 0.85, "times_baseline": 15.0}
"""Through Ray over what the stages alone would give; end to end over the baseline, on two cores."""

Rows = list[dict[str, Any]]
"""Rows of a table: column -> value."""


@dataclass
class Report:
    """Everything measured; what was not measured is empty.

    Attributes:
        machine: See `describe_machine`.
        photos: What the photos were.
        stages: The stages of a run, on one core while all are at work.
        engines: The whole job.
        baseline: The baseline's way.
        rates: Heads, rendering and training.
        figures: Title -> rows of everything else: memory, and the parts of `pipeline.bench.scale`.
    """

    machine: dict[str, Any]
    photos: dict[str, Any] = field(default_factory=dict)
    stages: list[Rate] = field(default_factory=list)
    engines: list[EngineRun] = field(default_factory=list)
    baseline: Rate | None = None
    rates: list[Rate] = field(default_factory=list)
    figures: dict[str, Rows] = field(default_factory=dict)

    @property
    def stages_alone(self) -> float | None:
        """Images per second if every core ran the stages one after the other and nothing else."""
        if not self.stages:
            return None
        return self.machine["cores"] / sum(1 / stage.per_second for stage in self.stages)

    def tables(self) -> dict[str, Rows]:
        """Returns title -> rows of all that was measured."""
        stages = [_row(stage) for stage in self.stages]
        if self.stages_alone:
            every = Rate(f"all, on {self.machine['cores']} cores", 1, (1 / self.stages_alone,))
            stages.append(_row(every))
        found = {
            "Stages on one core, all at work": stages,
            "End to end": self._end_to_end(),
            "Heads, rendering and training, on one core or GPU": [_row(rate) for rate in self.rates],
            **self.figures,
        }
        return {title: rows for title, rows in found.items() if rows}

    def _end_to_end(self) -> Rows:
        alone = None if self.machine["gpus"] else self.stages_alone  # a GPU helps the engines
        rows = [(run.engine, run.images[1], run.startup_s, run.per_second) for run in self.engines]
        if self.baseline:
            rows.append(("baseline", self.baseline.count, 0.0, self.baseline.per_second))
        return [
            {
                "way": way,
                "images": images,
                "start_up_s": startup_s,
                "per_second": per_second,
                "of_stages_alone": per_second / alone if alone else None,
                "times_baseline": per_second / self.baseline.per_second if self.baseline else None,
            }
            for way, images, startup_s, per_second in rows
        ]

    def to_json(self) -> dict[str, Any]:
        return {"machine": self.machine, "photos": self.photos, "tables": self.tables()}

    def print(self, console: Console) -> None:
        for told in (self.machine, self.photos):
            parts = [f"{_words(name)} {_text(told[name])}" for name in told if name != "packages"]
            console.print("; ".join(parts), highlight=False)
        for title, rows in self.tables().items():
            table = Table(title=title, title_justify="left")
            for name in rows[0]:
                target = f" (target {TARGETS[name]})" if name in TARGETS else ""
                table.add_column(_words(name) + target, justify="right")
            for row in rows:
                table.add_row(*map(_text, row.values()))
            console.print(table, highlight=False)


def _row(rate: Rate) -> dict[str, Any]:
    return {
        "what": rate.name,
        "per_second": rate.per_second,
        "ms_each": 1000 / rate.per_second,
        "of": rate.unit,
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
