"""Contact sheets of rendered samples: each photo above its normals."""

import io

import cv2
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline.pixels import tile
from pipeline.storage.store import Store


def sheet_of_shards(store: Store, names: list[str], count: int = 64, size: int = 160) -> np.ndarray:
    """Draws the first samples of a data set: each photo above its normals, (H, W, 3) uint8."""
    pairs: list[np.ndarray] = []
    for name in names:
        with store.open(name) as file:
            table = pq.read_table(file, columns=["image", "normal"]).slice(0, count - len(pairs))
        for row in table.to_pylist():
            pairs.append(np.concatenate([_thumbnail(row[name], size) for name in ("image", "normal")]))
        if len(pairs) >= count:
            break
    return tile(pairs, 8)


def _thumbnail(data: bytes, size: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return cv2.resize(np.asarray(image.convert("RGB")), (size, size), interpolation=cv2.INTER_AREA)
