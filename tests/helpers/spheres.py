"""Training rows of shaded spheres: normals that are known exactly, rendered in no time."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.images.png import encode_png
from pipeline.normals.encoding import encode_normals
from pipeline.regions import Region
from pipeline.samples.schema import SCHEMA


def sphere_normals(size: int, centre: tuple[float, float] | None = None, radius: float | None = None):
    """Unit normals (S, S, 3) float32 of a sphere seen from the front, zero outside; x right, y up."""
    x0, y0 = centre or ((size - 1) / 2, (size - 1) / 2)
    radius = radius or 0.4 * size
    rows, columns = np.mgrid[:size, :size]
    x, y = (columns - x0) / radius, -(rows - y0) / radius
    inside = x**2 + y**2 < 1
    z = np.sqrt(np.where(inside, 1 - x**2 - y**2, 0))
    return np.where(inside[..., None], np.stack([x, y, z], -1), 0).astype(np.float32)


def sphere_row(index: int, size: int = 64, bits: int = 8, **changes: object) -> dict:
    """A paired row with regions; `changes` replaces columns."""
    rng = np.random.default_rng(index)
    centre = (size - 1) / 2 + rng.uniform(-0.05, 0.05, 2) * size
    normals = sphere_normals(size, tuple(centre), rng.uniform(0.3, 0.42) * size)
    inside = normals.any(-1)
    light = rng.normal(size=3) + np.array([0, 0, 2])
    shade = np.clip(normals @ (light / np.linalg.norm(light)), 0, 1)[..., None] * 160 + 50
    image = np.where(inside[..., None], shade * rng.uniform(0.6, 1.1, 3), rng.uniform(0, 255, 3))
    row = {
        "id": f"sphere-{index}",
        "image": encode_png(image.clip(0, 255).astype(np.uint8)),
        "normal": encode_png(np.where(inside[..., None], encode_normals(normals, bits), 0)),
        "regions": encode_png(np.where(inside, Region.SKIN, Region.BACKGROUND).astype(np.uint8)),
        "meta": json.dumps({"yaw": float(rng.uniform(-70, 70)), "skin_tone": index % 12, "light": "lamp"}),
    }
    return row | changes


def write_rows(path: Path, rows: list[dict], group: int = 8) -> str:
    """Writes rows as one Parquet file; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, row_group_size=group)
    return str(path)


def write_mixed(folder: Path) -> str:
    """Writes two files of paired, image-only and normal-only rows; returns the folder."""
    rows = [sphere_row(i, 32) for i in range(20)]
    for row in rows[5:8]:
        row |= {"normal": None, "regions": None}
    for row in rows[8:12]:
        row["image"] = None
    write_rows(folder / "a.parquet", rows[:10], group=4)
    write_rows(folder / "deep" / "b.parquet", rows[10:], group=4)
    return str(folder)
