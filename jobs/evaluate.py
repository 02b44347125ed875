"""`facet evaluate`: scores weights on labelled data, and heads against scans."""

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
@click.option("--mirror", is_flag=True, help="Also compare mirrored crops: difference and gain.")
@click.option(
    "--light",
    "light_heads",
    type=click.IntRange(0),
    default=0,
    metavar="HEADS",
    help="Also render so many heads under ten lights each and compare the answers. Needs the head model.",
)
@click.option("--show", multiple=True, metavar="ID", help="Draw this image into OUT/shown.png; repeatable.")
@click.option("--people", is_flag=True, help="Score heads of people by one and more of their photos.")
@click.option("--unit", default=1.0, show_default=True, help="Centimetres that a unit of the scans is.")
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
    people: bool,
    unit: float,
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

    With --people DATA are of `facet synth --multiview`, and what is scored are the heads that fit one, two,
    three and five of the photos: millimetres and degrees by stage.

    \b
    facet evaluate compact out/people --people

    In place of WEIGHTS, a run of `facet details` or `multiview`: its heads are scored against DATA, an OBJ
    file of a scan that faces +z with y up, or a folder with one named after each photo or person. Prints
    millimetres and degrees by stage: mean face, points alone, proxy, detailed.

    \b
    facet evaluate out/ scan.obj --unit 0.1
    """
    if (Path(weights) / "run.json").exists():
        _evaluate_heads(weights, data, out, unit)
        return
    if people:
        from pipeline.evaluate.people import evaluate_people

        click.echo(evaluate_people(weights, data, out))
        return
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


def _evaluate_heads(run: str, data: tuple[str, ...], out: Path | None, unit: float) -> None:
    from pipeline.recipes import WITH_HEADS, find_run
    from pipeline.recipes.head_scores import evaluate_heads
    from pipeline.words import quantity

    recipe, store, _ = find_run(run, None, ())
    if recipe.name not in WITH_HEADS or len(data) != 1:
        raise ConfigError(
            f"{run} is a run of `facet {recipe.name}`: one of `facet details` or `facet multiview` is scored "
            "against one DATA, an OBJ file or a folder of such."
        )
    table, alone = evaluate_heads(store, Path(data[0]), unit, out)
    click.echo(table)
    if alone:
        click.echo(f"{quantity(alone, 'head')} without a scan.", err=True)


if __name__ == "__main__":
    entry.run(command)
