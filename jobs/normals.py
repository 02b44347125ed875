"""`facet normals`: surface normals of every face in a folder or a bucket of photos."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from jobs import entry
from pipeline.errors import FacetError, FailureLimitError

# All else is imported where it is used: what is mistyped is said at once.
if TYPE_CHECKING:
    from pipeline.run.folder import OnExisting

FIELDS = {
    "weights": "normals.weights",
    "detect": "detect.mode",
    "faces": "detect.faces",
    "files": "output.files",
    "bits": "output.bits",
    "convention": "output.convention",
    "engine": "engine.name",
    "max_failures": "engine.max_failures",
    "include": "plan.include",
    "exclude": "plan.exclude",
}
"""Option -> the field of the configuration that it sets."""

run_options = entry.options(
    click.option("--weights", metavar="NAME", help="Registered weights, or a .safetensors file."),
    click.option("--detect", type=click.Choice(["auto", "dlib", "paper", "cnn"]), help="How to find faces."),
    click.option("--faces", type=click.Choice(["all", "largest", "first"]), help="Which faces are taken."),
    click.option("--files", type=click.Choice(["none", "folder", "tar"]), help="Also write PNG files."),
    click.option("--bits", type=click.Choice(["8", "16"]), help="Depth of the normals' PNGs."),
    click.option(
        "--convention", type=click.Choice(["opengl", "opencv", "directx"]), help="Axes of the normals."
    ),
    click.option("--engine", type=click.Choice(["auto", "local", "ray"]), help="This machine, or Ray."),
    click.option("--include", multiple=True, metavar="GLOB", help="Take files that match alone; repeatable."),
    click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out files or folders; repeatable."),
    click.option("--limit", type=click.IntRange(1), help="Take the first so many photos only."),
    click.option("--max-failures", metavar="N|N%", help="Stop with the reasons when more photos fail."),
    click.option("--log-json", is_flag=True, help="Write log lines and progress as JSON."),
    entry.config_option,
    entry.set_option,
)
"""What says what a run is; `facet plan` has the same."""


on_existing_option = click.option(
    "--on-existing",
    type=click.Choice(["resume", "fail", "overwrite"]),
    default="resume",
    show_default=True,
    help="What to do when OUTPUT holds a run.",
)


def given_fields(fields: dict[str, str], options: dict[str, Any]) -> list[str]:
    """Returns what a command line sets of the configuration, as "section.field=value"."""
    return [
        # As JSON, which is YAML: patterns begin with *, which YAML takes for something else.
        f"{fields[name]}={json.dumps(value) if isinstance(value, tuple) else value}"
        for name, value in options.items()
        if value not in (None, ())
    ]


def carry_out(
    name: str,
    fields: dict[str, str],
    source: str,
    output: str,
    *,
    limit: int | None,
    on_existing: OnExisting,
    log_json: bool,
    config: str | None,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Carries out a run of the recipe of a name, as the command line says, and says how it ended.

    `fields` are those that `options` set. Exit code 1 when the run is complete but went wrong.
    """
    from pipeline.config import load_config
    from pipeline.processes import leave_out_pandas
    from pipeline.recipes import load_recipe
    from pipeline.run import logs
    from pipeline.run.folder import RunRequest
    from pipeline.run.job import Stopped, run
    from pipeline.run.summary import failure_table, summarise, summarise_stopped, verdict

    logs.set_up(log_json)
    recipe = load_recipe(name)
    settings = load_config(recipe.config, config, [*overrides, *given_fields(fields, options)])
    leave_out_pandas()
    try:
        result = run(RunRequest(recipe, source, output, settings, limit), on_existing)
    except Stopped as stopped:
        logs.say(summarise_stopped(stopped.counts, output))
        sys.exit(130)
    except FailureLimitError as error:
        for line in failure_table(error.counts):
            logs.say(line)
        raise
    click.echo(summarise(result, output, recipe.item))
    if reason := verdict(result.counts, recipe.item):
        logs.complain(FacetError(reason, "run_failed"))
        sys.exit(1)


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("output")
@on_existing_option
@run_options
def command(source: str, output: str, **options: Any) -> None:
    """Find every face of the photos in INPUT and write landmarks, crops and surface normals to OUTPUT.

    INPUT is a photo, a folder, a glob in quotes, a list of paths and URLs (text, CSV, JSON, Parquet), or any
    of these as a URL (s3://, gs://, https://). OUTPUT is a folder or a URL; it gets one record per photo,
    whatever the photo is like, and report/index.html. A run that was stopped goes on when the command is
    repeated.
    """
    carry_out("normals", FIELDS, source, output, **options)


if __name__ == "__main__":
    entry.run(command)
