"""The subdivided face: positions, edges and the pattern of its equations, made once for a topology."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from pipeline.fitting.head import FitHead
from pipeline.geometry.head_model import NARROW_FACE_VERTICES
from pipeline.geometry.subdivide import Subdivision, subdivide, unique_edges

_BORDER = 1.5
"""Width in cm of the strip along the border of the narrow face in which the displacement fades."""


@dataclass(frozen=True, eq=False)
class Level:
    """What is displaced of one level of subdivision: N vertices, Q quads, E edges, diagonals included.

    Attributes:
        vertices: (N,) int64, their ids among all of the subdivided mesh, ascending. Here they count from 0.
        quads: (Q, 4) int64.
        edges: (E, 2) int64; the last 2 Q are the diagonals, first all of corners 0-2, then 1-3.
        edge_of_side: (Q, 4) int64, the edge of each side.
        pattern: (N, N) CSR with an entry for every edge, both ways, and the diagonal.
        forth: (E,) int64, place of the entry (first, second) of each edge in the pattern's data.
        back: (E,) int64, place of (second, first).
        own: (N,) int64, place of the diagonal.
    """

    vertices: np.ndarray
    quads: np.ndarray
    edges: np.ndarray
    edge_of_side: np.ndarray
    pattern: sparse.csr_matrix
    forth: np.ndarray
    back: np.ndarray
    own: np.ndarray

    @property
    def count(self) -> int:
        """Number of vertices."""
        return len(self.vertices)


@dataclass(frozen=True, eq=False)
class Grid:
    """The face at several levels of subdivision; coarse vertices are the first of the finer ones.

    Attributes:
        steps: The subdivisions of the whole face.
        levels: What is displaced of the face, from its own quads to the finest.
        finer: For each level but the last (N', N) float32 CSR: averages, from its vertices to the next one's.
        meant: (N,) float32: 1 where the finest level may be displaced, 0 in eyes, mouth, nostrils and
            beyond the narrow face, in between at the border.
    """

    steps: tuple[Subdivision, ...]
    levels: tuple[Level, ...]
    finer: tuple[sparse.csr_matrix, ...]
    meant: np.ndarray

    @property
    def quads(self) -> np.ndarray:
        """(Q, 4) int64: all quads of the finest subdivision."""
        return self.steps[-1].quads

    def refine(self, values: np.ndarray) -> np.ndarray:
        """Positions (F, 3) of the face to positions (N, 3) of the finest level."""
        for step in self.steps:
            values = step.smooth @ values
        return values


@lru_cache(maxsize=3)
def face_grid(head: FitHead, number: int) -> Grid:
    """The grid of the face, `number` times subdivided (2: 148,402 vertices some .6 mm apart; seconds)."""
    beyond = cKDTree(head.neutral[NARROW_FACE_VERTICES:])
    inwards = np.clip(beyond.query(head.neutral)[0] / _BORDER, 0, 1)
    return make_grid(head.quads, head.skin * inwards, number)


def make_grid(quads: np.ndarray, meant: np.ndarray, number: int) -> Grid:
    """The grid of a mesh.

    Args:
        quads: (Q, 4) int64 vertex ids.
        meant: (F,) 0..1: how far a vertex may be displaced.
        number: Times to subdivide, at least 1.
    """
    share = meant.astype(np.float32)
    whole, chosen = quads, (meant[quads] > 0).any(1)
    levels, steps, finer = [_level(quads[chosen])], [], []
    for _ in range(number):
        steps.append(subdivide(whole, len(share)))
        whole, chosen = steps[-1].quads, np.repeat(chosen, 4)
        share = steps[-1].linear @ share
        levels.append(_level(whole[chosen]))
        finer.append(steps[-1].linear[levels[-1].vertices][:, levels[-2].vertices])
    return Grid(tuple(steps), tuple(levels), tuple(finer), share[levels[-1].vertices])


def _level(quads: np.ndarray) -> Level:
    vertices, corners = np.unique(quads, return_inverse=True)
    quads, count = corners.reshape(-1, 4), len(vertices)
    sides, edge_of_side, _ = unique_edges(quads)
    edges = np.concatenate([sides, quads[:, [0, 2]], quads[:, [1, 3]]])
    every = np.arange(count)
    rows = np.concatenate([edges[:, 0], edges[:, 1], every])
    columns = np.concatenate([edges[:, 1], edges[:, 0], every])
    # The data of a matrix that numbers its own entries tell where each of them went.
    order = sparse.csr_matrix((np.arange(len(rows)), (rows, columns)), shape=(count, count))
    place = np.empty(len(rows), np.int64)
    place[order.data] = np.arange(len(rows))
    order.data = np.ones(len(rows), np.float32)
    forth, back, own = np.split(place, [len(edges), 2 * len(edges)])
    return Level(vertices, quads, edges, edge_of_side, order, forth, back, own)
