"""Maps in texture space that carry a detailed surface: displacement and tangent-space normals.

Displacement is the distance along the smooth surface's normal, kept as 16-bit grey: 0..65535 stand for
-range..range, the middle for no displacement. Normals are kept as round(127.5 (n + 1)) in the frame of the
mesh that is drawn, red along u, green along v (up, as OpenGL has it), blue outwards.
"""

import numpy as np

from pipeline.geometry.uv import UvMap, push_pull, read_picture

RANGE_MM = 4.0
"""Largest displacement that a map holds, to either side, in millimetres."""


def displacement_map(displacement_mm: np.ndarray, texels: UvMap, range_mm: float = RANGE_MM) -> np.ndarray:
    """Bakes displacements (V,) of vertices into a picture: (S, S) uint16. Larger ones are clipped.

    Between the islands of the texture the picture goes on smoothly, so that reading at a seam is safe.
    """
    known = texels.image(np.ones(len(texels.texel), np.float32))
    values = texels.image(texels.sample(displacement_mm[:, None]))
    filled = push_pull(values, known)[..., 0]
    return ((filled / range_mm + 1) * 32767.5 + 0.5).clip(0, 65535).astype(np.uint16)


def displacement_at(picture: np.ndarray, uv: np.ndarray, range_mm: float = RANGE_MM) -> np.ndarray:
    """Reads a displacement map (S, S) uint16 at texture coordinates (N, 2): (N,) float32 millimetres."""
    return (read_picture(picture, uv) / np.float32(32767.5) - 1) * np.float32(range_mm)


def normal_map(
    detailed_normals: np.ndarray,
    normals: np.ndarray,
    tangents: np.ndarray,
    texels: UvMap,
) -> np.ndarray:
    """Bakes the normals of a detailed surface into the tangent space of the mesh that is drawn.

    Viewers interpolate normal and tangent over a triangle and take the sum of the two and the bitangent,
    weighted by the map. So the map is the inverse of that, exactly, although the three are not quite
    perpendicular within a triangle.

    Args:
        detailed_normals: (P, 3) of the detailed surface at the texels, in the space of the mesh's vertices.
        normals: (V, 3) unit vertex normals of the mesh that is drawn.
        tangents: (T, 4) of that mesh, as from `mesh.tangents`.
        texels: Of that mesh.

    Returns:
        (S, S, 3) uint8 RGB.
    """
    tangent, bitangent, normal = tangent_frames(normals, tangents, texels)
    detailed = np.ascontiguousarray(detailed_normals.T)
    # The bitangent is perpendicular to both others, which have an angle of their own between them.
    along, outwards, skew = _dot(detailed, tangent), _dot(detailed, normal), _dot(tangent, normal)
    up = _dot(detailed, bitangent) * (1 - skew**2)
    local = np.stack([along - skew * outwards, up, outwards - skew * along])
    local[2] = np.maximum(local[2], 1e-3)  # a surface that turns away cannot be shown
    local = _unit(local, 127.5)
    picture = np.empty((texels.size**2, 3), np.uint8)
    picture[:] = 128, 128, 255
    local += 128
    picture[texels.texel] = local.clip(0, 255).astype(np.uint8).T  # 127.5 (n + 1), rounded
    return picture.reshape(texels.size, texels.size, 3)


def tangent_frames(
    normals: np.ndarray, tangents: np.ndarray, texels: UvMap
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit tangent, bitangent and normal at the texels, interpolated: (3, P) float32 each."""
    along_u = np.ascontiguousarray(texels.sample_uv(tangents).T)
    tangent, normal = _unit(along_u[:3]), _unit(np.ascontiguousarray(texels.sample(normals).T))
    return tangent, _unit(_cross(normal, tangent) * np.sign(along_u[3])), normal


def _unit(vectors: np.ndarray, length: float = 1.0) -> np.ndarray:
    return vectors * (np.float32(length) / np.maximum(np.sqrt(_dot(vectors, vectors)), 1e-6))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of vectors (3, P): rows in memory, several times faster than NumPy's for (P, 3)."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
