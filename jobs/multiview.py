"""`facet multiview`: one head for the photos of each person, and a mesh for every photo."""

from typing import Any

import click

from jobs import entry
from jobs.details import carry_out_heads
from jobs.export import export_option
from jobs.normals import on_existing_option, run_options

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
def command(source: str, output: str, **options: Any) -> None:
    """Fit one head to the photos of each person in PEOPLE and write it, with a mesh per photo, to OUTPUT.

    PEOPLE holds one folder of photos per person, or is a list with columns subject and uri in which the
    photos of a person follow each other; otherwise it and OUTPUT are as in `facet normals`. A record
    holds the shape of a person, and for each photo expression, pose, camera and maps as `facet details` finds
    them, or why the photo was left out. Of several faces on a photo the one most like the others is taken.
    """
    carry_out_heads("multiview", OWN_FIELDS, source, output, **options)


if __name__ == "__main__":
    entry.run(command)
