"""A face divided twice and displaced, for tests of maps and files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.geometry.mesh import FACE, Topology, load_topology, subdivided, vertex_normals


@dataclass(frozen=True)
class Surface:
    """The mean face, and finer.

    Attributes:
        folder: Of the head model.
        vertices: (V, 3) of the proxy.
        fine: Topology of the face divided twice.
        smooth: (V', 3) its vertices, on the proxy.
        fine_normals: (V', 3).
        displacement_mm: (V',) waves of 1.5 mm, none in the nostrils and behind the lids.
        displaced: (V', 3).
    """

    folder: Path
    vertices: np.ndarray
    fine: Topology
    smooth: np.ndarray
    fine_normals: np.ndarray
    displacement_mm: np.ndarray
    displaced: np.ndarray


def head_surface(folder: Path) -> Surface:
    """Divides the mean face twice, linearly, and displaces it."""
    vertices = np.load(folder / "ict_facekit.npz")["neutral"]
    fine = load_topology(folder).only(FACE)
    open_skin = np.ones(9409, np.float32)
    open_skin[fine.faces[_texels_per_cm(vertices, fine) < 20]] = 0
    columns = np.column_stack([vertices[:9409], open_skin])
    for _ in range(2):
        columns, faces = divided(columns, fine.faces)
        fine = subdivided(fine, faces)
    smooth, open_skin = columns[:, :3].copy(), columns[:, 3]
    normals = vertex_normals(smooth, fine)
    x, y, z = smooth.T
    displacement = (1.5 * open_skin * np.sin(3 * x) * np.sin(3 * y) * np.cos(2 * z)).astype(np.float32)
    displaced = smooth + 0.1 * displacement[:, None] * normals
    return Surface(folder, vertices, fine, smooth, normals, displacement, displaced)


def divided(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divides quads in four at the middles of their edges."""
    edges = np.sort(np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2), 1)
    unique, edge = np.unique(edges, axis=0, return_inverse=True)
    middle = len(vertices) + edge.reshape(-1, 4)
    centre = np.arange(len(faces))[:, None] + len(vertices) + len(unique)
    children = np.stack([faces, middle, np.broadcast_to(centre, middle.shape), np.roll(middle, 1, 1)], -1)
    finer = np.concatenate([vertices, vertices[unique].mean(1), vertices[faces].mean(1)])
    return finer.astype(np.float32), children.reshape(-1, 4)


def _texels_per_cm(vertices: np.ndarray, topology: Topology) -> np.ndarray:
    """Of a texture of 1024 texels on each quad (F,): few in the nostrils and behind the lids."""
    corners, uv = vertices[topology.faces], topology.uv[topology.faces_uv]
    area = np.linalg.norm(np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]), axis=1)
    first, second = (uv[:, 2] - uv[:, 0]).T, (uv[:, 3] - uv[:, 1]).T
    return 1024 * np.sqrt(np.abs(first[0] * second[1] - first[1] * second[0]) / area)
