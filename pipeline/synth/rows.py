"""Rendered samples as rows of the training schema (`pipeline.samples.schema.RENDERED_SCHEMA`)."""

import json
from concurrent.futures import Executor
from typing import Any

import cv2
import numpy as np

from pipeline.images.png import encode_png
from pipeline.normals.encoding import encode_normals
from pipeline.synth.sample import RenderedBatch

JPEG_QUALITY = 95
"""Quality of the stored images: above what the camera stage leaves of them."""

FINEST_DEPTH = 0.004
"""Depth step in cm; finer ones would store rounding noise."""


def encode_batch(batch: RenderedBatch, prefix: str, executor: Executor | None = None) -> list[dict[str, Any]]:
    """Encodes rendered samples.

    Threads share the work where rendering is faster than one of them.

    Returns:
        Rows of `RENDERED_SCHEMA`.
    """
    arrays = {
        name: getattr(batch, name).cpu().numpy()
        for name in ("image", "normal", "mask", "regions", "depth", "landmarks", "dense", "dense_visible")
    }
    samples = [{name: array[i] for name, array in arrays.items()} for i in range(len(batch.meta))]
    ids = [f"{prefix}{meta['index']:08d}" for meta in batch.meta]
    work = (executor.map if executor else map)(_encode, samples, batch.meta, ids)
    return list(work)


def _encode(sample: dict[str, np.ndarray], meta: dict[str, Any], identifier: str) -> dict[str, Any]:
    depth, scale, offset = quantise_depth(sample["depth"])
    return {
        "id": identifier,
        "image": encode_photo(sample["image"]),
        "normal": encode_png(encode_normals(sample["normal"])),
        "mask": encode_png(sample["mask"].astype(np.uint8) * 255),
        "regions": encode_png(sample["regions"]),
        "landmarks": sample["landmarks"].ravel(),
        "meta": json.dumps({**meta, "depth_scale": scale, "depth_offset": offset}, separators=(",", ":")),
        "depth": encode_png(depth),
        "dense": sample["dense"].ravel(),
        "dense_visible": sample["dense_visible"],
    }


def encode_photo(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """Writes an image (H, W, 3) uint8 RGB as JPEG without colour subsampling."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    written, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not written:
        raise ValueError(f"the JPEG encoder refused {image.dtype} {image.shape}")
    return data.tobytes()


def quantise_depth(depth: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Depth in cm as 16-bit values: depth = value * scale + offset; value 0 = no surface.

    Args:
        depth: (H, W) float32, 0 for no surface.

    Returns:
        Values (H, W) uint16, scale and offset.
    """
    seen = depth > 0
    if not seen.any():
        return np.zeros(depth.shape, np.uint16), 1.0, 0.0
    low, high = float(depth[seen].min()), float(depth[seen].max())
    scale = max((high - low) / 65534, FINEST_DEPTH)
    offset = low - scale
    values = np.rint((depth - offset) / scale).clip(1, 65535)
    return np.where(seen, values, 0).astype(np.uint16), scale, offset
