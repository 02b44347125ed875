"""`facet status`: how far a run is, from its folder alone."""

import json

import click

from jobs import entry


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
    from pipeline.recipes import find_run, open_run_folder
    from pipeline.run.status import describe_status, run_status

    # The recipe knows all fields, and takes a moment to be imported.
    store = find_run(output, config, overrides)[1] if config or overrides else open_run_folder(output)
    found = run_status(store, quick=quick)
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else describe_status(found))


if __name__ == "__main__":
    entry.run(command)
