"""All files of a head: its mesh in the formats asked for, the pictures that OBJ names, the sidecars."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.geometry.mesh_files import Material, Mesh
from pipeline.geometry.mesh_files.glb import write_glb
from pipeline.geometry.mesh_files.obj import write_mtl, write_obj
from pipeline.geometry.mesh_files.ply import write_ply

FORMATS = ("glb", "obj", "ply")


def mesh_files(
    name: str,
    mesh: Mesh,
    formats: Sequence[str] = FORMATS,
    unit: str = "m",
    colours: np.ndarray | None = None,
) -> dict[str, bytes]:
    """Makes the files of one mesh.

    Args:
        name: Their name, such as "proxy".
        mesh: In the space that the files are to have.
        formats: Some of `FORMATS`.
        unit: "m", "cm" or "mm".
        colours: (V, 3) uint8 RGB of the vertices, for PLY.

    Returns:
        Name of each file -> its bytes.

    Raises:
        ValueError: There is no such format.
    """
    if unknown := set(formats) - set(FORMATS):
        raise ValueError(f"no mesh format {', '.join(sorted(unknown))}: choose of {', '.join(FORMATS)}")
    files: dict[str, bytes] = {}
    if "glb" in formats:
        files[f"{name}.glb"] = write_glb(mesh, unit)
    if "obj" in formats:
        pictures, names = _pictures(mesh.materials)
        files |= pictures
        files[f"{name}.mtl"] = write_mtl(mesh.materials, names)
        files[f"{name}.obj"] = write_obj(mesh, unit, f"{name}.mtl")
    if "ply" in formats:
        files[f"{name}.ply"] = write_ply(mesh, unit, colours)
    return files


def facts_file(facts: Mapping[str, Any]) -> bytes:
    """A sidecar as JSON."""
    return (json.dumps(facts, indent=2) + "\n").encode()


def _pictures(materials: Mapping[str, Material]) -> tuple[dict[str, bytes], dict[str, str]]:
    """The pictures of materials as files, and the names under which `write_mtl` asks for them."""
    files, names = {}, {}
    for part, material in materials.items():
        for kind, picture in (("texture", material.texture), ("normals", material.normal_map)):
            if picture is None:
                continue
            ending = "png" if picture.startswith(b"\x89PNG") else "jpg"
            file = f"{part.removeprefix('M_').lower()}_{kind}.{ending}"
            files[file] = picture
            names[part if kind == "texture" else f"{part} normals"] = file
    return files, names
