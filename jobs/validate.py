"""`facet validate`: checks what a run has written."""

import json
import sys

import click

from jobs import entry


@click.command()
@click.option("--repair", is_flag=True, help="Clear the markers of bad shards: the run redoes them.")
@entry.json_option
@entry.on_run
def command(
    output: str, *, repair: bool, as_json: bool, config: str | None, overrides: tuple[str, ...]
) -> None:
    """Check every committed shard of the run in OUTPUT against its marker and the plan.

    Files, digests, schema, ids, counts and images are checked, and the normals of a sample. Shards that are
    still to be done are no fault. Nobody should be working on OUTPUT at the time. Of the configuration
    read.storage and engine.cpus are used.

    Exit code: 0 when all that is committed is sound, 1 when something is not, repaired or not, 2 when it
    cannot be told.
    """
    from pipeline.recipes import find_run
    from pipeline.run.validate import describe_validation, validate_run

    recipe, store, settings = find_run(output, config, overrides)
    try:
        found = validate_run(recipe, store, repair=repair, workers=settings.engine.cpus)
    except KeyboardInterrupt:
        sys.exit(130)
    click.echo(
        json.dumps(found.to_json(), indent=1) if as_json else describe_validation(found, recipe, output)
    )
    sys.exit(0 if found.sound else 1)


if __name__ == "__main__":
    entry.run(command)
