"""`facet weights`: list, show, verify, import, add and export weights."""

import json
from pathlib import Path

import click
import yaml

from jobs import entry
from pipeline import weights
from pipeline.errors import DataError
from pipeline.words import size_text


@click.group()
def command() -> None:
    """List, show, verify, import, add and export the weights of the networks."""


@command.command("list")
def list_command() -> None:
    """Lists all weights: name, architecture, licence, file."""
    rows = [(item.name, item.architecture, item.licence, str(path)) for item, path in weights.list_weights()]
    if not rows:
        click.echo("No weights are registered.")
        return
    rows.insert(0, ("NAME", "ARCHITECTURE", "LICENCE", "FILE"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        click.echo(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        )


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Shows one entry of the registry as YAML: digest, licence, how it was trained, scores."""
    item, path = weights.find_weights(name)
    text = yaml.safe_dump({**item.model_dump(), "file": str(path)}, sort_keys=False, allow_unicode=True)
    click.echo(text, nl=False)


@command.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Checks the files of the named weights, or of all, against the registry, and loads them."""
    from pipeline.normals.architectures import load_weights

    known = weights.list_weights()
    onnx = {item.name: (item, path) for item, path in known if path.suffix == ".onnx"}
    for name in names or [item.name for item, _ in known]:
        if name in onnx:
            weights.verify_weights(*onnx[name])
            digest = onnx[name][0].sha256
        else:
            digest = load_weights(name).entry.sha256
        click.echo(f"{name}: ok, sha256 {digest}")


@command.command("import")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--name", default="resnet_unet", show_default=True, help="Name to register.")
def import_command(model: Path, name: str) -> None:
    """Imports the authors' MODEL.pth of the paper's network, converted to safetensors.

    The weights are theirs, under CC BY-NC 4.0: not for commercial use.
    """
    from pipeline.normals.published import import_published

    item = import_published(model, name)
    click.echo(f"{item.name}: stored in {weights.user_folder() / item.file}, licence {item.licence}")


@command.command("add")
@click.argument("files", nargs=-1, required=True)
@click.option("--name", required=True, help="Name to register.")
@click.option("--licence", required=True, help="Licence of the weights, as an SPDX identifier.")
@click.option("--trained-how", required=True, help="How they were made, in words.")
@click.option(
    "--score",
    "evaluations",
    multiple=True,
    metavar="SET=EVALUATION.JSON",
    help="A result of `facet evaluate --out`, under the name of its data; repeatable.",
)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Folder of the registry, else the user's own."
)
def add(
    files: tuple[str, ...],
    *,
    name: str,
    licence: str,
    trained_how: str,
    evaluations: tuple[str, ...],
    folder: Path | None,
) -> None:
    """Registers FILES under a name: weights, checkpoints of `facet train`, or names of weights.

    Of several it is their mean: that of weights and of what training made of them is often better than both.
    """
    from pipeline.normals.checkpoints import load_mean

    scores = dict(read_score(evaluation) for evaluation in evaluations)
    item = weights.export_weights(
        load_mean(files), name, folder, licence=licence, trained_how=trained_how, scores=scores
    )
    click.echo(
        f"{item.name}: stored in {(folder or weights.user_folder()) / item.file}, sha256 {item.sha256}"
    )


@command.command("export")
@click.argument("name")
@click.option("--onnx", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write.")
def export(name: str, onnx: Path) -> None:
    """Writes the way from photo to normals of weights NAME (or a .safetensors file) as ONNX.

    Input: image (N, 3, 256, 256), RGB in 0..1. Outputs: normals, mask, confidence. The file's metadata says
    the axes, the licence and the digest of the weights. Needs the packages onnx and onnxscript.
    """
    from pipeline.normals.architectures import load_weights
    from pipeline.normals.onnx_export import export_onnx

    loaded = load_weights(name)
    export_onnx(loaded, onnx)
    click.echo(f"{loaded.entry.name}: {onnx}, {size_text(onnx.stat().st_size)}")


def read_score(evaluation: str) -> tuple[str, dict[str, float]]:
    """Reads SET=EVALUATION.JSON.

    Returns:
        The name of the set, and its mean and median angular error in degrees within the landmark hull.

    Raises:
        DataError: The text has another form, or the file is no result of `facet evaluate`.
    """
    name, _, path = evaluation.partition("=")
    try:
        hull = json.loads(Path(path).read_text(encoding="utf-8"))["hull"]["all"]
        return name, {f"{metric}_degrees": round(hull[metric], 2) for metric in ("mean", "median")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"--score {evaluation}: give SET=FILE, the evaluation.json that `facet evaluate --out` wrote."
        ) from error


if __name__ == "__main__":
    entry.run(command)
