"""Reader of Wavefront OBJ meshes: vertices, texture coordinates, triangles and quads, materials."""

from dataclasses import dataclass

import numpy as np

from pipeline.errors import AssetsError


@dataclass(frozen=True)
class ObjMesh:
    """One mesh with V vertices, T texture coordinates, F faces and M materials.

    Attributes:
        vertices: (V, 3) float32.
        uv: (T, 2) float32, v up.
        faces: (F, 4) int32 indices into `vertices`; column 3 is -1 for a triangle.
        faces_uv: (F, 4) int32 indices into `uv`, like `faces`.
        face_material: (F,) int8 indices into `material_names`.
        material_names: Materials in the order of their first use.
    """

    vertices: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    faces_uv: np.ndarray
    face_material: np.ndarray
    material_names: list[str]


def read_vertices(data: bytes, name: str) -> np.ndarray:
    """Reads only the vertices of an OBJ file.

    Returns:
        (V, 3) float32. The decimal text is rounded once to float64 and then to float32.

    Raises:
        AssetsError: The vertices cannot be read (code asset_malformed).
    """
    return _numbers([line[2:] for line in data.splitlines() if line.startswith(b"v ")], 3, name)


def read_obj(data: bytes, name: str) -> ObjMesh:
    """Reads an OBJ file whose faces are triangles and quads with texture coordinates ("f 1/1 2/2 3/3").

    Raises:
        AssetsError: The file is not of this form (code asset_malformed).
    """
    uv_lines, face_lines, face_material = [], [], []
    materials: dict[bytes, int] = {}
    material = -1
    for line in data.splitlines():
        if line.startswith(b"f "):
            face_lines.append(line[2:])
            face_material.append(material)
        elif line.startswith(b"vt "):
            uv_lines.append(line[3:])
        elif line.startswith(b"usemtl "):
            material = materials.setdefault(line[7:].strip(), len(materials))
    vertices = read_vertices(data, name)
    uv = _numbers(uv_lines, 2, name)
    faces, faces_uv = _faces(face_lines, name)
    if not face_lines or faces.max() >= len(vertices) or faces_uv.max() >= len(uv) or min(face_material) < 0:
        raise _malformed(name, "its faces do not fit its vertices, or have no material")
    return ObjMesh(
        vertices=vertices,
        uv=uv,
        faces=faces,
        faces_uv=faces_uv,
        face_material=np.array(face_material, np.int8),
        material_names=[material_name.decode() for material_name in materials],
    )


def _faces(lines: list[bytes], name: str) -> tuple[np.ndarray, np.ndarray]:
    corners = [line.split() for line in lines]
    sizes = np.array([len(face) for face in corners])
    if not np.isin(sizes, (3, 4)).all():
        raise _malformed(name, "a face is neither a triangle nor a quad")
    flat = [index for face in corners for corner in face for index in corner.split(b"/")]
    if len(flat) != 2 * sizes.sum():
        raise _malformed(name, "a corner of a face is not of the form vertex/uv")
    try:
        indices = np.array(flat, dtype=np.int32).reshape(-1, 2) - 1
    except ValueError as error:
        raise _malformed(name, str(error)) from error
    if indices.min(initial=0) < 0:
        raise _malformed(name, "a face has an index below 1")
    faces = np.full((2, len(lines), 4), -1, np.int32)
    used = np.arange(4) < sizes[:, None]
    faces[:, used] = indices.T
    return faces[0], faces[1]


def _numbers(lines: list[bytes], columns: int, name: str) -> np.ndarray:
    try:
        values = np.array([line.split()[:columns] for line in lines], dtype=np.float64)
    except ValueError as error:
        raise _malformed(name, str(error)) from error
    if values.shape != (len(lines), columns) or not len(lines) or not np.isfinite(values).all():
        raise _malformed(name, "a vertex is missing a number, or there is none")
    return values.astype(np.float32)


def _malformed(name: str, reason: str) -> AssetsError:
    return AssetsError(f"{name} is no mesh that can be read: {reason}.", code="asset_malformed")
