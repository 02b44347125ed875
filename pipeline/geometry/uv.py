"""Texture space: which point of the surface each texel shows, and pictures made from and read at them.

Pictures have their first row at v = 1; the middle of texel (column, row) is u = (column + .5) / size,
v = 1 - (row + .5) / size. What a map shows of a part depends on the topology alone, so it is built once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch

from pipeline.geometry.mesh import Topology
from pipeline.geometry.raster import barycentrics, rasterize


@dataclass(frozen=True, eq=False)
class UvMap:
    """The P texels of a square picture whose middle is covered by a triangle, or that touch such a one.

    The rim goes on with the triangle beside it, so that reading between texels is right up to a seam.

    Attributes:
        size: Side of the picture.
        texel: (P,) int64, flat index into the picture, ascending.
        corners: (P, 3) int32 vertex ids of the triangle's corners.
        corners_uv: (P, 3) int32, indices of its texture coordinates.
        weights: (P, 3) float32 barycentric weights with sum 1; on the rim some are negative.
    """

    size: int
    texel: np.ndarray
    corners: np.ndarray
    corners_uv: np.ndarray
    weights: np.ndarray

    def sample(self, values: np.ndarray) -> np.ndarray:
        """Values (V, C) of vertices at the texels: (P, C) float32."""
        return _interpolated(values, self.corners, self.weights)

    def sample_uv(self, values: np.ndarray) -> np.ndarray:
        """Values (T, C) of texture coordinates at the texels: (P, C) float32."""
        return _interpolated(values, self.corners_uv, self.weights)

    def carried(self, values: np.ndarray, other: UvMap) -> np.ndarray:
        """Values (P, C) of these texels at those of another map of the same size: (P2, C), 0 elsewhere."""
        place, missing = _places(self, other)
        found = values.take(place, 0)
        found[missing] = 0
        return found

    def image(self, values: np.ndarray, empty: float = 0) -> np.ndarray:
        """Spreads values (P, ...) of texels over a picture (size, size, ...) that is `empty` elsewhere."""
        shape = (self.size * self.size, *values.shape[1:])
        picture = np.full(shape, empty, values.dtype) if empty else np.zeros(shape, values.dtype)
        picture[self.texel] = values
        return picture.reshape(self.size, self.size, *values.shape[1:])


@lru_cache(maxsize=6)
def uv_map(topology: Topology, size: int) -> UvMap:
    """Rasterises the texture coordinates of a topology, mostly one part (cached in the process).

    Where triangles lie upon each other in the texture, the later one counts.
    """
    uv = topology.uv * size - 0.5
    points = np.stack([uv[:, 0], size - 1 - uv[:, 1], np.ones(len(uv), np.float32)], 1)
    points_texture = torch.from_numpy(points)[None]
    triangles_uv = torch.from_numpy(topology.triangles_uv.astype(np.int64))
    fragments = rasterize(points_texture, triangles_uv, size, size, cull=False)
    _, weights = barycentrics(fragments, points_texture, triangles_uv, perspective=False)
    rim, beside = _rim(fragments.pixel.numpy(), size)
    texel = np.concatenate([fragments.pixel.numpy(), rim])
    triangle = np.concatenate([fragments.triangle.numpy(), fragments.triangle.numpy()[beside]])
    rim_corners = points[topology.triangles_uv[triangle[len(texel) - len(rim) :]], :2]
    both = np.concatenate([weights.numpy(), _extrapolation(rim_corners, rim % size, rim // size)])
    order = np.argsort(texel, kind="stable")
    triangle = triangle[order]
    return UvMap(
        size, texel[order], topology.triangles[triangle], topology.triangles_uv[triangle], both[order]
    )


@lru_cache(maxsize=4)
def _places(known: UvMap, other: UvMap) -> tuple[np.ndarray, np.ndarray]:
    """For the texels of `other` (P2,) their places among those of `known`, and which have none."""
    place = np.searchsorted(known.texel, other.texel).clip(max=len(known.texel) - 1)
    return place, np.nonzero(known.texel[place] != other.texel)[0]


def _rim(texel: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Texels beside the covered ones (P,): flat indices (R,), and the place of a neighbour each (R,)."""
    place = np.full((size + 2, size + 2), -1, np.int32)
    place[texel // size + 1, texel % size + 1] = np.arange(len(texel))
    covered = (place[1:-1, 1:-1] >= 0).astype(np.uint8)
    rows, columns = np.nonzero(cv2.dilate(covered, np.ones((3, 3), np.uint8)) > covered)
    beside = np.full(len(rows), -1)
    for down, right in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 0), (1, 2), (0, 1), (2, 1)):
        found = place[rows + down, columns + right]
        beside = np.where(found >= 0, found, beside)
    return rows * size + columns, beside


def _extrapolation(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Barycentric weights of points just outside triangles (R, 3, 2): (R, 3) float32, bounded for slivers."""
    origin, first, second = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    point = np.stack([x, y], 1) - origin
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    area = np.where(np.abs(area) < 1e-9, 1e-9, area)
    second_weight = (point[:, 0] * second[:, 1] - point[:, 1] * second[:, 0]) / area
    third_weight = (first[:, 0] * point[:, 1] - first[:, 1] * point[:, 0]) / area
    weights = np.stack([1 - second_weight - third_weight, second_weight, third_weight], 1).clip(-2, 2)
    total = weights.sum(1, keepdims=True)
    # Where the bound broke the sum, the middle of the triangle is as good.
    return np.where(np.abs(total - 1) < 1e-3, weights, 1 / 3).astype(np.float32)


def read_picture(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Reads a picture (H, W[, C]) at texture coordinates (N, 2), bilinearly: (N[, C]) float32."""
    height, width = picture.shape[:2]
    return read_pixels(picture, uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5)


def read_pixels(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Reads a picture (H, W[, C]) at pixels x, y (N,), bilinearly, its border repeated: (N[, C]) float32."""
    count, columns = len(x), 1024  # remap refuses lists, pictures of more than 32,767 rows and some types
    padded = np.zeros((2, -(-count // columns) * columns), np.float32)
    padded[:, :count] = x, y
    grid = padded.reshape(2, -1, columns)
    if picture.dtype not in (np.uint8, np.float32):
        picture = picture.astype(np.float32)
    read = cv2.remap(picture, grid[0], grid[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return read.reshape(-1, *picture.shape[2:])[:count].astype(np.float32)


def weighted(picture: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A picture (H, W, C) float32 times weights (H, W) float32, several times faster than by broadcasting."""
    return cv2.multiply(picture, cv2.merge([weight] * picture.shape[2])).reshape(picture.shape)


def push_pull(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fills a picture smoothly where its weight is below 1.

    Each level of a pyramid takes what its pixels know of themselves and the rest from the next coarser one
    (Gortler et al., The Lumigraph, 1996).

    Args:
        values: (H, W, C) float32.
        weight: (H, W) float32, 0..1: 0 where nothing is known.

    Returns:
        (H, W, C) float32: `values` where the weight is 1; zero if nothing is known anywhere.
    """
    known = weighted(values, weight)
    height, width = weight.shape
    if max(height, width) == 1:
        return known / max(float(weight[0, 0]), 1e-6)
    half = (-(-width // 2), -(-height // 2))
    coarse_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(known, half, interpolation=cv2.INTER_AREA).reshape(*half[::-1], -1)
    coarse = weighted(coarse, 1 / np.maximum(coarse_weight, 1e-6))
    # A pixel that knows a quarter of its four is as good as known: colours do not bleed in from afar.
    filled = push_pull(coarse, np.minimum(4 * coarse_weight, 1))
    up = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR).reshape(values.shape)
    known += weighted(up, 1 - weight)
    return known


def _interpolated(values: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    table = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return torch.nn.functional.embedding_bag(
        torch.from_numpy(corners), table, per_sample_weights=torch.from_numpy(weights), mode="sum"
    ).numpy()
