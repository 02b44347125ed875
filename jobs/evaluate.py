"""`facet evaluate`: scores weights on labelled data."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from jobs import entry
from pipeline.errors import ConfigError


@click.command()
@click.argument("weights")
@click.argument("data", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Store the results here.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@click.option("--size", type=int, help="Side of the crops. [default: as in training]")
@click.option("--mirror", is_flag=True, help="Also compare mirrored crops: difference, gain and cost.")
@click.option(
    "--light",
    "light_heads",
    type=click.IntRange(0),
    default=0,
    metavar="HEADS",
    help="Also render so many heads under ten lights each and compare the answers. Needs the head model.",
)
@click.option("--show", multiple=True, metavar="ID", help="Draw this image into OUT/shown.png; repeatable.")
def command(
    weights: str,
    data: tuple[str, ...],
    *,
    out: Path | None,
    device: str,
    size: int | None,
    mirror: bool,
    light_heads: int,
    show: tuple[str, ...],
) -> None:
    """Scores WEIGHTS (a name, a file or a training checkpoint) on labelled DATA.

    Weights of points (as ONNX) are scored on rendered heads: pixels of a crop of 128, shares within one and
    two sigma, by yaw, roll, size, occlusion.

    DATA are Parquet files or folders in the training schema, or folders with images/, normals/ and, if you
    like, masks/. Prints a table: angles in degrees, per image first, then averaged over images.

    \b
    facet evaluate compact out/held_out --out out/score
    facet evaluate compact out/held_out --out out/score --mirror --light 12
    facet evaluate points out/held_out --out out/score
    """
    from pipeline.weights import is_onnx

    if is_onnx(weights):
        from pipeline.points.evaluate import as_markdown, evaluate_file

        if mirror or light_heads or show:
            raise ConfigError("--mirror, --light and --show are for normals; these weights find points.")
        click.echo(as_markdown(evaluate_file(weights, data, out)))
        return
    from pipeline.evaluate.run import evaluate, report
    from pipeline.samples.schema import SIZE

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if show and out is None:
        raise ConfigError("--show draws into the folder of --out: give both.")
    summary, _ = evaluate(
        weights, data, out, device, size or SIZE, mirror=mirror, light_heads=light_heads, show=show
    )
    click.echo(report(summary))
    if summary["bad_rows"]:
        click.echo(f"{summary['bad_rows']} rows could not be used.", err=True)


if __name__ == "__main__":
    entry.run(command)
