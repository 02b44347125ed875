"""GLB, OBJ and PLY files of a head: valid, and the same when read back."""

import io
import json
import re

import numpy as np
import pytest
import trimesh
from gltf import Glb, Validator
from subdivision import head_surface

from pipeline.geometry.arkit import arkit_targets, arkit_weights
from pipeline.geometry.head_model import load_face_model
from pipeline.geometry.mesh import (
    BACK_HEAD,
    EYES,
    FACE,
    GUMS,
    HEAD_PARTS,
    TEETH,
    load_topology,
    vertex_normals,
    with_fine_part,
)
from pipeline.geometry.mesh_files import GUMS_MATERIAL, TEETH_MATERIAL, Material, Mesh
from pipeline.geometry.mesh_files.folder import facts_file, mesh_files
from pipeline.geometry.mesh_files.glb import write_glb
from pipeline.geometry.mesh_files.obj import write_mtl, write_obj
from pipeline.geometry.mesh_files.ply import write_ply
from pipeline.geometry.mesh_files.sidecars import blender_script, camera_facts, displacement_facts
from pipeline.images.png import encode_png


@pytest.fixture(scope="module")
def materials():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32], picture[32:] = (220, 160, 140), (90, 60, 50)
    flat = np.empty_like(picture)
    flat[:] = 128, 128, 255
    skin = Material(texture=encode_png(picture), normal_map=encode_png(flat))
    white = Material((0.8, 0.8, 0.8))
    return {FACE: skin, BACK_HEAD: Material(), GUMS: GUMS_MATERIAL, TEETH: TEETH_MATERIAL} | dict.fromkeys(
        EYES, white
    )


@pytest.fixture(scope="module")
def mesh(ict_facekit, materials):
    """A head that smiles on one side more than on the other."""
    model = load_face_model(ict_facekit)
    expression = np.zeros(53, np.float32)
    for name, weight in (("mouthSmile_L", 0.8), ("mouthSmile_R", 0.6), ("jawOpen", 0.3)):
        expression[model.expression_index(name)] = weight
    flat = model.neutral.numpy().ravel() + expression @ model.expression.numpy()
    vertices = flat.reshape(-1, 3)
    weights = arkit_weights(model.expression_names, expression)
    topology = load_topology(ict_facekit)
    return Mesh(vertices, topology, materials, arkit_targets(model, vertices), weights)


@pytest.fixture(scope="module")
def detailed(ict_facekit, materials):
    surface = head_surface(ict_facekit)
    head = load_topology(ict_facekit).only(*HEAD_PARTS)
    vertices = np.concatenate([surface.displaced, surface.vertices[9409:]])
    return Mesh(vertices, with_fine_part(head, surface.fine, 9409), materials)


@pytest.fixture(scope="module")
def validator(tmp_path_factory):
    return Validator(tmp_path_factory.mktemp("validator"))


def clean(report: dict) -> bool:
    return not any(report["issues"][key] for key in ("numErrors", "numWarnings", "numInfos", "numHints"))


def test_the_validator_has_nothing_to_say(mesh, detailed, validator):
    report = validator.report(write_glb(mesh))
    assert clean(report), report["issues"]
    assert report["info"]["hasMorphTargets"]
    assert report["info"]["drawCallCount"] == 6
    report = validator.report(write_glb(detailed))
    assert clean(report), report["issues"]
    assert report["info"]["totalTriangleCount"] > 300_000
    bare = Mesh(mesh.vertices, mesh.topology, {FACE: Material()})
    assert clean(validator.report(write_glb(bare, "cm")))


def test_the_validator_finds_faults(mesh, validator):
    broken = bytearray(write_glb(mesh))
    at = broken.index(b'"NORMAL"')
    broken[at : at + 8] = b'"NORMIL"'
    assert not clean(validator.report(bytes(broken)))


def test_default_weights_give_the_mesh_as_it_came(mesh):
    glb = Glb(write_glb(mesh))
    shape = glb.json["meshes"][0]
    names = shape["extras"]["targetNames"]
    weights = dict(zip(names, shape["weights"], strict=True))
    assert len(names) == 52
    assert weights["mouthSmileLeft"] == pytest.approx(0.8)
    assert weights["jawOpen"] == pytest.approx(0.3)
    normals = vertex_normals(mesh.vertices, mesh.drawn)
    for primitive, part in zip(shape["primitives"], mesh.materials, strict=True):
        ids = np.unique(mesh.topology.only(part).faces_uv)
        shown = {key: glb.values(primitive["attributes"][key]) for key in ("POSITION", "NORMAL")}
        for name, target in zip(names, primitive["targets"], strict=True):
            if weights[name]:
                for key in shown:
                    shown[key] += np.float32(weights[name]) * glb.values(target[key])
        vertex = mesh.topology.uv_vertex[ids]
        assert np.abs(shown["POSITION"] - 0.01 * mesh.vertices[vertex]).max() < 3e-6
        # Normals are not linear in the weights: nearly right is what morph targets can give.
        length = np.linalg.norm(shown["NORMAL"], axis=1)
        assert np.median((shown["NORMAL"] * normals[vertex]).sum(1) / length) > 0.9995


def test_targets_of_the_file_are_those_of_the_model(mesh):
    glb = Glb(write_glb(mesh, "cm"))
    shape = glb.json["meshes"][0]
    position = shape["extras"]["targetNames"].index("eyeLookUpRight")
    right_eye = list(mesh.materials).index(EYES[1])
    found = glb.values(shape["primitives"][right_eye]["targets"][position]["POSITION"])
    ids = np.unique(mesh.topology.only(EYES[1]).faces_uv)
    expected = mesh.targets["eyeLookUpRight"][mesh.topology.uv_vertex[ids]]
    assert np.abs(found - expected).max() <= 1e-4
    assert np.abs(found).max() > 0.4


def read(data: bytes, kind: str):
    return trimesh.load(io.BytesIO(data), file_type=kind, process=False, maintain_order=True)


def test_glb_through_trimesh(mesh):
    still = Mesh(mesh.vertices, mesh.topology, mesh.materials)
    scene = read(write_glb(still), "glb")
    assert len(scene.geometry) == 6
    vertices = np.concatenate([part.vertices for part in scene.geometry.values()])
    assert len(vertices) == len(np.unique(mesh.drawn.faces_uv))
    shown = mesh.vertices[np.unique(mesh.drawn.faces)]
    assert np.allclose(scene.bounds / 0.01, [shown.min(0), shown.max(0)], atol=1e-4)
    face = next(part for part in scene.geometry.values() if len(part.faces) == 18460)
    used = np.unique(mesh.topology.only(FACE).faces_uv)
    assert np.allclose(face.visual.uv, mesh.topology.uv[used], atol=1e-6)
    assert face.visual.material.baseColorTexture.size == (64, 64)
    assert np.allclose(face.visual.material.baseColorTexture.getpixel((0, 0)), (220, 160, 140))
    assert face.visual.material.normalTexture is not None
    normals = vertex_normals(mesh.vertices, mesh.drawn)[mesh.topology.uv_vertex[used]]
    assert np.allclose(face.vertex_normals, normals, atol=1e-4)


@pytest.mark.parametrize(("unit", "scale"), [("m", 0.01), ("cm", 1), ("mm", 10)])
def test_ply_and_obj_through_trimesh(mesh, unit, scale):
    ids = np.unique(mesh.drawn.faces)
    ply = read(write_ply(mesh, unit), "ply")
    assert np.allclose(ply.vertices, mesh.vertices[ids] * scale, atol=1e-4 * scale)
    assert np.array_equal(ply.faces, np.searchsorted(ids, mesh.drawn.triangles))
    obj = trimesh.load(io.BytesIO(write_obj(mesh, unit)), file_type="obj", process=False, force="mesh")
    assert len(obj.faces) == len(mesh.drawn.triangles)
    assert np.allclose(obj.bounds, ply.bounds, atol=1e-4 * scale)
    assert obj.area == pytest.approx(ply.area, rel=1e-3)  # quads are cut along either diagonal


def test_ply_has_normals_and_colours(mesh):
    colours = np.arange(len(mesh.vertices) * 3).reshape(-1, 3).astype(np.uint8)
    ids = np.unique(mesh.drawn.faces)
    found = read(write_ply(mesh, colours=colours), "ply")
    assert np.array_equal(found.visual.vertex_colors[:, :3], colours[ids])
    assert np.allclose(found.vertex_normals, vertex_normals(mesh.vertices, mesh.drawn)[ids], atol=1e-5)


def test_obj_shares_vertices_and_keeps_quads(mesh):
    data = write_obj(mesh, "cm", "head.mtl").decode()
    assert "mtllib head.mtl" in data
    vertices = np.array([line.split()[1:] for line in re.findall(r"^v .*", data, re.M)], float)
    uv = np.array([line.split()[1:] for line in re.findall(r"^vt .*", data, re.M)], float)
    ids = np.unique(mesh.drawn.faces)
    assert np.abs(vertices - mesh.vertices[ids]).max() < 1e-5
    assert len(uv) == len(np.unique(mesh.drawn.faces_uv)) > len(vertices)
    faces = re.findall(r"^f .*", data, re.M)
    assert sum(len(face.split()) == 5 for face in faces) == mesh.drawn.is_quad.sum()
    assert len(faces) == len(mesh.drawn.faces)
    assert re.findall(r"^usemtl (.*)", data, re.M) == [
        name for name in mesh.topology.part_names if name in mesh.materials
    ]


def test_mtl_names_the_pictures(materials):
    text = write_mtl(materials, {FACE: "texture.jpg", f"{FACE} normals": "normals.png"}).decode()
    assert text.count("newmtl") == 6
    assert "map_Kd texture.jpg" in text
    assert "norm normals.png" in text


def test_files_are_the_same_every_time(mesh):
    for write in (write_glb, write_obj, write_ply):
        assert write(mesh) == write(mesh)


def test_camera_space(mesh):
    rotation = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)
    translation = np.array([1, 2, -80], np.float32)
    moved = mesh.moved(rotation, translation)
    assert np.allclose(moved.vertices[7], rotation @ mesh.vertices[7] + translation, atol=1e-5)
    jaw = mesh.targets["jawOpen"]
    assert np.allclose(moved.targets["jawOpen"], jaw @ rotation.T)
    facts = camera_facts(
        "a.jpg", (640, 480), 900, (320, 240), rotation=rotation, translation=translation, unit="mm"
    )
    point = np.array(facts["model_to_camera"]) @ [*(10 * mesh.vertices[7]), 1]
    assert np.allclose(point[:3], 10 * moved.vertices[7], atol=1e-3)
    assert json.loads(json.dumps(facts))["fx"] == 900


@pytest.mark.parametrize(("unit", "strength"), [("m", 0.008), ("cm", 0.8), ("mm", 8)])
def test_displacement_facts(unit, strength):
    facts = displacement_facts(4.0)
    assert facts[f"strength_{unit}"] == pytest.approx(strength)
    assert facts["colourspace"] == "Non-Color"
    script = blender_script(4.0, unit)
    compile(script, "blender_displace.py", "exec")
    assert f"0.5, {strength}" in script


def test_a_folder_holds_what_its_files_name(mesh, tmp_path):
    files = mesh_files("proxy", mesh, ("obj", "ply"), "cm")
    assert set(files) == {"proxy.obj", "proxy.mtl", "proxy.ply", "face_texture.png", "face_normals.png"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    scene = trimesh.load(tmp_path / "proxy.obj", process=False, group_material=True)
    pictures = [part.visual.material.image for part in scene.geometry.values()]
    assert sum(picture is not None and picture.size == (64, 64) for picture in pictures) == 1
    with pytest.raises(ValueError, match="fbx"):
        mesh_files("proxy", mesh, ("fbx",))


def test_sidecars_are_json():
    facts = displacement_facts(4.0)
    assert json.loads(facts_file(facts)) == facts
