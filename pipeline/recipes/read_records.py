"""The records of a run as Python has use for them: images as arrays, normals as vectors."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.errors import OutputError
from pipeline.faces.crop import CropWindow
from pipeline.images.png import decode_png
from pipeline.normals.encoding import Convention, decode_normals
from pipeline.run.markers import committed_shards, records_name
from pipeline.run.state import read_state
from pipeline.storage.places import StorageConfig
from pipeline.storage.store import Store

BATCH = 16
"""Records decoded from Parquet together."""


def read_records(
    output: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    storage: StorageConfig | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields the records of a run, whatever is committed so far, in the order of its shards.

    Every face has, beside what the README's table says:

        landmarks    (68, 2) float32
        points       (500, 3) float32 x, y, sigma, where there are any
        window       `pipeline.faces.crop.CropWindow`, in place of crop_window
        crop         (256, 256, 3) uint8, in place of crop_png
        normals      (256, 256, 3) float32 of unit length, x right, y up, z to the viewer, whatever the run's
                     convention; in place of normal_png
        mask         (256, 256) bool, where they are meant; in place of mask_png

    Args:
        output: Folder or URL of the run.
        columns: Columns to read; None: all.
        storage: How remote storage is reached.

    Raises:
        OutputError: There is no run, or it cannot be read.
    """
    store = Store(os.fspath(output), storage)
    state = read_state(store)
    if state is None:
        raise OutputError(f"There is no run in {store.url}.")
    convention = state["config"]["output"].get("convention", "opengl")
    return _records(store, convention, list(columns) if columns is not None else None)


def _records(store: Store, convention: Convention, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    for shard in sorted(committed_shards(store)):
        with store.open(records_name(shard)) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(BATCH, columns=columns):
                for row in batch.to_pylist():
                    row["faces"] = [decode_face(face, convention) for face in row.get("faces") or []]
                    if columns is not None and "faces" not in columns:
                        del row["faces"]
                    yield row


def decode_face(face: dict[str, Any], convention: Convention = "opengl") -> dict[str, Any]:
    """Returns a face of a record with arrays; see `read_records`.

    Args:
        face: As Parquet holds it.
        convention: Axes of its normals.
    """
    decoded = dict(face)
    if (window := decoded.pop("crop_window", None)) is not None:
        decoded["window"] = CropWindow(**window)
    for name, width in (("landmarks", 2), ("points", 3), ("visible", None), ("rotation", None)):
        if decoded.get(name) is not None:
            values = np.asarray(decoded[name], np.uint8 if name == "visible" else np.float32)
            decoded[name] = values.reshape(-1, width) if width else values
    for name in ("crop", "normal", "mask"):
        data = decoded.pop(f"{name}_png", None)
        if data is None:
            continue
        pixels = decode_png(data)
        if name == "mask":
            decoded["mask"] = pixels > 127
        elif name == "crop":
            decoded["crop"] = pixels
        else:
            decoded["normals"] = decode_normals(pixels, convention)
    return decoded
