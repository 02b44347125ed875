"""`facet assets`: the models of others that Facet uses."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs import entry
from pipeline.assets import ict_facekit
from pipeline.assets.locate import ICT_FACEKIT, assets_folder
from pipeline.assets.registry import Asset, assets
from pipeline.errors import AssetsError


@click.group()
def command() -> None:
    """The models of others that Facet uses."""


@command.command()
@click.argument("name", type=click.Choice([ICT_FACEKIT]))
@click.option(
    "--from", "source", metavar="URL", help="Another server, or a folder with a checkout of the repository."
)
@click.option("--to", metavar="DIR", type=click.Path(path_type=Path), help="Folder of assets.")
@click.option("--connections", default=6, show_default=True, type=click.IntRange(1, 32))
def fetch(name: str, source: str | None, to: Path | None, connections: int) -> None:
    """Download the face model (MIT) from its repository, at a pinned commit, and check it.

    It comes with Facet: this is for whoever wants it from its source. About 400 MB come down and 16 MB stay.
    A download that broke off goes on when the command is given again.
    """
    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        files = progress.add_task("files", total=ict_facekit.pinned_manifest().file_count())
        path = ict_facekit.fetch(
            to or assets_folder(),
            source,
            connections=connections,
            on_file=lambda file: progress.advance(files),
        )
    click.echo(path)
    if to is not None:
        click.echo(f"Set FACET_ASSETS={to} so that the other commands find it.", err=True)


@command.command(name="list")
def list_() -> None:
    """Show all assets, their licences and where they are."""
    for asset in assets().values():
        try:
            place = str(asset.find())
        except AssetsError as error:
            place = f"missing. {error.message}"
        click.echo(f"{asset.name}: {asset.purpose}")
        click.echo(f"  licence  {asset.license}")
        click.echo(f"  from     {asset.source}")
        click.echo(f"  path     {place}")


@command.command()
@click.argument("name")
def path(name: str) -> None:
    """Print where an asset is."""
    click.echo(_asset(name).find())


@command.command()
@click.argument("name", required=False)
def verify(name: str | None) -> None:
    """Check one asset, or all that are there, against the pinned checksums."""
    for asset in [_asset(name)] if name else assets().values():
        try:
            found = asset.find()
        except AssetsError:
            if name:
                raise
            click.echo(f"{asset.name}: not there")
            continue
        asset.verify(found)
        click.echo(f"{asset.name}: as pinned ({found})")


def _asset(name: str) -> Asset:
    known = assets()
    if name not in known:
        raise AssetsError(f"No asset {name!r}; known: {', '.join(known)}.", code="asset_unknown")
    return known[name]


if __name__ == "__main__":
    entry.run(command)
