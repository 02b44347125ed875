"""`facet train`: trains a network on paired and unpaired images and normals."""

import logging

import click

from jobs import entry


@click.command()
@click.option(
    "--data",
    "data_paths",
    multiple=True,
    metavar="PATH",
    help="Parquet file or folder: rendered faces, converted photos or normals, or the output of `facet "
    "normals`. Several may follow.",
)
@click.argument("more_data", nargs=-1, metavar="[PATH]...")
@click.option(
    "--out",
    default="out/train",
    show_default=True,
    metavar="FOLDER",
    help="Folder of the run, local or a URL.",
)
@click.option("--validation", multiple=True, metavar="PATH", help="Labelled data to validate on; repeatable.")
@click.option(
    "--init", metavar="WEIGHTS", help="Parameters to start from: weights by name or path, or a checkpoint."
)
@click.option("--local", is_flag=True, help="Train in this process, without Ray.")
@entry.config_option
@entry.set_option
def command(
    *,
    data_paths: tuple[str, ...],
    more_data: tuple[str, ...],
    out: str,
    validation: tuple[str, ...],
    init: str | None,
    local: bool,
    config: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Trains a network; started again, it goes on from the last checkpoint in --out.

    \b
    facet train --local --config configs/train.yaml --data out/faces --out runs/first
    facet train --config configs/train.yaml --data out/faces s3://bucket/photos s3://bucket/normals
    """
    from pipeline.config import load_config
    from pipeline.train.config import TrainConfig

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    settings = load_config(TrainConfig, config, overrides)
    data_paths += more_data
    if local or settings.workers.num_workers == 0:
        from pipeline.train.local import train_local

        train_local(settings, data_paths, out, validation, init)
    else:
        from pipeline.train.distributed import train_distributed

        train_distributed(settings, data_paths, out, validation, init)


if __name__ == "__main__":
    entry.run(command)
