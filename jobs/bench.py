"""`facet bench`: how fast every part is on this machine."""

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from jobs import entry
from pipeline.bench import DEFAULT_PARTS, PARTS, SCALE_PARTS
from pipeline.weights import DEFAULT

FILE_WIDTH = 160
"""Columns of tables that go into a file or a pipe."""


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option(
    "--photos", metavar="DIR", type=click.Path(path_type=Path), help="Folder of photos to measure with."
)
@click.option(
    "--count", default=400, show_default=True, type=click.IntRange(4), help="Photos of a whole run."
)
@click.option("--weights", metavar="NAME", default=DEFAULT, show_default=True, help="Weights of the network.")
@click.option("--scale", is_flag=True, help=f"Measure {', '.join(SCALE_PARTS)}.")
@click.option("--json", "json_file", metavar="FILE", type=click.Path(path_type=Path), help="Also write JSON.")
def command(
    *,
    parts: tuple[str, ...],
    photos: Path | None,
    count: int,
    weights: str,
    scale: bool,
    json_file: Path | None,
) -> None:
    """Measure PARTS on this machine, in one run.

    \b
    stages           the way of a photo on one core, all cores at work
    baseline         the paper's way, one photo at a time
    local, ray       whole runs of `facet normals`: rate, start-up, CPU time, memory
    memory           the same runs over 200 and over 2,000 photos
    heads            fit, displacement, maps and GLB of a face
    synth, train     rendering and training
    plan, resume     many photos and shards
    overhead         the Ray engine with nothing to do
    workers          the Ray engine with many pretended workers

    Without PARTS: stages to ray, in some minutes. With --scale: plan to workers. Let nothing else run
    meanwhile. Each figure is told as it is measured, and all of them in tables at the end.
    """
    from rich.console import Console

    from pipeline.bench.suite import BenchOptions, run_bench

    err = Console(stderr=True)
    if not parts:
        parts = SCALE_PARTS if scale else DEFAULT_PARTS
        if "baseline" in parts and find_spec("face_recognition_models") is None:
            err.print("No baseline without dlib's landmarks: pip install face_recognition_models.")
            parts = tuple(part for part in parts if part != "baseline")
    options = BenchOptions(parts, photos, count, weights)
    with tempfile.TemporaryDirectory(prefix="facet-bench-") as folder:
        report = run_bench(options, Path(folder), lambda line: err.print(line, highlight=False))
    console = Console()
    report.print(console if console.is_terminal else Console(width=FILE_WIDTH))
    if json_file:
        json_file.write_text(json.dumps(report.to_json(), indent=1) + "\n")


if __name__ == "__main__":
    entry.run(command)
