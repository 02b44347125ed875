"""`facet report`: draws the report of a run anew, or of a part of it."""

from pathlib import Path

import click

from jobs import entry


@click.command()
@click.option("--to", "file", type=click.Path(path_type=Path), metavar="FILE", help="Write the page here.")
@click.option(
    "--where", multiple=True, metavar="CONDITION", help="Take photos and faces that meet it; repeatable."
)
@entry.on_run
def command(
    output: str, *, file: Path | None, where: tuple[str, ...], config: str | None, overrides: tuple[str, ...]
) -> None:
    """Draw the report of the run in OUTPUT, or a sheet of what meets all conditions.

    A condition is a field, a sign of < <= > >= = != and a value. Of photos, or of people: status, error_code,
    uri (patterns with * and ?), faces (their number); of photos alone: width, height. Of faces: size (of the
    crop, in pixels of the photo), score, mask_share, points_sigma, and with heads normals_off (degrees) and
    disagree (1). Without --to it becomes report/index.html of OUTPUT.

    \b
    facet report out/ --to small.html --where size<80 --where score>0.9
    facet report s3://bucket/out --to none.html --where error_code=no_face
    """
    from pipeline.config import load_config
    from pipeline.errors import ConfigError, OutputError
    from pipeline.processes import leave_out_pandas
    from pipeline.recipes import find_run
    from pipeline.run.state import read_state

    leave_out_pandas()
    recipe, store, _ = find_run(output, config, overrides)
    state = read_state(store) or {}
    if "config" not in state:
        raise OutputError(f"{store.place('run.json')} is damaged: it holds no configuration.")
    settings = load_config(recipe.config, config, overrides, base=state["config"])
    if file is None:
        if where:
            raise ConfigError("--where draws a sheet of its own: say with --to where it goes.")
        click.echo((recipe.report and recipe.report(store, settings)) or "There is nothing to show.")
        return
    if recipe.sheet is None:
        raise ConfigError(f"A run of `{recipe.command}` has no sheet of faces.")
    page = recipe.sheet(store, settings, where)
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write {file}: {error.strerror}.") from error
    click.echo(str(file))


if __name__ == "__main__":
    entry.run(command)
