"""`facet details`: a head with its wrinkles for every face in a folder or a bucket of photos."""

from typing import Any

import click

from jobs import entry
from jobs.export import export, export_option
from jobs.normals import FIELDS, carry_out, on_existing_option, run_options
from pipeline.errors import ConfigError

OWN_FIELDS = {
    "detail_level": "details.level",
    "texture_size": "details.texture_size",
    "expression": "details.expression",
    "emotion": "details.emotion",
    "action_units": "details.action_units",
}
"""Option -> the field of the configuration that it sets, beside those of `facet normals`."""

EMOTIONS = ["happy", "sad", "surprise", "fear", "anger", "disgust"]


def read_units(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
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
@click.option("--action-units", metavar="AU12=3,AU6=2", callback=read_units, help="A hint, 0 to 5 each.")
@export_option
@on_existing_option
@run_options
def command(source: str, output: str, **options: Any) -> None:
    """Fit a head to every face of the photos in INPUT and write it, with its maps, to OUTPUT.

    INPUT and OUTPUT are as in `facet normals`. A record holds for every face shape, expression, pose, camera,
    texture, displacement and normal map; `facet export` makes meshes of them.
    """
    carry_out_heads("details", OWN_FIELDS, source, output, **options)


def carry_out_heads(
    name: str,
    own_fields: dict[str, str],
    source: str,
    output: str,
    *,
    formats: tuple[str, ...] | None,
    **options: Any,
) -> None:
    """Carries out a run that makes heads, and writes them as files where that is asked for."""
    carry_out(name, FIELDS | own_fields, source, output, **options)
    if formats:
        heads = f"{output.rstrip('/')}/heads"
        export(output, heads, options["config"], options["overrides"], formats=formats)


if __name__ == "__main__":
    entry.run(command)
