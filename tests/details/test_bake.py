"""Displacement and normal maps there and back."""

import numpy as np
import pytest
from subdivision import head_surface

from pipeline.details.bake import displacement_at, displacement_map, normal_map, tangent_frames
from pipeline.geometry.mesh import FACE, load_topology, tangents, vertex_normals
from pipeline.geometry.uv import uv_map
from pipeline.images.png import decode_png, encode_png


@pytest.fixture(scope="module")
def surface(ict_facekit):
    """Proxy, the face divided twice, a displacement in mm."""
    return head_surface(ict_facekit)


def test_displacement_comes_back_from_the_png(surface):
    texels = uv_map(surface.fine, 1024)
    picture = decode_png(encode_png(displacement_map(surface.displacement_mm, texels)))
    assert picture.dtype == np.uint16
    used = np.unique(surface.fine.faces_uv)
    back = displacement_at(picture, surface.fine.uv[used])
    error = back - surface.displacement_mm[surface.fine.uv_vertex[used]]
    assert np.abs(surface.displacement_mm).max() > 1
    assert np.sqrt((error**2).mean()) < 0.01
    assert np.abs(error).max() < 0.25


def test_displacement_values(surface):
    texels = uv_map(surface.fine, 512)
    flat = np.zeros(surface.fine.vertex_count, np.float32)
    values = [(flat + mm)[:, None][:, 0] for mm in (0, 4, -4, 9)]
    levels = [int(np.median(displacement_map(value, texels))) for value in values]
    assert levels == [32768, 65535, 0, 65535]
    assert abs(displacement_at(np.full((8, 8), 32768, np.uint16), np.full((1, 2), 0.5))[0]) < 1e-4


def relit_normals(picture, normals, tangents, texels):
    """Unit normals (P, 3) that a viewer computes from a normal map (S, S, 3) uint8 at the texels."""
    local = picture.reshape(-1, 3)[texels.texel] / 127.5 - 1
    world = np.einsum("pk,kcp->pc", local, np.stack(tangent_frames(normals, tangents, texels)))
    return world / np.linalg.norm(world, axis=1, keepdims=True)


def test_detailed_normals_come_back_from_the_map(surface):
    proxy = load_topology(surface.folder).only(FACE)
    normals = vertex_normals(surface.vertices, proxy)
    tangent = tangents(surface.vertices, normals, proxy)
    texels, fine_texels = uv_map(proxy, 512), uv_map(surface.fine, 512)
    detailed = fine_texels.sample(vertex_normals(surface.displaced, surface.fine))
    detailed = fine_texels.carried(detailed, texels)
    detailed /= np.linalg.norm(detailed, axis=1, keepdims=True)
    picture = normal_map(detailed, normals, tangent, texels)
    relit = relit_normals(picture, normals, tangent, texels)
    degrees = np.degrees(np.arccos((relit * detailed).sum(1).clip(-1, 1)))
    assert np.mean(degrees) < 0.3
    assert np.percentile(degrees, 99) < 0.5
    smooth = relit_normals(np.full_like(picture, 128), normals, tangent, texels)
    assert np.degrees(np.arccos((smooth * detailed).sum(1).clip(-1, 1))).mean() > 3


def test_a_flat_map_is_no_map(surface):
    proxy = load_topology(surface.folder).only(FACE)
    normals = vertex_normals(surface.vertices, proxy)
    tangent = tangents(surface.vertices, normals, proxy)
    texels = uv_map(proxy, 512)
    own = texels.sample(normals)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    picture = normal_map(own, normals, tangent, texels)
    assert np.abs(picture.astype(int) - [128, 128, 255]).max() <= 1
    flat = np.empty_like(picture)
    flat[:] = 128, 128, 255
    relit = relit_normals(flat, normals, tangent, texels)
    assert np.degrees(np.arccos((relit * own).sum(1).clip(-1, 1))).max() < 0.5


def test_a_bump_is_lit_from_above_where_green_is_bright(surface):
    """Green is up: on a bump of the forehead the upper slope has the larger green."""
    proxy = load_topology(surface.folder).only(FACE)
    normals = vertex_normals(surface.vertices, proxy)
    tangent = tangents(surface.vertices, normals, proxy)
    texels, fine_texels = uv_map(proxy, 512), uv_map(surface.fine, 512)
    at = surface.fine.uv[surface.fine.faces_uv]
    centre = np.array([0.5, 0.75], np.float32)
    bump = np.zeros(surface.fine.vertex_count, np.float32)
    bump[surface.fine.faces] = 3 * np.exp(-((at - centre) ** 2).sum(-1) / 0.03**2)
    displaced = surface.smooth + 0.1 * bump[:, None] * surface.fine_normals
    detailed = fine_texels.carried(fine_texels.sample(vertex_normals(displaced, surface.fine)), texels)
    picture = normal_map(detailed, normals, tangent, texels).astype(int)
    row, column, step = 128, 256, 10
    assert picture[row - step, column, 1] > 150 > 100 > picture[row + step, column, 1]
    assert picture[row, column + step, 0] > 150 > 100 > picture[row, column - step, 0]
