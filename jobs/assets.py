"""`facet assets`: the models of others that Facet uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs import entry
from pipeline.errors import AssetsError

if TYPE_CHECKING:
    from pipeline.assets.registry import Asset


@click.group()
def command() -> None:
    """The models of others that Facet uses."""


@command.command()
@click.argument("checkout", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--to", metavar="DIR", type=click.Path(path_type=Path), help="Folder of assets.")
def convert(checkout: Path, to: Path | None) -> None:
    """Make the face model (MIT), which comes with Facet, from a CHECKOUT of its repository, and check it.

    \b
    git clone https://github.com/USC-ICT/ICT-FaceKit && facet assets convert ICT-FaceKit
    """
    from pipeline.assets import ict_facekit
    from pipeline.assets.locate import assets_folder

    click.echo(ict_facekit.store(checkout, to or assets_folder()))
    if to is not None:
        click.echo(f"Set FACET_ASSETS={to} so that the other commands find it.", err=True)


@command.command(name="list")
def list_() -> None:
    """Show all assets, their licences and where they are."""
    from pipeline.assets.registry import assets

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
    from pipeline.assets.registry import assets

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
    from pipeline.assets.registry import assets

    known = assets()
    if name not in known:
        raise AssetsError(f"No asset {name!r}; known: {', '.join(known)}.", code="asset_unknown")
    return known[name]


if __name__ == "__main__":
    entry.run(command)
