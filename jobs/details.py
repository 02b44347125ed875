"""`facet details`: a head with its wrinkles for every face in a folder or a bucket of photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobs import entry
from jobs.export import export, export_option
from jobs.normals import FIELDS, carry_out, given_fields, on_existing_option, run_options
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.run.folder import OnExisting

OWN_FIELDS = {
    "detail_level": "details.level",
    "texture_size": "details.texture_size",
    "expression": "details.expression",
    "emotion": "details.emotion",
}
"""Option -> the field of the configuration that it sets, beside those of `facet normals`."""

EMOTIONS = ["happy", "sad", "surprise", "fear", "anger", "disgust"]


def action_units(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """Reads AU12=3,AU6=2 as the configuration writes it."""
    if text is None:
        return None
    pairs = [part.split("=") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise ConfigError(f"--action-units takes units and intensities, such as AU12=3,AU6=2; got {text}.")
    return "{" + ", ".join(f"{unit.strip()}: {intensity}" for unit, intensity in pairs) + "}"


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("output")
@click.option("--detail-level", type=click.Choice(["2", "3"]), help="How often the face is divided.")
@click.option("--texture-size", metavar="TEXELS", help="Side of the maps, 512 to 4096.")
@click.option("--expression", type=click.Choice(["auto", "neutral"]), help="auto: found in the photo.")
@click.option("--emotion", type=click.Choice(EMOTIONS), help="A hint: what all faces are known to show.")
@click.option(
    "--action-units", "units", metavar="AU12=3,AU6=2", callback=action_units, help="A hint, 0 to 5 each."
)
@export_option
@on_existing_option
@run_options
def command(
    source: str,
    output: str,
    *,
    units: str | None,
    formats: tuple[str, ...] | None,
    limit: int | None,
    on_existing: OnExisting,
    log_json: bool,
    config: str | None,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Fit a head to every face of the photos in INPUT and write it, with its maps, to OUTPUT.

    INPUT and OUTPUT are as in `facet normals`. A record holds for every face shape, expression, pose, camera,
    texture, displacement and normal map; `facet export` makes meshes of them.
    """
    from pipeline.config import load_config
    from pipeline.recipes.details import RECIPE, DetailsRun
    from pipeline.run import logs
    from pipeline.run.folder import RunRequest

    logs.set_up(log_json)
    given = given_fields(FIELDS | OWN_FIELDS, options)
    given += [] if units is None else [f"details.action_units={units}"]
    settings = load_config(DetailsRun, config, [*overrides, *given])
    carry_out(RunRequest(RECIPE, source, output, settings, limit), on_existing)
    if formats:
        export(output, f"{output.rstrip('/')}/heads", config, overrides, formats=formats)


if __name__ == "__main__":
    entry.run(command)
