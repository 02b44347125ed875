"""Displacement of a fitted face along its own normals, from the normals of the photo: one linear solve.

With d the displacement at the vertices of the subdivided face, every displaced edge shall be perpendicular to
the predicted normal m: m . (e + d_j n_j - d_i n_i) = 0, n the face's own normals. The rows approximate the
gradient of d, so their sum is the integral of |grad d - slope|^2; screening adds the integral of d^2 / L^2
and leaves shapes that are wider than some 2 pi L to the fitted face. Where the normals say nothing, those of
the face take their place with a small weight: d goes over smoothly into what is not displaced, and screening
lets it fade to zero. The equations are symmetric and positive definite; they are solved by conjugate
gradients, coarse to fine.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from pydantic import Field
from scipy import sparse

from pipeline.config import Section
from pipeline.details.grid import Grid, Level
from pipeline.fitting.observe import normals_of_quads
from pipeline.fitting.views import NormalMap, ViewState
from pipeline.geometry.mesh import dots, face_normals, squares
from pipeline.geometry.visibility import DepthBuffer

_EDGE = 1.2
"""Width in cm of the strip along the edge of what the normals cover in which the displacement fades."""


_OWN = 0.1
"""Weight of the face's own normals where the photo's have none: without them lids and nostrils get steps."""


class DisplaceConfig(Section):
    """How the displacement is found. Lengths in cm."""

    screening: float = Field(default=1.0, gt=0, description="length L: wider shapes are the fitted face's")
    most: float = Field(default=0.3, gt=0, description="largest displacement")
    fading: float = Field(default=3.0, ge=0, description="extra screening where the normals say nothing")
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
        normals: (N, 3) float32: its unit normals where it is displaced, else 0.
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
    finest = grid.levels[-1]
    points = smooth.take(finest.vertices, 0)
    own = normals_of_quads(points, finest.quads).astype(np.float32)
    photo = view.project(points)
    to_camera = view.normal_to_camera(normals).T.astype(np.float32)
    pixel = -points[:, 2].mean() / view.focal / normals.scale  # cm of the face per pixel of the map
    trust = _trust(smooth, points, own, view, grid) * _inwards(normals, photo, pixel)
    height = np.zeros(grid.levels[0].count, np.float32)
    weight = trust
    for number, level in enumerate(grid.levels):
        if number:
            height = grid.finer[number - 1] @ height
        part = slice(0, level.count)
        some = points[level.edges[:2000]]
        spacing = float(np.linalg.norm(some[:, 1] - some[:, 0], axis=1).mean())
        found, confidence = normals.smoothed(spacing / 2 / pixel).sample(photo[part])
        found = found @ to_camera
        off = squares(found - own[part]) / config.robust**2
        weight = trust[part] * confidence / (confidence + config.confidence) / (1 + off)
        total = weight + _OWN * (1 - weight)
        share = (weight / total)[:, None]
        found = own[part] + share * (found - own[part])
        matrix, right = _equations(level, points[part], own[part], found, weight=total, config=config)
        height = _conjugate_gradients(matrix, right, height, config.iterations[number])
        height = np.clip(height, -config.most, config.most)
    whole = [np.zeros((len(smooth), *values.shape[1:]), np.float32) for values in (own, height, weight)]
    for values, known in zip(whole, (own, height, weight), strict=True):
        values[finest.vertices] = known
    return Displacement(smooth, *whole)


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


def _trust(
    smooth: np.ndarray, points: np.ndarray, own: np.ndarray, view: ViewState, grid: Grid
) -> np.ndarray:
    """(N,) 0..1: meant, seen by the camera and not at a grazing angle.

    Args:
        smooth: The whole subdivided face.
        points: (N, 3) what is displaced of it.
        own: (N, 3) its normals.
        view: The camera.
        grid: The grid.
    """
    facing = np.clip((-dots(own, points) / np.sqrt(squares(points)) - 0.1) / 0.3, 0, 1)
    quads = grid.steps[0].quads
    coarse = smooth[: quads.max() + 1]
    among = grid.levels[1].vertices
    pixels, depth = view.project(coarse), -coarse[:, 2]
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    buffer = DepthBuffer.of(pixels, depth, triangles, size=192)
    visible = buffer.shows(pixels[among], depth[among]).astype(np.float32)
    for finer in grid.finer[1:]:
        visible = finer @ visible
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
    area = np.sqrt(squares(face_normals(points, level.quads))) / 2
    # A quad's four sides, each seen from both quads, and its two diagonals add up to area |grad d|^2.
    sides = np.bincount(level.edge_of_side.ravel(), np.repeat(area / 4, 4))
    trust = np.concatenate([sides, area / 2, area / 2]).astype(np.float32)
    i, j = np.ascontiguousarray(level.edges.T)
    trust *= np.minimum(weight[i], weight[j])
    edge = points.take(j, 0) - points.take(i, 0)
    middle = found.take(i, 0) + found.take(j, 0)
    scale = 1 / np.sqrt(squares(edge) * np.maximum(squares(middle), 1e-6))
    at_i, at_j = dots(middle, own.take(i, 0)) * scale, dots(middle, own.take(j, 0)) * scale
    slope = dots(middle, edge) * scale

    count = level.count
    around = np.bincount(level.quads.ravel(), np.repeat(area / 4, 4), count)
    faded = np.clip(1 - 2 * weight, 0, 1)
    diagonal = around / config.screening**2 * (1 + config.fading * faded**2)
    diagonal += np.bincount(i, trust * at_i**2, count) + np.bincount(j, trust * at_j**2, count)
    right = np.bincount(i, trust * at_i * slope, count) - np.bincount(j, trust * at_j * slope, count)
    data = np.zeros(level.pattern.nnz, np.float32)
    data[level.own] = np.maximum(diagonal, 1e-12)
    data[level.forth] = data[level.back] = -trust * at_i * at_j
    pattern = level.pattern
    matrix = sparse.csr_matrix((data, pattern.indices, pattern.indptr), shape=pattern.shape)
    return matrix, right.astype(np.float32)


def _conjugate_gradients(
    matrix: sparse.csr_matrix, right: np.ndarray, start: np.ndarray, iterations: int, tolerance: float = 1e-4
) -> np.ndarray:
    """Solves matrix x = right, preconditioned by the diagonal."""
    inverse = 1 / matrix.diagonal()
    x = start.copy()
    residual = right - matrix @ x
    goal = tolerance**2 * float(right @ (inverse * right))
    z = inverse * residual
    direction = z.copy()
    product = float(residual @ z)
    for _ in range(iterations):
        if product <= goal or product == 0:
            break
        applied = matrix @ direction
        step = np.float32(product / float(direction @ applied))
        x += step * direction
        residual -= step * applied
        np.multiply(inverse, residual, out=z)
        before, product = product, float(residual @ z)
        direction *= np.float32(product / before)
        direction += z
    return x
