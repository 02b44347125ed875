"""Maps in texture space that carry a detailed surface: displacement and tangent-space normals.

Displacement is the distance along the smooth surface's normal, kept as 16-bit grey: 0..65535 stand for
-range..range, the middle for no displacement. Normals are kept as round(127.5 (n + 1)) in the frame of the
mesh that is drawn, red along u, green along v (up, as OpenGL has it), blue outwards.
"""

from __future__ import annotations

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

    Viewers interpolate normal, tangent and bitangent over a triangle and take the sum of the three weighted
    by the map. So the map is the inverse of that, exactly, although the three are not quite perpendicular
    within a triangle.

    Args:
        detailed_normals: (P, 3) of the detailed surface at the texels, in the space of the mesh's vertices.
        normals: (V, 3) unit vertex normals of the mesh that is drawn.
        tangents: (T, 4) of that mesh, as from `mesh.tangents`.
        texels: Of that mesh.

    Returns:
        (S, S, 3) uint8 RGB.
    """
    tangent, bitangent, normal = tangent_frames(normals, tangents, texels)
    # Cramer's rule, up to the length: the coordinate along each axis is seen against the other two.
    x, y, z = (
        np.einsum("ij,ij->i", detailed_normals, np.cross(second, third))
        for second, third in ((bitangent, normal), (normal, tangent), (tangent, bitangent))
    )
    local = np.stack([x, y, z], 1)
    local *= np.sign(np.einsum("ij,ij->i", tangent, np.cross(bitangent, normal)))[:, None]
    local[:, 2] = local[:, 2].clip(1e-3)  # a surface that turns away cannot be shown
    local /= np.linalg.norm(local, axis=1, keepdims=True).clip(1e-6)
    known = texels.image(np.ones(len(local), np.float32))
    filled = push_pull(texels.image(local.astype(np.float32)), known)
    filled[..., 2] += known == 0  # towards flat, and never of no length
    filled /= np.linalg.norm(filled, axis=2, keepdims=True)
    return np.round(127.5 * (filled + 1)).clip(0, 255).astype(np.uint8)


def relit_normals(
    picture: np.ndarray, normals: np.ndarray, tangents: np.ndarray, texels: UvMap
) -> np.ndarray:
    """Normals that a viewer computes from a normal map (S, S, 3) uint8 at the texels: (P, 3) unit vectors."""
    local = picture.reshape(-1, 3)[texels.texel].astype(np.float32) / 127.5 - 1
    frames = tangent_frames(normals, tangents, texels)
    world = sum(local[:, k, None] * frames[k] for k in range(3))
    return world / np.linalg.norm(world, axis=1, keepdims=True)


def tangent_frames(
    normals: np.ndarray, tangents: np.ndarray, texels: UvMap
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tangent, bitangent and normal at the texels, interpolated and made unit vectors: (P, 3) each."""
    vertex = np.zeros(len(tangents), np.int32)
    vertex[texels.corners_uv] = texels.corners
    at_uv = normals[vertex]
    bitangents = np.cross(at_uv, tangents[:, :3]) * tangents[:, 3:]
    frames = texels.sample_uv(np.concatenate([tangents[:, :3], bitangents, at_uv], 1)).reshape(-1, 3, 3)
    frames /= np.linalg.norm(frames, axis=2, keepdims=True).clip(1e-6)
    return frames[:, 0], frames[:, 1], frames[:, 2]
