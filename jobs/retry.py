"""`facet retry`: tries photos again that failed in a run."""

import sys

import click

from jobs import entry


@click.command()
@entry.codes_option
@entry.on_run
def command(output: str, *, codes: list[str] | None, config: str | None, overrides: tuple[str, ...]) -> None:
    """Process the photos of the run in OUTPUT again that failed with certain error codes.

    All other records stay as they are. The run's own configuration is used; read.storage, read.max_bytes,
    decode.max_pixels, decode.min_side, limits and engine may differ from it. no_face counts as a code, but
    is no failure: `all` leaves it out.

    Exit code: 1 when every one failed again, or the run has too many failures by faults of Facet.
    """
    from pipeline.errors import FacetError
    from pipeline.recipes import find_run
    from pipeline.run import logs
    from pipeline.run.job import Stopped
    from pipeline.run.retry import describe_retry, retry_run, retry_verdict
    from pipeline.run.summary import summarise_stopped

    logs.set_up()
    if codes is None:
        raise click.UsageError(
            "Say which to try again: --codes timeout,crashed, or --codes all for every failure."
        )
    try:
        recipe, store, _ = find_run(output, config, overrides)
        done = retry_run(recipe, store, codes, config, overrides)
    except Stopped as stopped:
        click.echo(summarise_stopped(stopped.counts, output), err=True)
        sys.exit(130)
    click.echo(describe_retry(done, recipe))
    if reason := retry_verdict(done):
        logs.complain(FacetError(reason, "run_failed"))
        sys.exit(1)


if __name__ == "__main__":
    entry.run(command)
