"""Topology of the head: parts, mirror image, division; normals and tangents."""

import numpy as np
import pytest
from subdivision import divided

from pipeline.details.grid import face_grid
from pipeline.fitting.head import fit_head
from pipeline.geometry.head_model import head_normals, load_face_model
from pipeline.geometry.mesh import (
    EYES,
    FACE,
    HEAD_PARTS,
    TEETH,
    Topology,
    load_topology,
    subdivided,
    tangents,
    vertex_normals,
    with_fine_part,
)


@pytest.fixture(scope="module")
def topology(ict_facekit):
    return load_topology(ict_facekit)


@pytest.fixture(scope="module")
def neutral(ict_facekit):
    return np.load(ict_facekit / "ict_facekit.npz")["neutral"]


def square(mirrored: bool = False) -> tuple[np.ndarray, Topology]:
    """A square of 2 cm that faces the viewer; its picture lies upright, or mirrored."""
    vertices = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    if mirrored:
        uv[:, 0] = 1 - uv[:, 0]
    faces = np.array([[0, 1, 2, 3]], np.int32)
    return vertices, Topology(faces, faces, uv, np.zeros(1, np.int8), ("square",), 4)


def test_every_texture_coordinate_lies_in_its_picture_and_has_one_vertex(topology):
    assert topology.vertex_count == 26719
    assert topology.uv.shape == (28911, 2)
    assert topology.uv.min() > 0
    assert topology.uv.max() < 1
    assert (topology.uv_vertex[topology.faces_uv] == topology.faces).all()
    for name in topology.part_names:
        used = topology.uv[np.unique(topology.only(name).faces_uv)]
        assert used.max(0).min() > 0.7, name


def test_parts(topology):
    face = topology.only(FACE)
    assert np.array_equal(np.unique(face.faces), np.arange(9409))
    head = topology.only(*HEAD_PARTS)
    assert len(head.triangles) == len(head.faces) + head.is_quad.sum()
    with pytest.raises(ValueError, match="not in"):
        topology.only("M_Beard")


def test_normals_are_those_of_the_renderer(topology, neutral, ict_facekit):
    model = load_face_model(ict_facekit)
    expected = head_normals(model, model.neutral[None])[0].numpy()
    head = topology.only(*HEAD_PARTS)
    face = np.unique(head.only(FACE, "M_BackHead").faces)
    found = vertex_normals(neutral, head)
    assert (found[face] * expected[face]).sum(1).min() > 0.99999


@pytest.mark.parametrize("mirrored", [False, True])
def test_tangent_frame_of_a_square(mirrored):
    vertices, topology = square(mirrored)
    normals = vertex_normals(vertices, topology)
    tangent = tangents(vertices, normals, topology)
    assert np.allclose(normals, [0, 0, 1])
    sign = -1 if mirrored else 1
    assert np.allclose(tangent, [sign, 0, 0, sign])
    # Along v (up in the picture) goes +y, whichever way u runs.
    assert np.allclose(np.cross(normals, tangent[:, :3]) * tangent[:, 3:], [0, 1, 0])


def test_tangents_of_the_head_follow_its_texture(topology, neutral):
    face = topology.only(FACE)
    normals = vertex_normals(neutral, face)
    tangent = tangents(neutral, normals, face)
    used = np.unique(face.faces_uv)
    assert np.allclose(np.linalg.norm(tangent[:, :3], axis=1), 1, atol=1e-5)
    assert np.abs((tangent[used, :3] * normals[face.uv_vertex[used]]).sum(1)).max() < 1e-5
    assert (tangent[used, 3] == 1).all()
    # At the tip of the nose u runs to the subject's left and v upwards.
    tip = np.argmax(neutral[face.uv_vertex[used], 2])
    assert tangent[used[tip], 0] > 0.99


def test_division_keeps_the_picture(topology, neutral):
    face = topology.only(FACE)
    corners = face.faces_uv
    points, children = divided(neutral[:9409], face.faces)
    finer = subdivided(face, children)
    assert (finer.uv_vertex[finer.faces_uv] == finer.faces).all()
    assert finer.vertex_count == len(points)
    # The children of a face cover it, and the child's opposite corner is its centre.
    assert np.allclose(finer.uv[finer.faces_uv[::4, 2]], face.uv[corners].mean(1), atol=1e-6)
    assert np.allclose(finer.uv[finer.faces_uv[:, 0]], face.uv[corners.ravel()])
    with pytest.raises(ValueError, match="four"):
        subdivided(topology, children)


def test_the_face_that_is_displaced_is_the_face_that_is_exported(topology, neutral, ict_facekit):
    head = fit_head(load_face_model(ict_facekit))
    fine = topology.only(FACE)
    assert np.array_equal(head.quads, fine.faces)
    grid = face_grid(head, 1)
    for step in grid.steps:
        fine = subdivided(fine, step.quads)
    whole = with_fine_part(topology.only(*HEAD_PARTS), fine, len(head.neutral))
    vertices = np.concatenate([grid.refine(neutral[: len(head.neutral)]), neutral[len(head.neutral) :]])
    normals = vertex_normals(vertices, whole)
    face = normals[: fine.vertex_count]
    coarse = vertex_normals(neutral, topology.only(*HEAD_PARTS))[: len(head.neutral)]
    assert np.median((face[: len(coarse)] * coarse).sum(1)) > 0.999
    # Other parts kept their vertices.
    for name in (TEETH, *EYES):
        before, after = (t.only(name).faces for t in (topology, whole))
        assert np.array_equal(neutral[before], vertices[after])
