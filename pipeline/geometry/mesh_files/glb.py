"""GLB: a head in one binary file of core glTF 2.0, with textures and morph targets.

One primitive for each part, since each has a picture of its own. Morph targets are sparse: most of them move
a small part of the head. Tangents are those in which the normal map was baked; without them every viewer
would make up its own. The base mesh is the one at weight 0 of all targets, and the file's default weights
give the mesh as it came.

Specification: Khronos Group, glTF 2.0, 2021.
"""

import json
import struct
from typing import Any

import numpy as np

from pipeline.geometry.mesh import STILL_CM, Topology, moved_rows, normal_offsets, tangents, vertex_normals
from pipeline.geometry.mesh_files import UNITS, Material, Mesh

_FLOAT, _UINT, _USHORT = 5126, 5125, 5123
_ARRAY_BUFFER, _ELEMENT_BUFFER = 34962, 34963
_CLAMP, _LINEAR, _MIPMAP = 33071, 9729, 9987
_STILL_NORMAL = 1e-3


def write_glb(mesh: Mesh, unit: str = "m") -> bytes:
    """Writes a mesh as GLB.

    Args:
        mesh: What to write.
        unit: "m", as glTF has it, "cm" or "mm".
    """
    scale = UNITS[unit]
    drawn = mesh.drawn
    names = list(mesh.targets)
    weights = [float(mesh.weights.get(name, 0.0)) for name in names]
    base: np.ndarray = mesh.vertices.astype(np.float32)
    for name, weight in zip(names, weights, strict=True):
        if weight:
            base = base - np.float32(weight) * mesh.targets[name]
    file = _File()
    pieces = [
        _Piece(file, part, drawn.only(part), index, material)
        for index, (part, material) in enumerate(mesh.materials.items())
    ]
    normals = vertex_normals(base, drawn)
    for piece in pieces:
        piece.add_shape(base, normals, scale)
    turned = normal_offsets(base, mesh.targets.values(), drawn)
    for offsets, (near, normal_change) in zip(mesh.targets.values(), turned, strict=True):
        moved = np.nonzero(moved_rows(offsets, STILL_CM))[0]
        kept = np.nonzero(moved_rows(normal_change, _STILL_NORMAL))[0]
        places, turns = offsets.take(moved, 0) * scale, normal_change.take(kept, 0)
        for piece in pieces:
            piece.add_target(moved, places, near[kept], turns)
    shape: dict[str, Any] = {"name": "head", "primitives": [piece.primitive for piece in pieces]}
    if names:
        shape |= {"weights": weights, "extras": {"targetNames": names}}
    return file.to_bytes(shape)


class _File:
    """The parts of a glTF file, filled piece by piece."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []
        self.materials: list[dict] = []
        self.images: list[dict] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        self.buffer.extend(bytes(-len(self.buffer) % 4))
        view = {"buffer": 0, "byteOffset": len(self.buffer), "byteLength": len(data)}
        self.views.append(view | ({} if target is None else {"target": target}))
        self.buffer.extend(data)
        return len(self.views) - 1

    def accessor(self, **fields: Any) -> int:
        self.accessors.append(fields)
        return len(self.accessors) - 1

    def values(self, values: np.ndarray, bounds: bool = False) -> int:
        """Adds vertex attributes (N, 2), (N, 3) or (N, 4)."""
        values = np.ascontiguousarray(values, np.float32)
        limits = {"min": values.min(0).tolist(), "max": values.max(0).tolist()} if bounds else {}
        view = self.view(values.tobytes(), _ARRAY_BUFFER)
        kind = f"VEC{values.shape[1]}"
        return self.accessor(bufferView=view, componentType=_FLOAT, count=len(values), type=kind, **limits)

    def sparse(self, rows: np.ndarray, values: np.ndarray, count: int) -> int:
        """Adds `count` values of three numbers, zero but for those (R, 3) of rows (R,)."""
        kept = np.ascontiguousarray(values, np.float32)
        fields: dict[str, Any] = {"componentType": _FLOAT, "count": count, "type": "VEC3"}
        columns = np.ascontiguousarray(kept.T)  # along rows of memory: ten times faster
        low, high = columns.min(1, initial=0).tolist(), columns.max(1, initial=0).tolist()
        if not len(rows):
            return self.accessor(**fields, min=low, max=high)
        small = count <= 1 << 16
        indices = self.view(rows.astype(np.uint16 if small else np.uint32).tobytes())
        sparse = {
            "count": len(rows),
            "indices": {"bufferView": indices, "componentType": _USHORT if small else _UINT},
            "values": {"bufferView": self.view(kept.tobytes())},
        }
        return self.accessor(**fields, min=low, max=high, sparse=sparse)

    def texture(self, picture: bytes) -> dict[str, int]:
        kind = "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg"
        self.images.append({"bufferView": self.view(picture), "mimeType": kind})
        return {"index": len(self.images) - 1}

    def material(self, name: str, material: Material) -> None:
        look: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": material.roughness}
        if material.texture is not None:
            look["baseColorTexture"] = self.texture(material.texture)
        else:
            look["baseColorFactor"] = [*material.colour, 1.0]
        entry: dict[str, Any] = {"name": name, "pbrMetallicRoughness": look}
        if material.normal_map is not None:
            entry["normalTexture"] = self.texture(material.normal_map)
        self.materials.append(entry)

    def to_bytes(self, shape: dict[str, Any]) -> bytes:
        gltf: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": "Facet"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"name": "head", "mesh": 0}],
            "meshes": [shape],
            "materials": self.materials,
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self.buffer)}],
        }
        if self.images:
            gltf |= {
                "images": self.images,
                "textures": [{"source": index, "sampler": 0} for index in range(len(self.images))],
                "samplers": [{"magFilter": _LINEAR, "minFilter": _MIPMAP, "wrapS": _CLAMP, "wrapT": _CLAMP}],
            }
        text = json.dumps(gltf, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        binary = bytes(self.buffer) + bytes(-len(self.buffer) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


class _Piece:
    """One part: its vertices are split where its texture is."""

    def __init__(self, file: _File, name: str, topology: Topology, index: int, material: Material):
        self.file, self.topology, self.material = file, topology, material
        self.ids = np.unique(topology.triangles_uv)
        self.vertex = topology.uv_vertex[self.ids]
        self._place = np.full(topology.vertex_count, -1, np.int32)
        triangles = np.searchsorted(self.ids, topology.triangles_uv)
        small = len(self.ids) < 1 << 16
        view = file.view(triangles.astype(np.uint16 if small else np.uint32).tobytes(), _ELEMENT_BUFFER)
        kind = _USHORT if small else _UINT
        indices = file.accessor(bufferView=view, componentType=kind, count=triangles.size, type="SCALAR")
        self.primitive: dict[str, Any] = {"attributes": {}, "indices": indices, "material": index}
        file.material(name, material)

    def add_shape(self, vertices: np.ndarray, normals: np.ndarray, scale: float) -> None:
        attributes, file = self.primitive["attributes"], self.file
        attributes["POSITION"] = file.values(vertices[self.vertex] * scale, bounds=True)
        attributes["NORMAL"] = file.values(normals[self.vertex])
        if self.material.texture is not None or self.material.normal_map is not None:
            uv = self.topology.uv[self.ids] * [1, -1] + [0, 1]  # glTF has v = 0 in the picture's first row
            attributes["TEXCOORD_0"] = file.values(uv)
        if self.material.normal_map is not None:
            attributes["TANGENT"] = file.values(tangents(vertices, normals, self.topology)[self.ids])

    def add_target(
        self, moved: np.ndarray, offsets: np.ndarray, turned: np.ndarray, normal_change: np.ndarray
    ) -> None:
        """Adds a morph target: vertices that move and by how much, and those whose normals change."""
        target = {"POSITION": self._sparse(moved, offsets), "NORMAL": self._sparse(turned, normal_change)}
        self.primitive.setdefault("targets", []).append(target)

    def _sparse(self, ids: np.ndarray, values: np.ndarray) -> int:
        """Adds values (N, 3) of vertices (N,), zero for the others."""
        self._place[ids] = np.arange(len(ids))
        place = self._place[self.vertex]
        self._place[ids] = -1
        rows = np.nonzero(place >= 0)[0]
        return self.file.sparse(rows, values.take(place[rows], 0), len(self.ids))
