"""Errors of a face mesh against a scan: millimetres after alignment, and degrees.

    similarity   the mesh is aligned by ICP with rotation, translation and scale
    own          likewise, but with its own centimetres
    median, mean, p90   of the distances from points of the mesh to the scan, mm
    degrees      mean angle between the normals of the mesh and of the scan beside it, after alignment; its
                 median leaves out lids and nostrils, where what is beside a point may be another fold

The alignment leaves out the farthest tenth of the points, the figures leave out none. Millimetres after
similarity alignment flatter a mean-like face: read them beside those of the mean face.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree


@dataclass(frozen=True, eq=False)
class Scan:
    """A true surface as a dense cloud.

    Attributes:
        points: (N, 3) cm.
        normals: (N, 3) unit, outwards.
        tree: Finds the nearest of the points.
    """

    points: np.ndarray
    normals: np.ndarray
    tree: cKDTree


@dataclass(frozen=True, eq=False)
class Alignment:
    """Maps points to scale * rotation p + translation."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Aligned points (N, 3)."""
        return self.scale * points @ self.rotation.T + self.translation


def scan_of(vertices: np.ndarray, triangles: np.ndarray, count: int = 300_000, seed: int = 0) -> Scan:
    """Samples a mesh evenly by area.

    Args:
        vertices: (V, 3) cm.
        triangles: (T, 3), counter-clockwise seen from outside.
        count: Number of samples.
        seed: Of the samples.
    """
    rng = np.random.default_rng(seed)
    a, b, c = (vertices[triangles[:, k]].astype(float) for k in range(3))
    facing = np.cross(b - a, c - a)
    area = np.linalg.norm(facing, axis=1)
    corner = np.stack(
        [np.bincount(triangles.ravel(), np.repeat(facing[:, k], 3), len(vertices)) for k in range(3)], 1
    )
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    points = a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen]
    normals = sum(
        weight * corner[triangles[chosen, k]] / np.linalg.norm(corner[triangles[chosen, k]], axis=1)[:, None]
        for k, weight in enumerate((1 - u - v, u, v))
    )
    normals = np.asarray(normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return Scan(points, normals, cKDTree(points))


def best_alignment(source: np.ndarray, target: np.ndarray, scaled: bool = True) -> Alignment:
    """The similarity, or rigid motion, that maps points (N, 3) on others with least squares.

    S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    middle, goal = source.mean(0), target.mean(0)
    a, b = source - middle, target - goal
    u, s, vt = np.linalg.svd(b.T @ a)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = float((s * signs).sum() / (a**2).sum()) if scaled else 1.0
    return Alignment(scale, rotation, goal - scale * rotation @ middle)


def align(
    points: np.ndarray,
    scan: Scan,
    start: Alignment,
    scaled: bool = True,
    *,
    rounds: int = 60,
    trim: float = 0.1,
) -> Alignment:
    """Aligns points (N, 3) to a scan by iterated closest points, point to plane at the end of each round.

    Args:
        points: (N, 3) points of a mesh.
        scan: The true surface.
        start: Where to begin; within some 20 degrees and 2 cm of the answer.
        scaled: Estimate the scale, too; else that of `start` stays.
        rounds: Most rounds.
        trim: Share of the farthest points that does not count.
    """
    current = start
    for _ in range(rounds):
        moved = current(points)
        distance, nearest = scan.tree.query(moved)
        keep = distance <= np.quantile(distance, 1 - trim)
        # Points slide along the surface: move them by their distance to the plane alone.
        normals = scan.normals[nearest[keep]]
        off = ((moved[keep] - scan.points[nearest[keep]]) * normals).sum(1)
        step = _plane_step(moved[keep], normals, off, scaled)
        current = Alignment(
            step.scale * current.scale,
            step.rotation @ current.rotation,
            step.scale * step.rotation @ current.translation + step.translation,
        )
        if np.abs(step(moved) - moved).max() < 1e-4:
            break
    return current


def _plane_step(points: np.ndarray, normals: np.ndarray, off: np.ndarray, scaled: bool) -> Alignment:
    """The small similarity that brings points onto planes, at a distance `off` along the normals."""
    middle = points.mean(0)
    arm = points - middle
    rows = np.concatenate([np.cross(arm, normals), normals, (arm * normals).sum(1, keepdims=True)], 1)
    rows = rows if scaled else rows[:, :6]
    x = np.linalg.lstsq(rows.T @ rows + 1e-9 * np.eye(rows.shape[1]), -rows.T @ off, rcond=None)[0]
    skew = np.array([[0, -x[2], x[1]], [x[2], 0, -x[0]], [-x[1], x[0], 0]])
    u, _, vt = np.linalg.svd(np.eye(3) + skew)
    rotation, scale = u @ vt, 1 + float(x[6]) if scaled else 1.0
    return Alignment(scale, rotation, middle + x[3:6] - scale * rotation @ middle)


def score(points: np.ndarray, normals: np.ndarray, scan: Scan, start: Alignment) -> dict[str, float]:
    """Errors of a mesh.

    Args:
        points: (N, 3) points of the mesh, spread over the face, cm.
        normals: (N, 3) its unit normals there.
        scan: The true surface, cm.
        start: Rough alignment.

    Returns:
        `similarity_median`, `_mean`, `_p90`, `own_median`, `_mean`, `_p90` in mm, `scale` of the
        similarity, `degrees` and `degrees_median`.
    """
    result: dict[str, float] = {}
    for name, scaled in (("similarity", True), ("own", False)):
        begin = start if scaled else Alignment(1.0, start.rotation, _shift(points, start))
        found = align(points, scan, begin, scaled)
        distance, nearest = scan.tree.query(found(points))
        off = distance * 10
        result |= {
            f"{name}_median": float(np.median(off)),
            f"{name}_mean": float(off.mean()),
            f"{name}_p90": float(np.quantile(off, 0.9)),
        }
        if scaled:
            cosine = (normals @ found.rotation.T * scan.normals[nearest]).sum(1)
            angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
            result |= {
                "scale": found.scale,
                "degrees": float(angle.mean()),
                "degrees_median": float(np.median(angle)),
            }
    return result


def _shift(points: np.ndarray, start: Alignment) -> np.ndarray:
    """Translation that keeps the points' middle where `start` puts it, at scale 1."""
    middle = points.mean(0)
    return start(middle[None])[0] - start.rotation @ middle
