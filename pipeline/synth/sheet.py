"""Contact sheets of rendered samples: each photo above its normals."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline.storage.store import Store


def contact_sheet(pairs: list[tuple[np.ndarray, np.ndarray]], columns: int = 8) -> np.ndarray:
    """Lays images and normal maps out, rows of photos above rows of their normals; all are (S, S, 3) uint8.

    Returns:
        (H, W, 3) uint8.
    """
    size = pairs[0][0].shape[0]
    empty = np.zeros((size, size, 3), np.uint8)
    bands = []
    for start in range(0, len(pairs), columns):
        row = pairs[start : start + columns]
        row = row + [(empty, empty)] * (min(columns, len(pairs)) - len(row))
        bands += [np.concatenate(side, 1) for side in zip(*row, strict=True)]
    return np.concatenate(bands, 0)


def sheet_of_shards(store: Store, names: list[str], count: int = 64, size: int = 160) -> np.ndarray:
    """Draws the first samples of a data set."""
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for name in names:
        with store.open(name) as file:
            table = pq.read_table(file, columns=["image", "normal"]).slice(0, count - len(pairs))
        pairs += [(_thumbnail(r["image"], size), _thumbnail(r["normal"], size)) for r in table.to_pylist()]
        if len(pairs) >= count:
            break
    return contact_sheet(pairs)


def _thumbnail(data: bytes, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return cv2.resize(np.asarray(image.convert("RGB")), (size, size), interpolation=cv2.INTER_AREA)
