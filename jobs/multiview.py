"""`facet multiview`: one head for the photos of each person, and a mesh for every photo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobs import entry
from jobs.export import export, export_option
from jobs.normals import FIELDS, carry_out, given_fields, on_existing_option, run_options

if TYPE_CHECKING:
    from pipeline.run.folder import OnExisting

OWN_FIELDS = {
    "most_photos": "person.most_photos",
    "detail_level": "details.level",
    "texture_size": "details.texture_size",
}
"""Option -> the field of the configuration that it sets, beside those of `facet normals`."""


@click.command()
@click.argument("source", metavar="PEOPLE")
@click.argument("output")
@click.option("--most-photos", metavar="N", help="Photos of a person that are used: those that differ most.")
@click.option("--detail-level", type=click.Choice(["2", "3"]), help="How often the face is divided.")
@click.option("--texture-size", metavar="TEXELS", help="Side of the maps, 512 to 4096.")
@export_option
@on_existing_option
@run_options
def command(
    source: str,
    output: str,
    *,
    formats: tuple[str, ...] | None,
    limit: int | None,
    on_existing: OnExisting,
    log_json: bool,
    config: str | None,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """Fit one head to the photos of each person in PEOPLE and write it, with a mesh per photo, to OUTPUT.

    PEOPLE holds one folder of photos per person, or is a list with columns subject and uri in which the
    photos of a person follow each other; otherwise it and OUTPUT are as in `facet normals`. A record
    holds the shape of a person, and for each photo expression, pose, camera and maps as `facet details` finds
    them, or why the photo was left out. Of several faces on a photo the one most like the others is taken.
    """
    from pipeline.config import load_config
    from pipeline.recipes.multiview import RECIPE, MultiviewRun
    from pipeline.run import logs
    from pipeline.run.folder import RunRequest

    logs.set_up(log_json)
    settings = load_config(MultiviewRun, config, [*overrides, *given_fields(FIELDS | OWN_FIELDS, options)])
    carry_out(RunRequest(RECIPE, source, output, settings, limit), on_existing)
    if formats:
        export(output, f"{output.rstrip('/')}/heads", config, overrides, formats=formats)


if __name__ == "__main__":
    entry.run(command)
