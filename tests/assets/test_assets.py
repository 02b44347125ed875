"""Fetching, converting and finding the face model, against a real HTTP server on the loopback."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import shutil
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from jobs.assets import command
from pipeline.assets import find_ict_facekit, ict_facekit
from pipeline.assets.download import download
from pipeline.assets.ict_facekit import Manifest, content_digest, convert, fetch, offsets_digest, verify
from pipeline.assets.obj import read_obj
from pipeline.assets.registry import assets
from pipeline.errors import AssetsError


@dataclass
class Behaviour:
    """What the server does wrong, and what it was asked for."""

    break_after: dict[str, list[int]] = field(default_factory=dict)  # file -> bytes sent before each break
    fail: dict[str, list[int]] = field(default_factory=dict)  # file -> status codes of the first answers
    replace: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(tmp_path):
    """Serves tmp_path/served; yields (base URL, folder, Behaviour)."""
    root, behaviour = tmp_path / "served", Behaviour()
    root.mkdir()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            behaviour.asked.append(name)
            if behaviour.fail.get(name):
                return self.send_error(behaviour.fail[name].pop(0))
            if not (root / name).is_file():
                return self.send_error(404)
            data = behaviour.replace.get(name, (root / name).read_bytes())
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            breaks = behaviour.break_after.get(name)
            self.wfile.write(data[: breaks.pop(0)] if breaks else data)
            return None

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", root, behaviour
        httpd.shutdown()
        thread.join()


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
    pinned = {name: offsets_digest(value) for name, value in offsets.items()}
    neutral_bytes = (folder / "FaceXModel/neutral.obj").read_bytes()
    manifest = Manifest(
        repository="https://example.org/model",
        commit="0123456789abcdef",
        base_url="http://127.0.0.1:1/nowhere",
        license="LICENSE",
        neutral="FaceXModel/neutral.obj",
        indices="FaceXModel/vertex_indices.json",
        identity={f"FaceXModel/identity{i:03}.obj": pinned[f"identity{i:03}"] for i in range(3)},
        expression={f"FaceXModel/{name}.obj": pinned[name] for name in ("jawOpen", "browDown_L")},
        sha256={"FaceXModel/neutral.obj": hashlib.sha256(neutral_bytes).hexdigest()},
        content_sha256=content_digest(archive),
    )
    return folder, manifest, archive


@pytest.fixture
def served(server, model):
    """The tiny model on the server: (base URL, Behaviour, Manifest, archive)."""
    url, root, behaviour = server
    folder, manifest, archive = model
    shutil.copytree(folder, root, dirs_exist_ok=True)
    return url, behaviour, manifest, archive


def assert_holds(path: Path, archive: dict[str, np.ndarray]) -> None:
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == set(archive)
        for key, expected in archive.items():
            assert file[key].dtype == expected.dtype
            np.testing.assert_array_equal(file[key], expected)


def test_fetch_downloads_converts_and_cleans_up(served, tmp_path):
    url, behaviour, manifest, archive = served
    seen = []
    path = fetch(tmp_path / "assets", url, manifest, connections=3, on_file=seen.append)
    assert path == tmp_path / "assets/ict_facekit/ict_facekit.npz"
    assert_holds(path, archive)
    assert sorted(p.name for p in path.parent.iterdir()) == ["LICENSE", "ict_facekit.npz"]
    assert (path.parent / "LICENSE").read_text() == "MIT License\n"
    assert len(seen) == len(set(seen)) == manifest.file_count() == len(behaviour.asked)

    assert fetch(tmp_path / "assets", url, manifest) == path, "a second fetch has nothing to do"
    assert len(behaviour.asked) == manifest.file_count()


def test_fetch_takes_a_checkout_and_leaves_it_alone(model, tmp_path):
    folder, manifest, archive = model
    before = sorted(folder.rglob("*"))
    assert_holds(fetch(tmp_path / "assets", str(folder), manifest), archive)
    assert sorted(folder.rglob("*")) == before


def test_fetch_replaces_an_altered_archive(model, tmp_path):
    folder, manifest, archive = model
    path = fetch(tmp_path / "assets", str(folder), manifest)
    path.write_bytes(path.read_bytes()[:-20])
    assert_holds(fetch(tmp_path / "assets", str(folder), manifest), archive)


def test_broken_connections_are_tried_again(served, tmp_path):
    url, behaviour, manifest, archive = served
    name = "FaceXModel/identity001.obj"
    behaviour.break_after[name] = [100, 0]
    assert_holds(fetch(tmp_path / "assets", url, manifest, backoff_s=0), archive)
    assert behaviour.asked.count(name) == 3


def test_a_stopped_run_goes_on_in_the_next(served, tmp_path):
    url, behaviour, manifest, archive = served
    name = "FaceXModel/jawOpen.obj"
    behaviour.break_after[name] = [120, 0, 0, 0, 0, 0]
    with pytest.raises(AssetsError, match="connection") as caught:
        fetch(tmp_path / "assets", url, manifest, connections=1, backoff_s=0)
    assert caught.value.code == "asset_download"
    behaviour.asked.clear()
    assert_holds(fetch(tmp_path / "assets", url, manifest), archive)
    assert name in behaviour.asked
    assert "FaceXModel/neutral.obj" not in behaviour.asked, "whole files are not asked for again"


@pytest.mark.parametrize("change", [("1", "2"), ("v ", "<html>"), ("\nv ", "\nv 9 ")])
def test_wrong_bytes_are_refused_and_removed(change, served, tmp_path):
    url, behaviour, manifest, archive = served
    name = "FaceXModel/identity002.obj"
    right = (tmp_path / "served" / name).read_text()
    behaviour.replace[name] = right.replace(*change, 1).encode()
    with pytest.raises(AssetsError, match=r"identity002\.obj is not the file that is pinned") as caught:
        fetch(tmp_path / "assets", url, manifest, connections=1)
    assert caught.value.code == "asset_checksum"
    assert not (tmp_path / "assets/ict_facekit/upstream" / name).exists()
    assert not (tmp_path / "assets/ict_facekit/ict_facekit.npz").exists()
    behaviour.replace.clear()
    assert_holds(fetch(tmp_path / "assets", url, manifest), archive)


def test_wrong_bytes_of_the_neutral_head_are_refused(served, tmp_path):
    url, behaviour, manifest, _ = served
    behaviour.replace[manifest.neutral] = b"# " + (tmp_path / "served" / manifest.neutral).read_bytes()
    with pytest.raises(AssetsError) as caught:
        fetch(tmp_path / "assets", url, manifest)
    assert caught.value.code == "asset_checksum"


def test_unpinned_parts_are_covered_by_the_content_digest(served, tmp_path):
    url, behaviour, manifest, _ = served
    behaviour.replace[manifest.indices] = b'{"idx_to_landmark_verts": [5, 0, 4]}'
    with pytest.raises(AssetsError) as caught:
        fetch(tmp_path / "assets", url, manifest)
    assert caught.value.code == "asset_checksum"


def test_busy_servers_are_asked_again_and_refusals_are_final(served, tmp_path):
    url, behaviour, manifest, archive = served
    behaviour.fail["LICENSE"] = [503, 429]
    assert_holds(fetch(tmp_path / "assets", url, manifest, backoff_s=0), archive)
    behaviour.asked.clear()
    with pytest.raises(AssetsError, match="404") as caught:
        fetch(tmp_path / "other", url + "/elsewhere", manifest, backoff_s=0)
    assert caught.value.code == "asset_download"
    assert len(behaviour.asked) == 1


def test_no_server_is_one_clear_error(model, tmp_path):
    _, manifest, _ = model
    with pytest.raises(AssetsError, match=r"Cannot download http://127\.0\.0\.1:1/nowhere/LICENSE") as caught:
        fetch(tmp_path / "assets", manifest=manifest, backoff_s=0)
    assert caught.value.code == "asset_download"


def test_files_beyond_the_limit_are_refused(server, tmp_path):
    url, root, _ = server
    (root / "file").write_bytes(bytes(1000))
    with pytest.raises(AssetsError, match="larger than the 100 bytes"):
        download(f"{url}/file", tmp_path / "file", max_bytes=100)
    assert not list(tmp_path.glob("file*"))


def test_a_place_that_cannot_be_written(model, tmp_path):
    folder, manifest, _ = model
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(AssetsError) as caught:
        fetch(tmp_path / "taken", str(folder), manifest)
    assert caught.value.code == "asset_unwritable"


def test_verify_finds_damage_and_pickles(model, tmp_path):
    folder, manifest, archive = model
    path = fetch(tmp_path / "assets", str(folder), manifest)
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
    with pytest.raises(AssetsError, match=r"the given path.*facet assets fetch ict-facekit") as caught:
        find_ict_facekit(tmp_path / "nothing")
    assert caught.value.code == "asset_missing"


def test_real_files_convert_to_the_pinned_model(ict_facekit):
    pinned = ict_facekit_manifest()
    verify(ict_facekit / "ict_facekit.npz")
    sample = ict_facekit / "upstream_sample"
    if not sample.exists():
        pytest.skip("no OBJ files beside the model")

    def upstream(name: str) -> bytes:
        data = gzip.decompress((sample / f"{name}.obj.gz").read_bytes())
        assert hashlib.sha256(data).hexdigest() == pinned.sha256[f"FaceXModel/{name}.obj"]
        return data

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
        digests = pinned.identity | pinned.expression
        assert offsets_digest(row) == digests[f"FaceXModel/{name}.obj"]
    indices = (sample / "vertex_indices.json").read_bytes()
    assert hashlib.sha256(indices).hexdigest() == pinned.sha256[pinned.indices]
    np.testing.assert_array_equal(json.loads(indices)["idx_to_landmark_verts"], landmarks)


def ict_facekit_manifest() -> Manifest:
    # The fixture of the same name hides the module inside the test.
    return ict_facekit.pinned_manifest()


def test_pinned_manifest_names_every_file():
    pinned = ict_facekit_manifest()
    assert pinned.file_count() == 156
    assert len(pinned.commit) == 40
    assert pinned.commit in pinned.base_url
    assert list(pinned.identity) == [f"FaceXModel/identity{i:03}.obj" for i in range(100)]
    digests = [*pinned.identity.values(), *pinned.expression.values(), pinned.content_sha256]
    assert all(len(digest) == 64 for digest in digests)
    assert len(set(digests)) == len(digests)


def test_command_line(served, tmp_path, monkeypatch):
    url, _, manifest, archive = served
    monkeypatch.setattr(ict_facekit, "pinned_manifest", lambda: manifest)
    monkeypatch.delenv("FACET_ASSETS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    path = tmp_path / "data/facet/assets/ict_facekit/ict_facekit.npz"

    def run(*arguments: str) -> str:
        return CliRunner().invoke(command, arguments, catch_exceptions=False).stdout

    listing = run("list")
    assert str(find_ict_facekit()) in listing
    assert "non-commercial" in listing
    assert set(assets()) <= {line.split(":")[0] for line in listing.splitlines()}
    assert run("fetch", "ict-facekit", "--from", url).strip() == str(path)
    assert_holds(path, archive)
    assert run("path", "ict-facekit").strip() == str(path)
    assert run("verify").count("as pinned") == 3
    path.write_bytes(b"damaged")
    for arguments, code in (
        (["verify", "ict-facekit"], "asset_malformed"),
        (["path", "mtcnn"], "asset_unknown"),
    ):
        with pytest.raises(AssetsError) as caught:
            run(*arguments)
        assert caught.value.code == code
