"""`facet normals`: surface normals of every face in a folder or a bucket of photos."""

from __future__ import annotations

import sys

import click

from jobs import entry
from pipeline.config import load_config
from pipeline.run.config import RunConfig
from pipeline.run.job import OnExisting, Stopped, run_normals
from pipeline.run.summary import summarise, summarise_stopped

FIELDS = {
    "weights": "normals.weights",
    "detect": "detect.mode",
    "faces": "detect.faces",
    "png": "output.png",
    "bits": "output.bits",
    "convention": "output.convention",
    "engine": "engine.name",
}
"""Option -> the field of the configuration that it sets."""


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("output")
@click.option("--weights", metavar="NAME", help="Registered weights, or a .safetensors file.")
@click.option("--detect", type=click.Choice(["fast", "seed", "cnn"]), help="How faces are found.")
@click.option("--faces", type=click.Choice(["all", "largest", "first"]), help="Which faces are taken.")
@click.option("--png", type=click.Choice(["none", "folder", "tar"]), help="Also write PNG files.")
@click.option("--bits", type=click.Choice(["8", "16"]), help="Depth of the normals' PNGs.")
@click.option("--convention", type=click.Choice(["opengl", "opencv", "directx"]), help="Axes of the normals.")
@click.option("--engine", type=click.Choice(["auto", "local", "ray"]), help="This machine, or Ray.")
@click.option("--limit", type=click.IntRange(1), help="Take the first so many photos only.")
@click.option(
    "--on-existing",
    type=click.Choice(["resume", "fail", "overwrite"]),
    default="resume",
    show_default=True,
    help="What to do when OUTPUT holds a run.",
)
@entry.config_option
@entry.set_option
def command(
    source: str,
    output: str,
    *,
    limit: int | None,
    on_existing: OnExisting,
    config: str | None,
    overrides: tuple[str, ...],
    **options: str | None,
) -> None:
    """Find every face of the photos in INPUT and write landmarks, crops and surface normals to OUTPUT.

    INPUT is a photo, a folder, a glob in quotes, a text or Parquet list of paths and URLs, or any of these
    as a URL (s3://, gs://, https://). OUTPUT is a folder or a URL; it gets one record per photo, whatever
    the photo is like, and report/index.html. A run that was stopped goes on when the command is repeated.
    """
    given = [f"{FIELDS[name]}={value}" for name, value in options.items() if value is not None]
    settings = load_config(RunConfig, config, [*overrides, *given])
    try:
        result = run_normals(source, output, settings, limit=limit, on_existing=on_existing)
    except Stopped as stopped:
        click.echo(summarise_stopped(stopped.counts, output), err=True)
        sys.exit(130)
    click.echo(summarise(result, output))


if __name__ == "__main__":
    entry.run(command)
