"""Builds the folder of a finished run by hand: records with faces whose geometry is known exactly."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from normals_run import count_rows, work_in, write_rows
from PIL import Image

from pipeline.images.items import ListedItem
from pipeline.images.png import encode_png
from pipeline.normals.encoding import encode_normals
from pipeline.recipes.crop_stage import NO_FACE, POINTS_FIELDS
from pipeline.recipes.face_record import FORMAT
from pipeline.run import records
from pipeline.run.counts import FAILED, OK
from pipeline.run.shards import commit_shard
from pipeline.storage.store import Store

RADIUS = 110
"""Of the sphere in every crop, in crop pixels; its centre is the crop's."""


def sphere() -> tuple[np.ndarray, np.ndarray]:
    """Returns normals (256, 256, 3) of a sphere before a wall, and its mask (256, 256) 0/255."""
    rows, columns = np.mgrid[:256, :256]
    x, y = (columns - 127.5) / RADIUS, (127.5 - rows) / RADIUS
    inside = x**2 + y**2 < 0.98
    z = np.sqrt(np.where(inside, 1 - x**2 - y**2, 1))
    normals = np.where(inside[..., None], np.stack([x, y, z], axis=-1), [0, 0, 1])
    return normals, np.where(inside, 255, 0).astype(np.uint8)


def lit_crop(light: tuple[float, float, float], colour: tuple[float, float, float]) -> np.ndarray:
    """Returns the sphere, matte and of one linear colour, under one lamp and some light from all around."""
    normals, _ = sphere()
    shading = 0.3 + 0.7 * np.clip(normals @ (np.array(light) / np.linalg.norm(light)), 0, None)
    linear = np.clip(shading[..., None] * colour, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


def face(
    index: int = 0, crop: np.ndarray | None = None, bits: int = 8, convention: str = "opengl"
) -> dict[str, Any]:
    """Returns a face of a record: a sphere in a photo of 400 x 300 pixels."""
    normals, mask = sphere()
    angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    landmarks = np.stack([160 + 50 * np.cos(angles), 140 + 60 * np.sin(angles)], axis=1)
    if crop is None:
        crop = lit_crop((0.3, 0.4, 1), (0.5, 0.3, 0.2))
    return {
        "index": index,
        "box": [110.0 + 100 * index, 90.0, 209.0 + 100 * index, 189.0],
        "score": 1.5,
        "detector": "hog",
        "landmarks": landmarks.astype(np.float32).ravel().tolist(),
        **dict.fromkeys(POINTS_FIELDS),
        "crop_window": {"left": 85, "top": 65, "size": 150},
        "crop_png": encode_png(crop),
        "normal_png": encode_png(encode_normals(normals, bits, convention)),
        "mask_png": encode_png(mask),
        "mask_share": float((mask > 0).mean()),
    }


def write_photo(path: Path, seed: int = 0) -> bytes:
    """Writes a photo of 400 x 300 pixels, noise as PNG, and returns its bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (300, 400, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def ok(number: int, uri: str, faces: list[dict[str, Any]], data: bytes = b"") -> dict[str, Any]:
    """Returns the record of a photo with faces."""
    row = records.new_record(FORMAT, ListedItem(number, uri, ()))
    row.update(width=400, height=300, sha256=hashlib.sha256(data).hexdigest(), status=OK, faces=faces)
    return row


def no_face(number: int, uri: str, data: bytes = b"") -> dict[str, Any]:
    """Returns the record of a photo without a face."""
    row = records.new_record(FORMAT, ListedItem(number, uri, ()))
    row.update(width=400, height=300, sha256=hashlib.sha256(data).hexdigest())
    row.update(status=NO_FACE, error_code=NO_FACE, error_message="No face was found.")
    return row


def failed(number: int, uri: str, code: str, message: str) -> dict[str, Any]:
    """Returns the record of a photo that failed."""
    row = records.new_record(FORMAT, ListedItem(number, uri, ()))
    row.update(status=FAILED, error_code=code, error_message=message)
    return row


def write_run(folder: Path, shards: list[list[list[dict[str, Any]]]], run: dict[str, Any]) -> Store:
    """Writes records, markers and run.json.

    Args:
        folder: The run's folder.
        shards: For each shard its chunks, each a list of records.
        run: Content of run.json.
    """
    store = Store(str(folder))
    for number, chunks in enumerate(shards):
        for chunk, rows in enumerate(chunks):
            write_rows(work_in(store, chunks=len(chunks)), number, chunk, rows)
        counts = count_rows([row for rows in chunks for row in rows])
        commit_shard(work_in(store, chunks=len(chunks)), number, counts)
    store.write("run.json", json.dumps(run).encode())
    return store
