"""`facet plan`: lists the input of a run and says what the run will take."""

import sys
from typing import Any, Literal

import click

from jobs import entry
from jobs.normals import FIELDS, given_fields, run_options
from pipeline.recipes import NAMES, load_recipe


@click.command()
@click.argument("source", metavar="INPUT")
@click.argument("output")
@click.option(
    "--recipe",
    "name",
    type=click.Choice(NAMES),
    default="normals",
    show_default=True,
    help="The job.",
)
@click.option("--extend", is_flag=True, help="Add photos that are not in the plan of OUTPUT yet.")
@click.option(
    "--on-existing",
    type=click.Choice(["fail", "overwrite"]),
    default="fail",
    show_default=True,
    help="What to do when OUTPUT holds a plan.",
)
@run_options
def command(
    source: str,
    output: str,
    *,
    name: str,
    extend: bool,
    on_existing: Literal["fail", "overwrite"],
    limit: int | None,
    log_json: bool,
    config: str | None,
    overrides: tuple[str, ...],
    **options: Any,
) -> None:
    """List the photos of INPUT, cut them into shards, and say what the run will take.

    `facet normals INPUT OUTPUT` (or the job that --recipe names) with the same options goes on from the plan;
    without one it makes its own.
    With --extend new photos become new shards: what is planned or done already stays as it is, photos that
    are gone included.

    Time and size follow from some photos of INPUT that are worked on here, the price from the prices in the
    section `estimate` of the configuration.
    """
    from pipeline.config import load_config
    from pipeline.run import logs
    from pipeline.run.estimate import describe_estimate, find_resources
    from pipeline.run.folder import RunRequest, make_plan
    from pipeline.run.sample import take_sample
    from pipeline.run.summary import summarise_plan
    from pipeline.storage.store import Store

    logs.set_up(log_json)
    recipe = load_recipe(name)
    settings = load_config(recipe.config, config, [*overrides, *given_fields(FIELDS, options)])
    try:
        store = Store(output, settings.read.storage)
        request = RunRequest(recipe, source, store, settings, limit)
        planned = make_plan(request, extend=extend, on_existing=on_existing)
        resources, given = find_resources(recipe, settings), settings.estimate
        sample = None
        if given.sample and planned.images_left:
            sample = take_sample(store, planned.plan, recipe, settings, given.sample)
    except KeyboardInterrupt:
        logs.say("Stopped. What was planned before stays as it is.")
        sys.exit(130)
    estimate = describe_estimate(recipe, planned.images_left, resources, given, sample)
    click.echo("\n".join([*summarise_plan(planned, recipe.item), *estimate]))


if __name__ == "__main__":
    entry.run(command)
