"""The ICT head as the fit needs it: NumPy arrays of the face alone, laid out for gathers and products."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.geometry.head_model import FACE_VERTICES, FaceModel
from pipeline.geometry.head_regions import dense_vertices, hollows

IDENTITY = 100
"""Number of identity coefficients."""

EXPRESSION = 53
"""Number of expression weights."""

SHAPE = IDENTITY + EXPRESSION

PIVOT = np.array([0.0, -1.5, 8.0])
"""Point of the head, in head space, that poses turn about: inside, below the nose, cm."""

_JAW = range(17)
"""Landmarks of the jaw line."""

_JAW_BAND = 2.2
"""Half the width, in cm, of the band along the jaw line in which its contour is looked for."""


@dataclass(frozen=True, eq=False)
class FitHead:
    """The face of the head model: vertices 0..F-1 of the model, with their numbers.

    Attributes:
        neutral: (F, 3) float32, head space, cm.
        basis: (F, 3, 153) float32: change of a vertex with identity coefficients, then expression weights.
        expression_names: The 53 names of the expressions.
        quads: (Q, 4) int64, all of the face.
        triangles: (2 Q, 3) int64, the same surface.
        skin: (F,) bool: open skin of the narrow face.
        landmarks: (68,) int64 vertex ids.
        dense: (500,) int64 vertex ids of the dense points.
        jaw: (J,) int64 vertex ids about the jaw line, among which its contour is found.
        patches: (P, 4) int64: quads of open skin, whose normals count.
        mix: (P, 2, 2) float32: combinations of the two diagonals of each patch that are orthonormal
            tangents of the neutral head.
        tangents: (P, 3, 2, 153) float32: change of these tangents with the shape.
    """

    neutral: np.ndarray
    basis: np.ndarray
    expression_names: tuple[str, ...]
    quads: np.ndarray
    triangles: np.ndarray
    skin: np.ndarray
    landmarks: np.ndarray
    dense: np.ndarray
    jaw: np.ndarray
    patches: np.ndarray
    mix: np.ndarray
    tangents: np.ndarray

    def vertices(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Vertices (F, 3) float32 in head space, cm, of a head with neutral eyes; read-only."""
        return _vertices(self, np.concatenate([identity, expression]).astype(np.float32).tobytes())

    def patch_tangents(self, vertices: np.ndarray, patches: np.ndarray) -> np.ndarray:
        """Two tangents (N, 3, 2) of patches (N,) of a face (F, 3), of unit length on the neutral head."""
        quads = self.patches[patches]
        return _diagonals(vertices, quads) @ self.mix[patches]


@lru_cache(maxsize=64)
def _vertices(head: FitHead, shape: bytes) -> np.ndarray:
    """The vertices of a shape, which several terms of a fit ask for one after the other."""
    vertices = head.neutral + head.basis @ np.frombuffer(shape, np.float32)
    vertices.setflags(write=False)
    return np.asarray(vertices)


@lru_cache(maxsize=2)
def fit_head(model: FaceModel) -> FitHead:
    """Prepares the head model for fitting."""
    neutral = model.neutral[:FACE_VERTICES].cpu().numpy()
    offsets = np.concatenate(
        [
            block.cpu().numpy().reshape(len(block), -1, 3)[:, :FACE_VERTICES]
            for block in (model.identity, model.expression)
        ]
    )
    basis = np.ascontiguousarray(offsets.transpose(1, 2, 0))
    faces = model.faces.cpu().numpy()
    quads = faces[(faces < FACE_VERTICES).all(1)]
    skin = hollows(model)[0][:FACE_VERTICES].cpu().numpy()
    landmarks = model.landmarks.cpu().numpy()
    patches = quads[skin[quads].all(1)]
    mix = _orthonormal(_diagonals(neutral, patches))
    tangents = mix.transpose(0, 2, 1)[:, None] @ _diagonals(basis, patches)
    line = neutral[landmarks[list(_JAW)]]
    along = np.linspace(line[:-1], line[1:], 4, axis=1, endpoint=False).reshape(-1, 3)
    distance = np.linalg.norm(neutral[:, None] - along[None], axis=2).min(1)
    return FitHead(
        neutral=neutral,
        basis=basis,
        expression_names=model.expression_names,
        quads=quads,
        triangles=np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]),
        skin=skin,
        landmarks=landmarks,
        dense=dense_vertices(model).cpu().numpy(),
        jaw=np.nonzero(distance < _JAW_BAND)[0],
        patches=patches,
        mix=mix,
        tangents=np.ascontiguousarray(tangents),
    )


def _diagonals(values: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Both diagonals (Q, 3, 2, ...) of quads (Q, 4), of vertices or of their derivatives (F, 3, ...)."""
    return np.stack([values[quads[:, 2]] - values[quads[:, 0]], values[quads[:, 3]] - values[quads[:, 1]]], 2)


def _orthonormal(diagonals: np.ndarray) -> np.ndarray:
    """Combinations (Q, 2, 2) of diagonals (Q, 3, 2) that are orthonormal: diagonals @ result."""
    first, second = diagonals[..., 0], diagonals[..., 1]
    length = np.linalg.norm(first, axis=1)
    shear = (first * second).sum(1) / length**2
    height = np.linalg.norm(second - shear[:, None] * first, axis=1)
    mix = np.zeros((len(diagonals), 2, 2), np.float32)
    mix[:, 0, 0], mix[:, 0, 1], mix[:, 1, 1] = 1 / length, -shear / height, 1 / height
    return mix
