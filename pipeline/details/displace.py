"""Displacement of a fitted face along its own normals, from the normals of the photo: one linear solve.

With d the displacement at the vertices of the subdivided face, every displaced edge shall be perpendicular to
the predicted normal m: m . (e + d_j n_j - d_i n_i) = 0, n the face's own normals. The rows approximate the
gradient of d, so their sum is the integral of |grad d - slope|^2; screening adds the integral of d^2 / L^2
and leaves shapes that are wider than some 2 pi L to the fitted face. Where the normals say nothing, screening
is strong and d fades to zero. The equations are symmetric and positive definite; they are solved by conjugate
gradients, coarse to fine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from pydantic import Field
from scipy import sparse

from pipeline.config import Section
from pipeline.details.grid import Grid, Level
from pipeline.fitting.observe import normals_of_quads
from pipeline.fitting.views import NormalMap, ViewState
from pipeline.geometry.visibility import seen

_EDGE = 1.2
"""Width in cm of the strip along the edge of what the normals cover in which the displacement fades."""


class DisplaceConfig(Section):
    """How the displacement is found. Lengths in cm."""

    screening: float = Field(default=1.0, gt=0, description="length L: wider shapes are the fitted face's")
    most: float = Field(default=0.3, gt=0, description="largest displacement")
    fading: float = Field(default=60.0, ge=0, description="extra screening where the normals say nothing")
    robust: float = Field(default=0.5, gt=0, description="difference of normals that counts half")
    confidence: float = Field(default=8.0, gt=0, description="confidence of a normal that counts half")
    iterations: tuple[int, ...] = Field(
        default=(300, 100, 60, 40), description="conjugate gradients by level"
    )


@dataclass(frozen=True, eq=False)
class Displacement:
    """Fine shape of one photo on the finest level of a grid.

    Attributes:
        smooth: (N, 3) float32: the fitted face, subdivided, in camera space.
        normals: (N, 3) float32: its unit normals.
        height: (N,) float32: displacement along them, cm.
        weight: (N,) float32 0..1: how much the normals of the photo count there.
    """

    smooth: np.ndarray
    normals: np.ndarray
    height: np.ndarray
    weight: np.ndarray

    @property
    def vertices(self) -> np.ndarray:
        """(N, 3) float32 displaced vertices, camera space."""
        return self.smooth + self.height[:, None] * self.normals


def displace(
    face: np.ndarray, view: ViewState, normals: NormalMap, grid: Grid, config: DisplaceConfig | None = None
) -> Displacement:
    """Finds the displacement of a fitted face.

    Args:
        face: (F, 3) vertices of the fitted face in camera space, cm.
        view: The camera, and the tilt of the normals.
        normals: The normals of the photo, with confidence.
        grid: The subdivided face.
        config: Settings.
    """
    config = config or DisplaceConfig()
    smooth = grid.refine(np.ascontiguousarray(face, np.float32))
    own = normals_of_quads(smooth, grid.levels[-1].quads).astype(np.float32)
    trust = _trust(smooth, own, view, grid)
    to_camera = view.normal_to_camera(normals).T.astype(np.float32)
    pixel = -smooth[:, 2].mean() / view.focal / normals.scale  # cm of the face per pixel of the map
    height = np.zeros(grid.levels[0].count, np.float32)
    trust *= _inwards(normals, view.project(smooth), pixel)
    weight = trust
    for number, level in enumerate(grid.levels):
        if number:
            height = grid.steps[number - 1].linear @ height
        part = slice(0, level.count)
        points, along = smooth[part], own[part]
        some = points[level.edges[:2000]]
        spacing = float(np.linalg.norm(some[:, 1] - some[:, 0], axis=1).mean())
        found, confidence = normals.smoothed(spacing / 2 / pixel).sample(view.project(points))
        found = found @ to_camera
        off = ((found - along) ** 2).sum(1) / config.robust**2
        weight = trust[part] * confidence / (confidence + config.confidence) / (1 + off)
        matrix, right = _equations(level, points, along, found, weight=weight, config=config)
        height = _conjugate_gradients(matrix, right, height, config.iterations[number])
        height = np.clip(height, -config.most, config.most)
    return Displacement(smooth, own, height, weight.astype(np.float32))


def _inwards(normals: NormalMap, photo: np.ndarray, pixel: float) -> np.ndarray:
    """(N,) 0..1: 0 where the answers of the map end, 1 from `_EDGE` inwards, so that there is no step.

    Args:
        normals: The map.
        photo: (N, 2) pixels of the photo.
        pixel: Centimetres of the face per pixel of the map.
    """
    # Specks without an answer are no edge: the normals beside them are filled in by the smoothing.
    there = cv2.morphologyEx(
        (normals.confidence > 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)
    )
    there = np.pad(there, 1)  # beyond the map there is no answer either
    distance = cv2.distanceTransform(there, cv2.DIST_L2, 5)[1:-1, 1:-1] * pixel / _EDGE
    share = np.clip(distance, 0, 1)
    return replace(normals, confidence=(share**2 * (3 - 2 * share)).astype(np.float32)).sample(photo)[1]


def _trust(smooth: np.ndarray, own: np.ndarray, view: ViewState, grid: Grid) -> np.ndarray:
    """(N,) 0..1: meant, seen by the camera and not at a grazing angle."""
    sight = -smooth / np.linalg.norm(smooth, axis=1, keepdims=True)
    facing = np.clip(((own * sight).sum(1) - 0.1) / 0.3, 0, 1)
    coarse = grid.levels[1]
    points = smooth[: coarse.count]
    triangles = np.concatenate([coarse.quads[:, [0, 1, 2]], coarse.quads[:, [0, 2, 3]]])
    pixels = view.project(points)
    visible = seen(
        pixels, -points[:, 2], triangles, queries=pixels, query_depth=-points[:, 2], size=192
    ).astype(np.float32)
    for step in grid.steps[1:]:
        visible = step.linear @ visible
    return (facing * visible**2 * grid.meant**2).astype(np.float32)


def _equations(
    level: Level,
    points: np.ndarray,
    own: np.ndarray,
    found: np.ndarray,
    *,
    weight: np.ndarray,
    config: DisplaceConfig,
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Normal equations of the displacement of one level: matrix (N, N) and right side (N,)."""
    corners = points[level.quads]
    facing = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    area = np.sqrt((facing * facing).sum(1)) / 2
    # A quad's four sides, each seen from both quads, and its two diagonals add up to area |grad d|^2.
    sides = np.bincount(level.edge_of_side.ravel(), np.repeat(area / 4, 4))
    trust = np.concatenate([sides, area / 2, area / 2]).astype(np.float32)
    trust *= np.minimum(weight[level.edges[:, 0]], weight[level.edges[:, 1]])
    used = np.nonzero(trust)[0]
    i, j = level.edges[used].T
    trust = trust[used]
    edge = points[j] - points[i]
    middle = found[i] + found[j]
    scale = 1 / np.sqrt((edge * edge).sum(1) * np.maximum((middle * middle).sum(1), 1e-6))
    at_i, at_j = (middle * own[i]).sum(1) * scale, (middle * own[j]).sum(1) * scale
    slope = (middle * edge).sum(1) * scale

    count = level.count
    around = np.bincount(level.quads.ravel(), np.repeat(area / 4, 4), count)
    faded = np.clip(1 - 2 * weight, 0, 1)
    diagonal = around / config.screening**2 * (1 + config.fading * faded**2)
    diagonal += np.bincount(i, trust * at_i**2, count) + np.bincount(j, trust * at_j**2, count)
    right = np.bincount(i, trust * at_i * slope, count) - np.bincount(j, trust * at_j * slope, count)
    data = np.zeros(level.pattern.nnz, np.float32)
    data[level.own] = np.maximum(diagonal, 1e-12)
    data[level.forth[used]] = data[level.back[used]] = -trust * at_i * at_j
    pattern = level.pattern
    matrix = sparse.csr_matrix((data, pattern.indices, pattern.indptr), shape=pattern.shape)
    return matrix, right.astype(np.float32)


def _conjugate_gradients(
    matrix: sparse.csr_matrix, right: np.ndarray, start: np.ndarray, iterations: int, tolerance: float = 1e-4
) -> np.ndarray:
    """Solves matrix x = right, preconditioned by the diagonal."""
    inverse = 1 / matrix.diagonal()
    x = start
    residual = right - matrix @ x
    goal = tolerance**2 * float(right @ (inverse * right))
    z = inverse * residual
    direction = z
    product = float(residual @ z)
    for _ in range(iterations):
        if product <= goal or product == 0:
            break
        applied = matrix @ direction
        step = np.float32(product / float(direction @ applied))
        x = x + step * direction
        residual = residual - step * applied
        z = inverse * residual
        before, product = product, float(residual @ z)
        direction = z + np.float32(product / before) * direction
    return x
