"""Which points of a mesh a camera sees: a depth buffer of the mesh about them."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.geometry.raster import nearness_map


def seen(
    pixels: np.ndarray,
    depth: np.ndarray,
    triangles: np.ndarray,
    *,
    queries: np.ndarray,
    query_depth: np.ndarray,
    size: int = 128,
    tolerance: float = 0.3,
) -> np.ndarray:
    """Tells which points are not hidden by a mesh.

    Args:
        pixels: (N, 2) projected vertices.
        depth: (N,) their depths in cm; vertices at or behind the camera hide nothing.
        triangles: (T, 3) vertex ids, counter-clockwise seen from outside.
        queries: (M, 2) projected points.
        query_depth: (M,) their depths in cm.
        size: Side of the depth buffer, which is laid about the mesh.
        tolerance: A point is seen when it lies at most this far, in cm, behind the farthest of what the
            buffer holds about its pixel.

    Returns:
        (M,) bool.
    """
    low, high = pixels.min(0), pixels.max(0)
    scale = (size - 3) / max(float((high - low).max()), 1e-6)
    with torch.inference_mode():
        nearness = np.where(depth > 1.0, 1.0 / np.maximum(depth, 1.0), 0.0)
        points = np.concatenate([(pixels - low) * scale + 1, nearness[:, None]], 1).astype(np.float32)
        buffer = nearness_map(torch.from_numpy(points)[None], torch.from_numpy(triangles), size, size)
        farthest = -torch.nn.functional.max_pool2d(-buffer[:, None], 3, 1, 1)[0, 0].numpy()
    column, row = np.rint((queries - low) * scale + 1).astype(np.int64).clip(0, size - 1).T
    return (query_depth > 1.0) & (1.0 / np.maximum(query_depth - tolerance, 0.5) >= farthest[row, column])
