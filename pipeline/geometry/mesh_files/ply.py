"""PLY, binary: shared vertices with normals, and colours where they are given; triangles."""

import numpy as np

from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.mesh_files import UNITS, Mesh


def write_ply(mesh: Mesh, unit: str = "m", colours: np.ndarray | None = None) -> bytes:
    """Writes a mesh as PLY.

    Args:
        mesh: What to write.
        unit: "m", "cm" or "mm".
        colours: (V, 3) uint8 RGB of the vertices, or None.
    """
    drawn = mesh.drawn
    ids = np.unique(drawn.faces)
    columns = ["x", "y", "z", "nx", "ny", "nz"]
    fields = [(name, "<f4") for name in columns]
    if colours is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.empty(len(ids), fields)
    normals = vertex_normals(mesh.vertices, drawn)
    for k in range(3):
        vertices[columns[k]] = mesh.vertices[ids, k] * UNITS[unit]
        vertices[columns[k + 3]] = normals[ids, k]
        if colours is not None:
            vertices[fields[6 + k][0]] = colours[ids, k]
    faces = np.empty(len(drawn.triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"] = 3
    faces["corners"] = np.searchsorted(ids, drawn.triangles)
    kinds = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment Facet; unit: {unit}",
        f"element vertex {len(vertices)}",
        *(f"property {kinds[kind]} {name}" for name, kind in fields),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    return "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()
