"""Catmull-Clark subdivision of quad meshes as sparse matrices, made once for a topology.

E. Catmull and J. Clark, "Recursively generated B-spline surfaces on arbitrary topological meshes", 1978;
borders follow cubic B-splines. Vertices of a finer level are those of the coarser one, then one for every
edge, then one for every quad.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True, eq=False)
class Subdivision:
    """One step of subdivision.

    Attributes:
        quads: (4 Q, 4) int64 vertex ids of the finer mesh; quad q becomes 4 q ... 4 q + 3.
        smooth: (N', N) float32 CSR: coarse positions to the limit-smooth finer ones.
        linear: (N', N) float32 CSR: coarse values to finer ones by averages (for UV and masks).
    """

    quads: np.ndarray
    smooth: sparse.csr_matrix
    linear: sparse.csr_matrix


def subdivide(quads: np.ndarray, count: int) -> Subdivision:
    """Subdivides once.

    Args:
        quads: (Q, 4) int vertex ids, all four different; an edge belongs to one or two quads.
        count: Number of vertices N of the mesh. Vertices of no quad stay where they are.

    Raises:
        ValueError: An edge belongs to more than two quads.
    """
    quads = np.asarray(quads, np.int64)
    edges, edge_of_side, sides = unique_edges(quads)
    if len(sides) and sides.max() > 2:
        raise ValueError("an edge belongs to more than two quads")
    n, e, q = count, len(edges), len(quads)
    border = sides == 1

    face_points = _matrix(np.repeat(np.arange(q), 4), quads.ravel(), np.full(4 * q, 0.25), (q, n))
    midpoints = _matrix(np.repeat(np.arange(e), 2), edges.ravel(), np.full(2 * e, 0.5), (e, n))
    quads_of_edge = _matrix(edge_of_side.ravel(), np.repeat(np.arange(q), 4), np.full(4 * q, 0.5), (e, q))
    inner = sparse.diags_array((~border).astype(float))
    edge_points = inner @ (0.5 * midpoints + 0.5 * quads_of_edge @ face_points) + (
        sparse.diags_array(border.astype(float)) @ midpoints
    )

    at_edge = _matrix(edges.ravel(), np.repeat(np.arange(e), 2), np.ones(2 * e), (n, e))
    at_quad = _matrix(quads.ravel(), np.repeat(np.arange(q), 4), np.ones(4 * q), (n, q))
    valence = np.asarray(at_edge.sum(1)).ravel()
    quad_count = np.asarray(at_quad.sum(1)).ravel()
    border_edges = np.asarray(at_edge @ border.astype(float)).ravel()
    rim = border_edges > 0
    corner = rim & ((quad_count == 1) | (border_edges != 2))
    loose = valence == 0
    k = np.maximum(valence, 1)
    regular = (~rim & ~loose).astype(float)
    # (F + 2 M + (k - 3) P) / k with F the mean of the face points and M that of the midpoints.
    interior = sparse.diags_array(regular / k**2) @ (at_quad @ face_points + 2 * at_edge @ midpoints)
    interior = interior + sparse.diags_array(regular * (k - 3) / k)
    soft = (rim & ~corner).astype(float)
    along = at_edge @ sparse.diags_array(border.astype(float)) @ midpoints
    rims = sparse.diags_array(soft / 4) @ along + sparse.diags_array(soft / 2)
    fixed = sparse.diags_array((corner | loose).astype(float))

    smooth = sparse.vstack([interior + rims + fixed, edge_points, face_points])
    linear = sparse.vstack([sparse.identity(n), midpoints, face_points])
    return Subdivision(_finer_quads(quads, edge_of_side, n, e), _csr(smooth), _csr(linear))


def unique_edges(quads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges of quads (Q, 4).

    Returns:
        Edges (E, 2) with the lower vertex first; the edge of each side (Q, 4), side s running from corner s
        to the next; how many quads each edge belongs to (E,).
    """
    sides = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], -1).reshape(-1, 2), axis=1)
    count = int(quads.max(initial=0)) + 1
    # As one number each: rows are sorted twenty times more slowly.
    keys, inverse, counts = np.unique(sides @ [count, 1], return_inverse=True, return_counts=True)
    return np.stack(np.divmod(keys, count), 1), inverse.reshape(-1, 4), counts


def _finer_quads(quads: np.ndarray, edge_of_side: np.ndarray, n: int, e: int) -> np.ndarray:
    after, centre = n + edge_of_side, n + e + np.arange(len(quads))[:, None]
    before = np.roll(after, 1, axis=1)
    return np.stack([quads, after, np.broadcast_to(centre, quads.shape), before], -1).reshape(-1, 4)


def _matrix(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_matrix:
    return sparse.csr_matrix((values, (rows, columns)), shape=shape)


def _csr(matrix: sparse.spmatrix) -> sparse.csr_matrix:
    result = sparse.csr_matrix(matrix, dtype=np.float32)
    result.eliminate_zeros()
    result.sort_indices()
    return result
