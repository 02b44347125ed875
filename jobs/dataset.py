"""`facet dataset`: converts folders of images and normals to training data."""

import logging

import click

from jobs import entry


@click.command()
@click.argument("folder")
@click.argument("output")
@click.option(
    "--convention",
    type=click.Choice(["opengl", "opencv", "directx"]),
    default="opengl",
    show_default=True,
    help="Axes of the normal maps: opengl is x right, y up, z to the viewer.",
)
@click.option("--crop", is_flag=True, help="Find the largest face of each photo and cut it out.")
@click.option("--size", type=click.IntRange(32, 2048), default=256, help="Side of the crops in pixels.")
def command(folder: str, output: str, convention: str, crop: bool, size: int) -> None:
    """Converts the pictures of FOLDER into Parquet files in OUTPUT.

    FOLDER holds images/, normals/ and masks/, each optional; files of the same name make one row, whatever
    their endings, and `_normal` or `_mask` behind it. Rows with image and normals are paired, the others
    train what they can. A picture that cannot be used is named and left out.

    \b
    facet dataset scans/ out/scans --crop
    facet train --data out/faces --data out/scans --out runs/mixed
    """
    from pipeline.faces.detect import DetectConfig, FaceFinder
    from pipeline.samples.rows import BadRows
    from pipeline.train.convert import convert_folder
    from pipeline.words import quantity

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    bad = BadRows()
    finder = FaceFinder(DetectConfig(faces="largest")) if crop else None
    done = convert_folder(folder, output, bad, convention=convention, finder=finder, size=size)  # type: ignore[arg-type]
    for line in done.unused:
        click.echo(f"Left out: {line}.", err=True)
    counts = ", ".join(f"{done.rows[kind]:,} {kind}" for kind in ("paired", "images alone", "normals alone"))
    rows = quantity(done.rows.total(), "row")
    click.echo(f"{rows} written to {output}: {counts}; {len(bad.reasons):,} could not be used.")


if __name__ == "__main__":
    entry.run(command)
