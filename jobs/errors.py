"""`facet errors`: the photos of a run that have no result, and why."""

from typing import TextIO

import click

from jobs import entry


@click.command()
@entry.codes_option
@click.option(
    "--csv",
    "file",
    type=click.File("w", encoding="utf-8", lazy=True),
    help="Write all of them here; -: stdout.",
)
@entry.on_run
def command(
    output: str,
    *,
    codes: list[str] | None,
    file: TextIO | None,
    config: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Say which photos of the run in OUTPUT have no result, and why, by error code.

    The file of --csv is a list of photos, too: `facet normals failed.csv OTHER_OUTPUT`. To try them again
    within the run: `facet retry`. Of the configuration read.storage alone is used.
    """
    from pipeline.recipes import find_run
    from pipeline.run.problems import Problems
    from pipeline.words import quantity

    recipe, store, _ = find_run(output, config, overrides)
    found = Problems(store, recipe.record, codes)
    if file is not None:
        found.write(file)
    if file is None or file.name != "-":
        click.echo(found.describe())
    if file is not None and file.name != "-":
        click.echo(f"{quantity(found.counts.total(), 'row')} written to {file.name}.")


if __name__ == "__main__":
    entry.run(command)
