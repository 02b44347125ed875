"""Wavefront OBJ with its materials: quads, vertices shared by all faces at them, texture coordinates apart.

A mesh whose vertices were split along the texture's seams would tear open there when it is displaced.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from pipeline.geometry.mesh import Topology
from pipeline.geometry.mesh_files import UNITS, Material, Mesh


def write_obj(mesh: Mesh, unit: str = "m", materials_file: str | None = None) -> bytes:
    """Writes a mesh as OBJ.

    Args:
        mesh: What to write.
        unit: "m", "cm" or "mm".
        materials_file: Name of the file that `write_mtl` makes, or None.
    """
    ids, text = _faces_text(mesh.drawn)
    digits = {"m": 7, "cm": 5, "mm": 4}[unit]
    line = f"v %.{digits}f %.{digits}f %.{digits}f\n"
    vertices = (line * len(ids)) % tuple((mesh.vertices[ids] * UNITS[unit]).ravel().tolist())
    head = f"# Facet; unit: {unit}\n" + (f"mtllib {materials_file}\n" if materials_file else "")
    return (head + vertices).encode() + text


def write_mtl(materials: Mapping[str, Material], pictures: Mapping[str, str]) -> bytes:
    """Writes the materials of an OBJ file.

    Args:
        materials: Part -> its look.
        pictures: Name of the file of each picture: "<part>" for its texture, "<part> normals" for its normal
            map.
    """
    lines = []
    for name, material in materials.items():
        colour = (1.0, 1.0, 1.0) if material.texture is not None else material.colour
        lines += [f"newmtl {name}", "Kd " + " ".join(f"{value:.4f}" for value in colour), "illum 2"]
        if material.texture is not None:
            lines.append(f"map_Kd {pictures[name]}")
        if material.normal_map is not None:
            lines.append(f"norm {pictures[f'{name} normals']}")
    return ("\n".join(lines) + "\n").encode()


@lru_cache(maxsize=8)
def _faces_text(topology: Topology) -> tuple[np.ndarray, bytes]:
    """The vertices that are used, and all lines but theirs: the same for every head."""
    ids = np.unique(topology.faces)
    uv_ids = np.unique(topology.faces_uv)
    corners = np.searchsorted(ids, topology.faces) + 1
    corners_uv = np.searchsorted(uv_ids, topology.faces_uv) + 1
    pieces = ["vt %.6f %.6f\n" * len(uv_ids) % tuple(topology.uv[uv_ids].ravel().tolist()), "s 1\n"]
    for index in np.unique(topology.part):
        pieces.append(f"usemtl {topology.part_names[index]}\n")
        both = np.stack([corners, corners_uv], -1)
        for chosen, size in ((topology.is_quad, 4), (~topology.is_quad, 3)):
            numbers = both[chosen & (topology.part == index), :size]
            line = "f" + " %d/%d" * size + "\n"
            pieces.append(line * len(numbers) % tuple(numbers.ravel().tolist()))
    return ids, "".join(pieces).encode()
