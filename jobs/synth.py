"""`facet synth`: labelled faces for training, rendered from the ICT-FaceKit head model."""

import sys
import time
from pathlib import Path

import click

from jobs import entry


@click.command()
@click.argument("output")
@click.option("--count", type=click.IntRange(1), help="Number of samples, or of heads with --multiview.")
@click.option("--seed", type=click.IntRange(0), help="Same seed, same samples, wherever they are rendered.")
@click.option("--size", type=click.IntRange(32, 2048), help="Side of the crops in pixels.")
@click.option("--engine", type=click.Choice(["auto", "local", "ray"]), help="Local processes or Ray.")
@click.option("--workers", type=click.IntRange(1), help="Processes or actors.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Also draw a contact sheet.")
@click.option("--multiview", is_flag=True, help="Several views of each head, with cameras and vertices.")
@click.option("--model", metavar="PATH", help="The head model, else FACET_ASSETS or the fetched one.")
@entry.config_option
@entry.set_option
def command(
    output: str,
    *,
    sheet: Path | None,
    multiview: bool,
    model: str | None,
    config: str | None,
    overrides: tuple[str, ...],
    **options: str | int | None,
) -> None:
    """Render labelled faces for training into the folder OUTPUT (local or remote), as Parquet shards.

    A run that was interrupted goes on when the command is given again.
    """
    from pipeline.config import load_config
    from pipeline.device import choose_device
    from pipeline.images.png import encode_png
    from pipeline.storage.store import Store
    from pipeline.synth.config import SynthConfig
    from pipeline.synth.dataset import write_dataset
    from pipeline.synth.sample import Sampler
    from pipeline.synth.sheet import sheet_of_shards
    from pipeline.synth.view_sets import write_sets

    fields = {
        "count": "dataset.count",
        "seed": "dataset.seed",
        "size": "dataset.sample.size",
        "engine": "execution.engine",
        "workers": "execution.workers",
        "device": "execution.device",
    }
    given = [f"{fields[name]}={value}" for name, value in options.items() if value is not None]
    settings = load_config(SynthConfig, config, [*overrides, *given])
    dataset = settings.dataset
    if multiview:
        device = str(choose_device(settings.execution.device))
        sampler = Sampler(dataset.sample, dataset.seed, device, model)
        names = write_sets(Store(output), sampler, range(dataset.count), settings.multiview)
    else:
        progress = SampleProgress(dataset.count)
        names = write_dataset(output, dataset, settings.execution, model, progress)
    click.echo(f"{len(names)} files in {output}")
    if sheet is not None:
        sheet.write_bytes(encode_png(sheet_of_shards(Store(output), names)))
        click.echo(sheet)


class SampleProgress:
    """Prints how far the rendering is: one line that is rewritten, or new ones where stderr is a file."""

    def __init__(self, total: int):
        self._total = total
        self._done = 0
        self._start = time.monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        line = f"{self._done:,}/{self._total:,} samples, {rate:,.1f}/s"
        last = self._done == self._total or not sys.stderr.isatty()
        click.echo(f"\r{line}" if sys.stderr.isatty() else line, err=True, nl=last)


if __name__ == "__main__":
    entry.run(command)
