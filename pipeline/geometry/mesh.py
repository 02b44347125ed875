"""Meshes of one topology: quads, texture coordinates, parts, mirror image; normals and tangents.

A mesh is an array of vertices and a `Topology`. `FaceModel` says how the head's shape varies; the topology
says what is a face, where it lies in the texture and what it is made of, whatever the shape. Faces that are
not drawn (see `head_model.DROPPED`) are in it, too.

Texture coordinates: u to the right, v up, 0..1 within the tile of each part. The archive has a tile for most
parts (UDIM); here every part has its own picture instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from pipeline.assets import find_ict_facekit
from pipeline.assets.ict_facekit import load
from pipeline.geometry.subdivide import unique_edges

FACE = "M_Face"
BACK_HEAD = "M_BackHead"
GUMS = "M_GumsTongue"
TEETH = "M_Teeth"
EYES = ("M_ScleraLeft", "M_ScleraRight")

HEAD_PARTS = (FACE, BACK_HEAD, GUMS, TEETH, *EYES)
"""Parts of a head that is closed. The sclera is closed in front of the iris, so the iris is painted on it."""


STILL_CM = 1e-4
"""A vertex that moves by less stays where it is: the model's offsets are rounded to about this."""


@dataclass(frozen=True, eq=False)
class Topology:
    """Faces and texture coordinates of a mesh with V vertices.

    Attributes:
        faces: (F, 4) int32 vertex ids, counter-clockwise from outside; a triangle repeats its last corner.
        faces_uv: (F, 4) int32 indices into `uv`, like `faces`.
        uv: (T, 2) float32, 0..1, v up. Every entry belongs to one vertex and one part.
        part: (F,) int8, index into `part_names`.
        part_names: Names of the parts, the model's materials.
        vertex_count: V.
    """

    faces: np.ndarray
    faces_uv: np.ndarray
    uv: np.ndarray
    part: np.ndarray
    part_names: tuple[str, ...]
    vertex_count: int

    @cached_property
    def is_quad(self) -> np.ndarray:
        """(F,) bool."""
        return self.faces[:, 2] != self.faces[:, 3]

    @cached_property
    def triangles(self) -> np.ndarray:
        """(N, 3) int32 vertex ids: the first halves of all faces, then the second halves of the quads."""
        return _triangles(self.faces, self.is_quad)

    @cached_property
    def triangles_uv(self) -> np.ndarray:
        """(N, 3) int32 indices into `uv`, in the order of `triangles`."""
        return _triangles(self.faces_uv, self.is_quad)

    @cached_property
    def uv_vertex(self) -> np.ndarray:
        """(T,) int32: the vertex at each entry of `uv`, -1 for one that no face uses."""
        vertex = np.full(len(self.uv), -1, np.int32)
        vertex[self.faces_uv] = self.faces
        return vertex

    @lru_cache(maxsize=32)  # noqa: B019 - few topologies exist, and they live as long as the process
    def only(self, *names: str) -> Topology:
        """Returns the faces of some parts. Vertices and texture coordinates keep their numbers.

        Raises:
            ValueError: There is no part of such a name.
        """
        chosen = np.isin(self.part, [self.part_names.index(name) for name in names])
        return replace(self, faces=self.faces[chosen], faces_uv=self.faces_uv[chosen], part=self.part[chosen])


@lru_cache(maxsize=4)
def load_topology(path: str | Path | None = None) -> Topology:
    """Loads the topology of the ICT-FaceKit head, all parts (cached in the process).

    Args:
        path: As for `head_model.load_face_model`.

    Raises:
        AssetsError: The model is not there or is not what it should be.
    """
    file = find_ict_facekit(path)
    keys = ("faces", "faces_uv", "uv", "face_material", "material_names")
    faces, faces_uv, uv, part, names = (load(file)[key] for key in keys)
    uv = uv.copy()
    faces, faces_uv = (_closed(corners) for corners in (faces, faces_uv))
    for index in range(len(names)):
        used = np.unique(faces_uv[part == index])
        uv[used] -= np.floor(uv[used].min(0))
    part_names = tuple(str(name) for name in names)
    return Topology(faces, faces_uv, uv - np.floor(uv), part, part_names, int(faces.max()) + 1)


def _closed(faces: np.ndarray) -> np.ndarray:
    return np.where(faces < 0, faces[:, 2:3], faces).astype(np.int32)


def _triangles(faces: np.ndarray, is_quad: np.ndarray) -> np.ndarray:
    return np.concatenate([faces[:, [0, 1, 2]], faces[is_quad][:, [0, 2, 3]]])


def subdivided(topology: Topology, faces: np.ndarray) -> Topology:
    """The topology after each quad was divided in four.

    Texture coordinates are divided linearly, so that a picture stays where it was.

    Args:
        topology: Quads alone.
        faces: (4 F, 4) vertex ids of the divided mesh, `Subdivision.quads`. Child k of face f is 4 f + k; its
            corners are corner k of the face, the middle of the edge to corner k + 1, the face's centre, and
            the middle of the edge from corner k - 1.

    Raises:
        ValueError: There are triangles, or `faces` does not have four for each face.
    """
    if not topology.is_quad.all() or faces.shape != (4 * len(topology.faces), 4):
        raise ValueError("quads are divided in four, and nothing else")
    corners = topology.faces_uv
    edges, edge_of_side, _ = unique_edges(corners)
    middle = len(topology.uv) + edge_of_side
    centre = len(topology.uv) + len(edges) + np.arange(len(corners))
    uv = np.concatenate(
        [topology.uv, topology.uv[edges].mean(1), topology.uv[corners].mean(1)], dtype=np.float32
    )
    children = np.stack(
        [corners, middle, np.broadcast_to(centre[:, None], corners.shape), np.roll(middle, 1, 1)], -1
    )
    return Topology(
        faces=faces.astype(np.int32),
        faces_uv=children.reshape(-1, 4).astype(np.int32),
        uv=uv,
        part=topology.part.repeat(4),
        part_names=topology.part_names,
        vertex_count=int(faces.max()) + 1,
    )


def with_fine_part(topology: Topology, fine: Topology, shared: int) -> Topology:
    """A mesh in which some part is replaced by a finer one.

    Its vertices are those of the finer part, then the coarse ones from number `shared` on.

    Args:
        topology: The whole mesh.
        fine: One part, divided. Its first vertices are the coarse ones.
        shared: Number of coarse vertices that the finer part has: the first ones of the whole mesh.
    """
    names = [topology.part_names[index] for index in np.unique(topology.part)]
    replaced = {topology.part_names[index] for index in np.unique(fine.part)}
    rest = topology.only(*(name for name in names if name not in replaced))
    later = rest.faces + (rest.faces >= shared) * (fine.vertex_count - shared)
    return Topology(
        faces=np.concatenate([fine.faces, later], dtype=np.int32),
        faces_uv=np.concatenate([fine.faces_uv, rest.faces_uv + len(fine.uv)], dtype=np.int32),
        uv=np.concatenate([fine.uv, rest.uv]),
        part=np.concatenate([fine.part, rest.part]),
        part_names=topology.part_names,
        vertex_count=fine.vertex_count + topology.vertex_count - shared,
    )


def vertex_normals(vertices: np.ndarray, topology: Topology) -> np.ndarray:
    """Unit normals of vertices (V, 3), area-weighted over the faces: (V, 3) float32, outwards.

    Vertices that no face uses have the normal (0, 0, 1).
    """
    facing = face_normals(vertices, topology.faces)
    return _unit(_gather(facing, topology.faces, topology.is_quad, len(vertices)))


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals (F, 3) of faces, as long as twice their area, also those of triangles."""
    columns = np.ascontiguousarray(vertices.T)
    a, b, c, d = (columns.take(faces[:, k], axis=1) for k in range(4))
    (x1, y1, z1), (x2, y2, z2) = c - a, d - b
    return np.stack([y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2], 1)


def dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products (N,) of vectors (N, 3)."""
    return np.einsum("ij,ij->i", a, b)


def squares(vectors: np.ndarray) -> np.ndarray:
    """Squared lengths (N,) of vectors (N, 3)."""
    return dots(vectors, vectors)


def normal_offsets(
    vertices: np.ndarray, offsets: Iterable[np.ndarray], topology: Topology
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """How unit vertex normals change when some vertices move.

    Args:
        vertices: (V, 3).
        offsets: Of each movement, (V, 3), zero for most vertices.
        topology: The mesh's.

    Yields:
        For each movement the vertices (N,) int64 at faces that move, ascending, and how their normals change,
        (N, 3) float32.
    """
    facing = face_normals(vertices, topology.faces)
    summed = _gather(facing, topology.faces, topology.is_quad, len(vertices))
    normals = _unit(summed)
    place = np.empty(len(vertices), np.int64)
    for offset in offsets:
        touched = np.nonzero(moved_rows(offset, STILL_CM)[topology.faces].any(1))[0]
        faces = topology.faces.take(touched, 0)
        near = np.zeros(len(vertices), bool)
        near[faces] = True
        ids = np.nonzero(near)[0]
        place[ids] = np.arange(len(ids))
        faces = place[faces]
        change = face_normals(vertices.take(ids, 0) + offset.take(ids, 0), faces) - facing.take(touched, 0)
        change = _gather(change, faces, topology.is_quad[touched], len(ids))
        yield ids, _unit(summed.take(ids, 0) + change) - normals.take(ids, 0)


def moved_rows(offsets: np.ndarray, still: float) -> np.ndarray:
    """Which rows of offsets (V, 3) have a coordinate beyond `still`: (V,) bool."""
    x, y, z = offsets.T
    return (np.abs(x) > still) | (np.abs(y) > still) | (np.abs(z) > still)


def tangents(vertices: np.ndarray, normals: np.ndarray, topology: Topology) -> np.ndarray:
    """Tangents along u at texture coordinates, as glTF wants them.

    The bitangent, along v (up), is cross(normal, tangent) * w.

    Args:
        vertices: (V, 3).
        normals: (V, 3) unit vertex normals.
        topology: The mesh's.

    Returns:
        (T, 4) float32: unit vector perpendicular to the vertex's normal, and w = 1, or -1 where the picture
        lies mirrored on the surface.
    """
    corners = vertices[topology.triangles]
    e1, e2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    uv = topology.uv[topology.triangles_uv]
    (u1, v1), (u2, v2) = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
    area = u1 * v2 - u2 * v1
    along_u = (v2[:, None] * e1 - v1[:, None] * e2) * np.sign(area)[:, None]
    everywhere = np.ones(len(area), bool)
    both = _gather(np.column_stack([along_u, area]), topology.triangles_uv, everywhere, len(topology.uv))
    normal = normals[topology.uv_vertex]
    tangent = both[:, :3] - (both[:, :3] * normal).sum(1, keepdims=True) * normal
    lost = np.linalg.norm(tangent, axis=1) < 1e-12
    helper = np.where(np.abs(normal[lost, :1]) < 0.9, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    tangent[lost] = np.cross(helper, normal[lost])
    sign = np.where(both[:, 3:] < 0, -1.0, 1.0)
    return np.concatenate([_unit(tangent, (1.0, 0.0, 0.0)), sign], 1, dtype=np.float32)


def _gather(values: np.ndarray, corners: np.ndarray, has_last: np.ndarray, count: int) -> np.ndarray:
    """Sums values (F, C) of faces at their corners (F, K), a repeated one left out: (count, C)."""
    last = corners.shape[1] - 1
    ids = np.concatenate([corners[:, :last].ravel(order="F"), corners[has_last, last]])
    columns = []
    for column in values.T:
        weights = np.concatenate([np.tile(column, last), column[has_last]])
        columns.append(np.bincount(ids, weights, count))
    return np.stack(columns, 1)


def _unit(vectors: np.ndarray, fallback: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> np.ndarray:
    length = np.sqrt(squares(vectors))
    empty = length < 1e-12
    unit = vectors / np.where(empty, 1.0, length)[:, None]
    unit[empty] = fallback
    return unit.astype(np.float32)
