"""A head as files for other programs: meshes, pictures, and what says how they belong together."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipeline.details.bake import RANGE_MM
from pipeline.details.head import Head
from pipeline.details.pictures import HeadPictures
from pipeline.geometry.mesh import BACK_HEAD, EYES, FACE, GUMS, TEETH, Topology
from pipeline.geometry.mesh_files import GUMS_MATERIAL, TEETH_MATERIAL, Material, Mesh
from pipeline.geometry.mesh_files.folder import facts_file, mesh_files
from pipeline.geometry.mesh_files.sidecars import blender_script, camera_facts, displacement_facts
from pipeline.geometry.uv import read_picture

Part = Literal["proxy", "detailed"]
Space = Literal["model", "camera"]


def export_head(
    head: Head,
    pictures: HeadPictures,
    uri: str,
    *,
    formats: Sequence[str] = ("glb",),
    parts: Sequence[Part] = ("proxy",),
    space: Space = "model",
    unit: str = "m",
) -> dict[str, bytes]:
    """Makes all files of a head.

    Args:
        head: The head.
        pictures: Its encoded maps.
        uri: The photo.
        formats: Some of glb, obj, ply.
        parts: proxy: the fitted head, its detail as a normal map, in GLB with the expressions as morph
            targets. detailed: the mesh that carries the detail.
        space: model: head space; camera: that of the photo's camera, which is at the origin, looks along -z,
            x to the right and y up.
        unit: m, cm or mm.

    Returns:
        File name -> content.
    """
    files: dict[str, bytes] = {}
    for part in parts:
        mesh = head_mesh(head, pictures, part)
        colours = vertex_colours(head, mesh.topology) if "ply" in formats else None
        if space == "camera":
            mesh = mesh.moved(head.view.rotation, head.view.translation)
        files |= mesh_files(part, mesh, formats, unit, colours)
    camera = camera_facts(
        uri,
        (head.width, head.height),
        head.view.focal,
        (float(head.view.centre[0]), float(head.view.centre[1])),
        rotation=head.view.rotation if space == "model" else np.eye(3),
        translation=head.view.translation if space == "model" else np.zeros(3),
        unit=unit,
    )
    return files | {
        "displacement.png": pictures.displacement_png,
        "visibility.png": pictures.visibility_png,
        "camera.json": facts_file(camera),
        "displacement.json": facts_file(displacement_facts(RANGE_MM)),
        "blender_displace.py": blender_script(RANGE_MM, unit).encode(),
    }


def head_mesh(head: Head, pictures: HeadPictures, part: Part = "proxy") -> Mesh:
    """A head in head space as mesh files want it: with looks, the proxy also with morph targets."""
    left, right = EYES
    materials = {
        FACE: Material(texture=pictures.texture_jpeg),
        BACK_HEAD: Material(texture=pictures.back_jpeg),
        GUMS: GUMS_MATERIAL,
        TEETH: TEETH_MATERIAL,
        left: Material(texture=pictures.left_eye_jpeg, roughness=0.1),
        right: Material(texture=pictures.right_eye_jpeg, roughness=0.1),
    }
    if part == "detailed":
        return Mesh(head.detailed_vertices, head.kit.fine, materials)
    materials[FACE] = Material(texture=pictures.texture_jpeg, normal_map=pictures.normal_map_png)
    targets = head.kit.targets(head.identity)
    return Mesh(head.vertices, head.kit.proxy, materials, targets, head.weights)


def vertex_colours(head: Head, topology: Topology) -> np.ndarray:
    """Colours (V, 3) uint8 of a head's vertices, from its textures."""
    maps = head.maps
    colours = np.zeros((topology.vertex_count, 3), np.uint8)
    textures = {BACK_HEAD: maps.back, FACE: maps.texture} | dict(zip(EYES, maps.eyes, strict=True))
    for part, material in ((GUMS, GUMS_MATERIAL), (TEETH, TEETH_MATERIAL)):
        # Materials are in linear light, vertices' colours as screens take them.
        bright = 255 * np.power(material.colour, 1 / 2.2)
        colours[np.unique(topology.only(part).faces)] = np.rint(bright)
    for part, picture in textures.items():
        used = np.unique(topology.only(part).faces_uv)
        colours[topology.uv_vertex[used]] = np.rint(read_picture(picture, topology.uv[used]))
    return colours
