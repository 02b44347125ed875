"""What the benchmark found: figures that follow from the measurements, as JSON and as tables."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.bench.end_to_end import EngineRun
from pipeline.bench.timing import Rate

TARGETS = {
    "of_stages_alone": "0.95",
    "times_baseline": "45 AMD, 35 Intel",
    "at_work_after_s": "local 4, ray 15",
    "report_and_end_s": "2",
    "mb": "900, Ray's own apart",
    "grown": "1.03, to 2,000 photos",
    "largest_mb": "350",
}
"""Figure -> what is wanted, on two cores; 45 times the baseline on an AMD with bf16 or VNNI."""

END_TO_END = "End to end"

Rows = list[dict[str, Any]]
"""Rows of a table: column -> value."""


@dataclass
class Report:
    """Everything measured; what was not measured is empty.

    Attributes:
        machine: See `describe_machine`.
        photos: What the photos of each kind were.
        stages: Kind -> the stages of a run, on one core while all are at work.
        engines: The whole job.
        baseline: The baseline's way.
        rates: Heads, rendering and training.
        figures: Title -> rows of the parts of `pipeline.bench.scale`.
    """

    machine: dict[str, Any]
    photos: Rows = field(default_factory=list)
    stages: dict[str, list[Rate]] = field(default_factory=dict)
    engines: list[EngineRun] = field(default_factory=list)
    baseline: Rate | None = None
    rates: list[Rate] = field(default_factory=list)
    figures: dict[str, Rows] = field(default_factory=dict)

    def stages_alone(self, kind: str) -> float | None:
        """Returns photos a second if every core ran the stages one after the other and nothing else."""
        if kind not in self.stages:
            return None
        return self.machine["cores"] / sum(1 / stage.per_second for stage in self.stages[kind])

    def tables(self) -> dict[str, Rows]:
        """Returns title -> rows of all that was measured."""
        stages: Rows = [
            {"kind": kind}
            | {f"{stage.name} ms": 1000 / stage.per_second for stage in found}
            | {f"photos a second on {self.machine['cores']} cores": self.stages_alone(kind)}
            for kind, found in self.stages.items()
        ]
        tables = {
            "Photos": self.photos,
            "Stages on one core, all at work": stages,
            END_TO_END: self._end_to_end(),
            "Heads, rendering and training, on one core or GPU": [_row(rate) for rate in self.rates],
            **self.figures,
        }
        return {title: rows for title, rows in tables.items() if rows}

    def lines(self) -> list[str]:
        """Returns each row in a line of its own, for telling it as soon as it is measured."""
        return [
            f"{title}: " + ", ".join(f"{_words(name)} {_text(value)}" for name, value in row.items() if value)
            for title, rows in self.tables().items()
            for row in rows
        ]

    def _end_to_end(self) -> Rows:
        rows = [self._engine_row(run) for run in self.engines]
        if self.baseline:
            row = dict.fromkeys(rows[0] if rows else ("way", "kind", "images", "photos_a_second"))
            row |= {"way": "baseline", "photos_a_second": self.baseline.per_second}
            rows.append(row | {"images": self.baseline.count})
        return rows

    def _engine_row(self, run: EngineRun) -> dict[str, Any]:
        alone = None if self.machine["gpus"] else self.stages_alone(run.kind)  # a GPU helps the engines
        short, long = run.usage
        baseline = self.baseline if run.kind == self.engines[0].kind else None  # it took no other photos
        return {
            "way": run.engine,
            "kind": run.kind,
            "images": run.images[1],
            "photos_a_second": run.per_second,
            "faces_a_second": run.per_second * run.faces[1] / run.images[1],
            "cpu_ms": run.cpu_ms_each,
            "at_work_after_s": run.at_work_s,
            "report_and_end_s": run.after_s,
            "of_stages_alone": run.per_second / alone if alone else None,
            "times_baseline": run.per_second / baseline.per_second if baseline else None,
            "mb": long.peak_bytes / 1e6,
            "grown": long.peak_bytes / max(short.peak_bytes, 1),
            "largest_mb": long.largest_bytes / 1e6,
            "rays_own_mb": long.rays_bytes / 1e6,
        }

    def to_json(self) -> dict[str, Any]:
        return {"machine": self.machine, "tables": self.tables()}

    def print(self, console: Console) -> None:
        told = [f"{_words(name)} {_text(self.machine[name])}" for name in self.machine if name != "packages"]
        console.print("; ".join(told), highlight=False)
        for title, rows in self.tables().items():
            console.print(
                _turned(title, rows) if title == END_TO_END else _table(title, rows), highlight=False
            )


def _table(title: str, rows: Rows) -> Table:
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(_words(name), justify="right")
    for row in rows:
        table.add_row(*map(_text, row.values()))
    return table


def _turned(title: str, rows: Rows) -> Table:
    """A column for each row, since there are more figures than runs, and what is wanted of them."""
    table = Table("", title=title, title_justify="left")
    for row in rows:
        table.add_column("\n".join(map(_text, list(row.values())[:2])), justify="right")
    table.add_column("wanted")
    for name in list(rows[0])[2:]:
        table.add_row(_words(name), *(_text(row[name]) for row in rows), TARGETS.get(name, ""))
    return table


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
