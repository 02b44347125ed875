"""`facet export`: the heads of a run as GLB, OBJ and PLY files."""

from typing import Any

import click

from jobs import entry
from pipeline.errors import ConfigError, OutputError


def one_or_more(*choices: str) -> Any:
    """Returns the callback of an option that takes some of these, with commas between."""

    def read(_: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...] | None:
        if text is None:
            return None
        chosen = tuple(part.strip() for part in text.split(","))
        if unknown := [part for part in chosen if part not in choices]:
            raise ConfigError(f"{parameter.opts[0]} takes {', '.join(choices)}; got {', '.join(unknown)}.")
        return chosen

    return read


export_option = click.option(
    "--export",
    "formats",
    metavar="glb,obj,ply",
    callback=one_or_more("glb", "obj", "ply"),
    help="Also write the fitted heads as such files, to OUTPUT/heads; see `facet export`.",
)
"""Of the jobs that make heads."""


@click.command()
@click.argument("output", metavar="OUT")
@click.argument("heads", metavar="HEADS")
@click.option(
    "--format",
    "formats",
    default="glb",
    metavar="glb,obj,ply",
    callback=one_or_more("glb", "obj", "ply"),
    help="Kinds of files. [default: glb]",
)
@click.option(
    "--part",
    "parts",
    default="proxy",
    metavar="proxy,detailed",
    callback=one_or_more("proxy", "detailed"),
    help="proxy: the fitted head, its detail in a normal map; detailed: the mesh that carries it. "
    "[default: proxy]",
)
@click.option(
    "--space",
    type=click.Choice(["model", "camera"]),
    default="model",
    help="Of the head, or of the photo's camera.",
)
@click.option("--unit", type=click.Choice(["cm", "m", "mm"]), default="m", show_default=True)
@entry.config_option
@entry.set_option
def command(
    output: str, heads: str, *, config: str | None, overrides: tuple[str, ...], **options: Any
) -> None:
    """Write the heads of the run in OUT to HEADS: a folder <photo>-<id>-<face> for every face.

    Of a run over people they are named <person>-<photo>-<id>. Beside the meshes lie the maps, camera.json
    (the photo's camera), displacement.json (how to use the map) and a script for Blender. Both OUT and HEADS
    may be URLs. Of the configuration read.storage is used.
    """
    from pipeline.run import logs

    logs.set_up(False)
    export(output, heads, config, overrides, **options)


def export(output: str, heads: str, config: str | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Exports the heads of a run, and says how many there were.

    Raises:
        OutputError: It is no run of heads.
    """
    from pipeline.recipes import WITH_HEADS, find_run
    from pipeline.recipes.head_export import export_run
    from pipeline.storage.store import Store
    from pipeline.words import quantity

    recipe, store, settings = find_run(output, config, overrides)
    if recipe.name not in WITH_HEADS:
        raise OutputError(
            f"{store.url} holds a run of `facet {recipe.name}`, heads are of `facet details` and "
            "`facet multiview`."
        )
    target = Store(heads, settings.read.storage)
    count = sum(1 for _ in export_run(store, target, **options))
    click.echo(f"{quantity(count, 'head')} in {target.url}")


if __name__ == "__main__":
    entry.run(command)
