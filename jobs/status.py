"""`facet status`: how far a run is, from its folder alone."""

from __future__ import annotations

import json

import click

from jobs import entry
from pipeline.recipes import find_run
from pipeline.run.status import describe_status, run_status


@click.command()
@click.option("--quick", is_flag=True, help="Count photos and shards only, without faces, errors and rate.")
@entry.json_option
@entry.on_run
def command(
    output: str, *, quick: bool, as_json: bool, config: str | None, overrides: tuple[str, ...]
) -> None:
    """Say how far the run in OUTPUT is: from any machine, also while it goes on.

    Of the configuration read.storage alone is used.
    """
    _, store, _ = find_run(output, config, overrides)
    found = run_status(store, quick=quick)
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else describe_status(found))


if __name__ == "__main__":
    entry.run(command)
