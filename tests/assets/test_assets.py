"""Converting, checking and finding the face model."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from jobs.assets import command
from pipeline.assets import find_ict_facekit, ict_facekit
from pipeline.assets.ict_facekit import Manifest, content_digest, convert, store, verify
from pipeline.assets.obj import read_obj
from pipeline.assets.registry import assets
from pipeline.errors import AssetsError


def obj_text(vertices: np.ndarray) -> str:
    """A strip of one quad and one triangle with two materials over six vertices."""
    lines = ["# a comment", "mtllib x.mtl"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    lines += [f"vt {0.1 * i:.6f} {1 - 0.1 * i:.6f}" for i in range(7)]
    lines += ["usemtl M_Face", "f 1/1 2/2 3/3 4/4", "usemtl M_Teeth", "f 4/4 5/5 6/7"]
    return "\n".join(lines) + "\n"


@pytest.fixture
def model(tmp_path):
    """A tiny model in the form of the real one: (folder as upstream, Manifest, archive)."""
    rng = np.random.default_rng(0)
    neutral = rng.normal(0, 10, (6, 3)).round(6).astype(np.float32)
    folder = tmp_path / "upstream"
    (folder / "FaceXModel").mkdir(parents=True)
    (folder / "LICENSE").write_text("MIT License\n")
    (folder / "FaceXModel/vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": [5, 0, 3]}))
    (folder / "FaceXModel/neutral.obj").write_text(obj_text(neutral))
    offsets = {}
    for name in ("identity000", "identity001", "identity002", "jawOpen", "browDown_L"):
        text = obj_text(neutral + rng.normal(0, 1, neutral.shape))
        (folder / f"FaceXModel/{name}.obj").write_text(text)
        vertices = np.array([line.split()[1:] for line in text.splitlines() if line.startswith("v ")], float)
        offsets[name] = (vertices.astype(np.float32) - neutral).astype(np.float16)
    archive = {
        "neutral": neutral,
        "identity": np.stack([offsets[f"identity{i:03}"] for i in range(3)]),
        "expression": np.stack([offsets["jawOpen"], offsets["browDown_L"]]),
        "expression_names": np.array(["jawOpen", "browDown_L"]),
        "uv": np.stack([0.1 * np.arange(7), 1 - 0.1 * np.arange(7)], 1).round(6).astype(np.float32),
        "faces": np.array([[0, 1, 2, 3], [3, 4, 5, -1]], np.int32),
        "faces_uv": np.array([[0, 1, 2, 3], [3, 4, 6, -1]], np.int32),
        "face_material": np.array([0, 1], np.int8),
        "material_names": np.array(["M_Face", "M_Teeth"]),
        "landmarks68": np.array([5, 0, 3], np.int32),
    }
    manifest = Manifest(
        repository="https://example.org/model",
        commit="0123456789abcdef",
        license="LICENSE",
        neutral="FaceXModel/neutral.obj",
        indices="FaceXModel/vertex_indices.json",
        identity=[f"FaceXModel/identity{i:03}.obj" for i in range(3)],
        expression=[f"FaceXModel/{name}.obj" for name in ("jawOpen", "browDown_L")],
        content_sha256=content_digest(archive),
    )
    return folder, manifest, archive


def assert_holds(path: Path, archive: dict[str, np.ndarray]) -> None:
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == set(archive)
        for key, expected in archive.items():
            assert file[key].dtype == expected.dtype
            np.testing.assert_array_equal(file[key], expected)


def test_a_checkout_is_converted_and_left_alone(model, tmp_path):
    folder, manifest, archive = model
    before = sorted(folder.rglob("*"))
    path = store(folder, tmp_path / "assets", manifest)
    assert path == tmp_path / "assets/ict_facekit/ict_facekit.npz"
    assert_holds(path, archive)
    assert (path.parent / "LICENSE").read_text() == "MIT License\n"
    assert sorted(folder.rglob("*")) == before
    path.write_bytes(b"altered")
    assert_holds(store(folder, tmp_path / "assets", manifest), archive)


def test_another_version_is_refused(model, tmp_path):
    folder, manifest, _ = model
    (folder / manifest.indices).write_text('{"idx_to_landmark_verts": [5, 0, 4]}')
    with pytest.raises(AssetsError) as caught:
        store(folder, tmp_path / "assets", manifest)
    assert caught.value.code == "asset_checksum"
    (folder / manifest.expression[1]).unlink()
    with pytest.raises(AssetsError) as caught:
        store(folder, tmp_path / "assets", manifest)
    assert caught.value.code == "asset_missing"
    assert not (tmp_path / "assets").exists()


def test_a_place_that_cannot_be_written(model, tmp_path):
    folder, manifest, _ = model
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(AssetsError) as caught:
        store(folder, tmp_path / "taken", manifest)
    assert caught.value.code == "asset_unwritable"


def test_verify_finds_damage_and_pickles(model, tmp_path):
    folder, manifest, archive = model
    path = store(folder, tmp_path / "assets", manifest)
    verify(path, manifest)
    codes = Counter()
    np.savez(tmp_path / "other.npz", **{**archive, "uv": archive["uv"] + 1})
    np.savez(tmp_path / "pickle.npz", uv=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("<html>")
    for name in ("other", "pickle", "text", "absent"):
        with pytest.raises(AssetsError) as caught:
            verify(tmp_path / f"{name}.npz", manifest)
        codes[caught.value.code] += 1
    assert codes == {"asset_checksum": 1, "asset_malformed": 3}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("f 1/1 2/2 3/3 4/4", "f 1/1 2/2"),
        ("f 1/1 2/2 3/3 4/4", "f 1//1 2//2 3//3"),
        ("f 1/1 2/2 3/3 4/4", "f 1/1/1 2/2/1 3/3/1"),
        ("f 1/1 2/2 3/3 4/4", "f 1/1 2/2 99/3"),
        ("f 1/1 2/2 3/3 4/4", "f -1/1 2/2 3/3"),
        ("usemtl M_Face", "g M_Face"),
        ("vt 0.100000", "vt nan"),
        ("vt 0.100000 0.900000", "vt 0.1"),
        ("v ", "v x"),
    ],
)
def test_meshes_of_another_form_are_refused(old, new):
    text = obj_text(np.zeros((6, 3)))
    assert old in text
    with pytest.raises(AssetsError) as caught:
        read_obj(text.replace(old, new, 1).encode(), "mesh.obj")
    assert caught.value.code == "asset_malformed"


def test_meshes_of_different_size_are_refused(model):
    folder, manifest, _ = model
    (folder / "FaceXModel/jawOpen.obj").write_text("v 0 0 0\n")
    with pytest.raises(AssetsError, match="1 vertices, the neutral head 6"):
        convert(folder, manifest)


def test_find_takes_option_then_environment_then_user_folder_then_the_own_copy(tmp_path, monkeypatch):
    def place(folder: Path) -> Path:
        (folder / "ict_facekit").mkdir(parents=True)
        path = folder / "ict_facekit" / "ict_facekit.npz"
        path.touch()
        return path

    monkeypatch.delenv("FACET_ASSETS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    verify(find_ict_facekit())  # the copy that comes with Facet is the pinned one
    own = place(tmp_path / "data/facet/assets")
    assert find_ict_facekit() == own
    other = place(tmp_path / "other")
    monkeypatch.setenv("FACET_ASSETS", str(tmp_path / "other"))
    assert find_ict_facekit() == other
    monkeypatch.setenv("FACET_ASSETS", str(other.parent))
    assert find_ict_facekit() == other
    given = place(tmp_path / "given")
    assert find_ict_facekit(given) == given
    with pytest.raises(AssetsError, match="the given path") as caught:
        find_ict_facekit(tmp_path / "nothing")
    assert caught.value.code == "asset_missing"


def test_real_files_convert_to_the_pinned_model(ict_facekit):
    pinned = ict_facekit_manifest()
    verify(ict_facekit / "ict_facekit.npz")
    sample = ict_facekit / "upstream_sample"
    if not sample.exists():
        pytest.skip("no OBJ files beside the model")

    def upstream(name: str) -> bytes:
        return gzip.decompress((sample / f"{name}.obj.gz").read_bytes())

    with np.load(ict_facekit / "ict_facekit.npz") as file:
        mesh = read_obj(upstream("generic_neutral_mesh"), "neutral")
        for ours, theirs in (
            (mesh.vertices, "neutral"),
            (mesh.uv, "uv"),
            (mesh.faces, "faces"),
            (mesh.faces_uv, "faces_uv"),
            (mesh.face_material, "face_material"),
            (np.array(mesh.material_names), "material_names"),
        ):
            assert ours.dtype == file[theirs].dtype
            np.testing.assert_array_equal(ours, file[theirs])
        names = file["expression_names"].tolist()
        assert [Path(name).stem for name in pinned.expression] == names
        rows = {"identity000": file["identity"][0], "jawOpen": file["expression"][names.index("jawOpen")]}
        landmarks = file["landmarks68"]
    for name, row in rows.items():
        offsets = read_obj(upstream(name), name).vertices - mesh.vertices
        np.testing.assert_array_equal(offsets.astype(np.float16).view(np.uint16), row.view(np.uint16))
    indices = (sample / "vertex_indices.json").read_bytes()
    np.testing.assert_array_equal(json.loads(indices)["idx_to_landmark_verts"], landmarks)


def ict_facekit_manifest() -> Manifest:
    # The fixture of the same name hides the module inside the test.
    return ict_facekit.pinned_manifest()


def test_command_line(model, tmp_path, monkeypatch):
    folder, manifest, _ = model
    monkeypatch.delenv("FACET_ASSETS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def run(*arguments: str) -> str:
        return CliRunner().invoke(command, arguments, catch_exceptions=False).stdout

    listing = run("list")
    assert str(find_ict_facekit()) in listing
    assert "non-commercial" in listing
    assert set(assets()) <= {line.split(":")[0] for line in listing.splitlines()}
    assert run("verify").count("as pinned") == 3
    with pytest.raises(AssetsError, match=r"Cannot read .*generic_neutral_mesh"):
        run("convert", str(folder))
    path = store(folder, tmp_path / "data/facet/assets", manifest)
    assert run("path", "ict-facekit").strip() == str(path)
    path.write_bytes(b"damaged")
    for arguments, code in (
        (["verify", "ict-facekit"], "asset_malformed"),
        (["path", "mtcnn"], "asset_unknown"),
    ):
        with pytest.raises(AssetsError) as caught:
            run(*arguments)
        assert caught.value.code == code
