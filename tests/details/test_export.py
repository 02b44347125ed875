"""Heads of the product as files."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from gltf import Glb, Validator
from scipy.spatial import cKDTree

from pipeline import reconstruct_head
from pipeline.details.config import DetailsConfig
from pipeline.details.export import export_head, head_mesh
from pipeline.details.pictures import encode_maps
from pipeline.geometry.head_model import FACE_VERTICES

PHOTO = Path(__file__).resolve().parents[1] / "photos" / "rendered_1.jpg"


@pytest.fixture(scope="module")
def head():
    picture = cv2.imread(str(PHOTO), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return reconstruct_head(picture, DetailsConfig(texture_size=512))


@pytest.fixture(scope="module")
def pictures(head):
    return encode_maps(head.maps)


@pytest.fixture(scope="module")
def files(head, pictures):
    both = ("proxy", "detailed")
    return export_head(head, pictures, "photo.jpg", formats=("glb", "obj", "ply"), parts=both, unit="cm")


def test_all_that_a_head_has_is_there(files):
    assert set(files) >= {
        *(f"{part}.{ending}" for part in ("proxy", "detailed") for ending in ("glb", "obj", "mtl", "ply")),
        "camera.json",
        "displacement.json",
        "displacement.png",
        "visibility.png",
        "blender_displace.py",
        "face_texture.jpg",
        "face_normals.png",
    }
    for name in ("proxy.mtl", "detailed.mtl"):
        for line in files[name].decode().splitlines():
            if line.startswith(("map_Kd", "norm")):
                assert line.split()[1] in files


@pytest.mark.parametrize("part", ["proxy", "detailed"])
def test_the_validator_has_nothing_to_say(files, tmp_path, part):
    issues = Validator(tmp_path).report(files[f"{part}.glb"])["issues"]
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"][:3]


def test_the_proxy_moves_and_the_detailed_mesh_is_finer(files, head):
    proxy, detailed = Glb(files["proxy.glb"]).json, Glb(files["detailed.glb"]).json
    (mesh,) = proxy["meshes"]
    assert len(mesh["extras"]["targetNames"]) == 52
    named = dict(zip(mesh["extras"]["targetNames"], mesh["weights"], strict=True))
    assert named == pytest.approx(head.weights, abs=1e-6)
    assert any("normalTexture" in material for material in proxy["materials"])
    assert not any("normalTexture" in material for material in detailed["materials"])
    fine, coarse = (
        trimesh.load(io.BytesIO(files[f"{part}.ply"]), file_type="ply", process=False)
        for part in ("detailed", "proxy")
    )
    assert len(fine.vertices) > 5 * len(coarse.vertices)
    distance = cKDTree(fine.vertices).query(coarse.vertices)[0]
    assert np.percentile(distance, 90) < 0.2  # cm


def test_a_camera_sees_the_head_where_it_is_in_the_photo(head, pictures):
    found = export_head(head, pictures, "photo.jpg", formats=("ply",), space="camera", unit="mm")
    camera = json.loads(found["camera.json"])
    assert (camera["uri"], camera["unit"]) == ("photo.jpg", "mm")
    assert np.allclose(camera["model_to_camera"], np.eye(4))
    mesh = trimesh.load(io.BytesIO(found["proxy.ply"]), file_type="ply", process=False)
    x, y, z = mesh.vertices[:FACE_VERTICES].T
    u, v = camera["cx"] + camera["fx"] * x / -z, camera["cy"] - camera["fy"] * y / -z
    expected = head.view.project(head.to_camera(head.vertices[:FACE_VERTICES]))
    assert np.abs(np.stack([u, v], 1) - expected).max() < 0.01
    colours = mesh.visual.vertex_colors[:FACE_VERTICES, :3]
    inside = head.kit.head.skin & (mesh.vertex_normals[:FACE_VERTICES, 2] > 0.8)
    photo = cv2.imread(str(PHOTO), cv2.IMREAD_COLOR_RGB)
    at = np.rint(expected[inside]).astype(int)
    assert np.median(np.abs(colours[inside].astype(int) - photo[at[:, 1], at[:, 0]])) < 12


def test_model_space_and_the_cameras_matrix_lead_to_camera_space(head, pictures):
    found = export_head(head, pictures, "photo.jpg", formats=("ply",), unit="m")
    matrix = np.array(json.loads(found["camera.json"])["model_to_camera"])
    mesh = trimesh.load(io.BytesIO(found["proxy.ply"]), file_type="ply", process=False)
    moved = mesh.vertices[:FACE_VERTICES] @ matrix[:3, :3].T + matrix[:3, 3]
    assert np.abs(moved * 100 - head.to_camera(head.vertices[:FACE_VERTICES])).max() < 1e-3


def test_the_mesh_of_no_expression_is_the_base(head, pictures):
    mesh = head_mesh(head, pictures)
    base = mesh.vertices - sum(weight * mesh.targets[name] for name, weight in mesh.weights.items())
    neutral = head.kit.vertices(head.identity, np.zeros(53))
    # Halves that ARKit joins leave what differs between left and right.
    assert np.abs(base - neutral).max() < 0.25
