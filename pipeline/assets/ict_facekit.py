"""The ICT-FaceKit face model, converted from its repository to the one archive that comes with Facet.

Upstream it is some 150 OBJ files, 2.5 MB of text each: a neutral head, and the same head once per identity
mode and once per expression. The archive holds the neutral head and the offsets of all the others; its keys:

    neutral            (V, 3) float32      vertices of the neutral head, cm; x image right, y up, z forward
    identity           (I, V, 3) float16   offset of identity mode i; coefficients ~ N(0, 1)
    expression         (E, V, 3) float16   offset of expression i at weight 1
    expression_names   (E,) str            jawOpen, mouthSmile_L, ...
    faces, faces_uv    (F, 4) int32        indices into neutral and uv; column 3 is -1 for a triangle
    uv                 (T, 2) float32      texture coordinates, v up
    face_material      (F,) int8           index into material_names
    material_names     (M,) str            M_Face, M_BackHead, ...
    landmarks68        (68,) int32         vertex ids of the 68 landmarks in dlib's order

float16 keeps the offsets to 5e-4 cm.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.assets.locate import ICT_FACEKIT_FILE, ICT_FACEKIT_FOLDER
from pipeline.assets.obj import read_obj, read_vertices
from pipeline.config import Section
from pipeline.errors import AssetsError

_KEYS = {
    *("neutral", "identity", "expression", "expression_names", "faces", "faces_uv", "uv"),
    *("face_material", "material_names", "landmarks68"),
}


class Manifest(Section):
    """Of which files of its repository the model consists, and what the finished archive must be.

    `content_sha256` pins the archive (see `content_digest`).
    """

    repository: str
    commit: str
    license: str
    neutral: str
    indices: str
    identity: list[str]
    expression: list[str]
    content_sha256: str


@cache
def pinned_manifest() -> Manifest:
    """Returns the manifest of the version that Facet uses."""
    return Manifest.model_validate_json(
        resources.files("pipeline.assets").joinpath("ict_facekit.json").read_text()
    )


def store(checkout: Path, folder: Path, manifest: Manifest | None = None) -> Path:
    """Converts a checkout of the repository; writes archive and licence to `folder`/ict_facekit.

    Returns:
        Path of the archive.

    Raises:
        AssetsError: A file is missing (asset_missing) or malformed (asset_malformed), they are not those that
            are pinned (asset_checksum), or the model cannot be stored (asset_unwritable).
    """
    manifest = manifest or pinned_manifest()
    archive = convert(checkout, manifest)
    _check_content(archive, manifest, checkout)
    target = folder / ICT_FACEKIT_FOLDER / ICT_FACEKIT_FILE
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(archive, target)
        shutil.copyfile(checkout / manifest.license, target.parent / "LICENSE")
    except OSError as error:
        raise AssetsError(f"Cannot store the model in {folder}: {error}.", code="asset_unwritable") from error
    return target


def convert(upstream: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """Converts the OBJ files of a checkout to the arrays of the archive (shapes above).

    Raises:
        AssetsError: A file is missing or malformed, or the meshes do not fit each other.
    """
    mesh = read_obj(_read(upstream, manifest.neutral), manifest.neutral)
    try:
        indices = json.loads(_read(upstream, manifest.indices))
        landmarks = np.array(indices["idx_to_landmark_verts"], np.int32)
    except (ValueError, KeyError, TypeError) as error:
        raise AssetsError(f"{manifest.indices} holds no landmarks.", code="asset_malformed") from error

    def offsets(names: Iterable[str]) -> np.ndarray:
        return np.stack([_offsets(_read(upstream, name), name, mesh.vertices) for name in names])

    return {
        "neutral": mesh.vertices,
        "identity": offsets(manifest.identity),
        "expression": offsets(manifest.expression),
        "expression_names": np.array([PurePosixPath(name).stem for name in manifest.expression]),
        "uv": mesh.uv,
        "faces": mesh.faces,
        "faces_uv": mesh.faces_uv,
        "face_material": mesh.face_material,
        "material_names": np.array(mesh.material_names),
        "landmarks68": landmarks,
    }


def verify(path: Path, manifest: Manifest | None = None) -> None:
    """Checks that an archive holds the pinned model.

    Raises:
        AssetsError: It cannot be read (asset_malformed) or holds something else (asset_checksum).
    """
    _check_content(load.__wrapped__(path), manifest or pinned_manifest(), path)


@lru_cache(maxsize=1)
def load(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of an archive, not to be changed (a second; the last one is kept).

    Raises:
        AssetsError: It cannot be read, or lacks some (asset_malformed).
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            archive = {key: file[key] for key in file.files}
    except Exception as error:  # zipfile, lzma and numpy raise many kinds on damaged files
        raise AssetsError(f"{path} cannot be read: {error}.", code="asset_malformed") from error
    if lacking := _KEYS - archive.keys():
        raise AssetsError(
            f"{path} is not the ICT-FaceKit model: it lacks {', '.join(sorted(lacking))}.",
            code="asset_malformed",
        )
    return archive


def content_digest(archive: dict[str, np.ndarray]) -> str:
    """Returns the SHA-256 over name, type, shape and bytes of every array, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(archive):
        array = np.ascontiguousarray(archive[key])
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _offsets(data: bytes, name: str, neutral: np.ndarray) -> np.ndarray:
    vertices = read_vertices(data, name)
    if vertices.shape != neutral.shape:
        raise AssetsError(
            f"{name} has {len(vertices)} vertices, the neutral head {len(neutral)}.", code="asset_malformed"
        )
    return (vertices - neutral).astype(np.float16)


def _check_content(archive: dict[str, np.ndarray], manifest: Manifest, path: Path) -> None:
    if content_digest(archive) != manifest.content_sha256:
        raise AssetsError(
            f"{path} is not the pinned ICT-FaceKit model (commit {manifest.commit[:7]}): wrong checksum.",
            code="asset_checksum",
        )


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise AssetsError(f"Cannot read {folder / name}: {error.strerror}.", code="asset_missing") from error


def _write(archive: dict[str, np.ndarray], path: Path) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        # Without allow_pickle: older versions of NumPy would store the option as one more array.
        np.savez_compressed(file, **archive)  # type: ignore[arg-type]
    os.replace(part, path)
