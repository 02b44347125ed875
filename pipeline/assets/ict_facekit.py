"""The ICT-FaceKit face model: fetched from its repository, checked and converted to one archive.

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

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.assets.download import download
from pipeline.assets.locate import ICT_FACEKIT_FILE, ICT_FACEKIT_FOLDER
from pipeline.assets.obj import read_obj, read_vertices
from pipeline.config import Section
from pipeline.errors import AssetsError

MAX_FILE_BYTES = 1 << 25


class Manifest(Section):
    """What the model consists of and what its files must be. Paths are relative to `base_url`.

    Each file of offsets is pinned by what the archive keeps of it, the digest of its float16 offsets; the
    others by the digest of their bytes. `content_sha256` pins the finished archive (see `content_digest`).
    """

    repository: str
    commit: str
    base_url: str
    license: str
    neutral: str
    indices: str
    identity: dict[str, str]
    expression: dict[str, str]
    sha256: dict[str, str]
    content_sha256: str

    def file_count(self) -> int:
        """Returns the number of files to fetch."""
        return 3 + len(self.identity) + len(self.expression)


@cache
def pinned_manifest() -> Manifest:
    """Returns the manifest of the version that Facet uses."""
    return Manifest.model_validate_json(
        resources.files("pipeline.assets").joinpath("ict_facekit.json").read_text()
    )


def fetch(
    folder: Path,
    source: str | None = None,
    manifest: Manifest | None = None,
    *,
    connections: int = 6,
    on_file: Callable[[str], None] = lambda name: None,
    backoff_s: float = 1.0,
) -> Path:
    """Downloads the model, checks every file, and writes the archive and its licence to `folder`/ict_facekit.

    A run that was stopped goes on where it was. The OBJ files are removed at the end. Where the archive is
    there already, nothing is done.

    Args:
        folder: Folder of assets; what FACET_ASSETS may point to afterwards.
        source: URL to take instead of the manifest's, or the folder of a checkout of the repository.
        manifest: What to fetch; the pinned version by default.
        connections: Files downloaded at a time.
        on_file: Called with the path of each file that is there and right.
        backoff_s: See `download`.

    Returns:
        Path of the archive.

    Raises:
        AssetsError: A file cannot be had (asset_download, asset_missing), is not the pinned one
            (asset_checksum; it is removed, so that the next run asks for it again), or the model
            cannot be stored (asset_unwritable).
    """
    manifest = manifest or pinned_manifest()
    target = folder / ICT_FACEKIT_FOLDER / ICT_FACEKIT_FILE
    if target.exists():
        with contextlib.suppress(AssetsError):
            verify(target, manifest)
            return target
    local = Path(source) if source and "://" not in source else None
    upstream = local or target.parent / "upstream"
    base_url = (source or manifest.base_url).rstrip("/")

    def obtain(name: str, neutral: np.ndarray | None = None) -> None:
        path = upstream / name
        if local is None and not path.exists():
            download(f"{base_url}/{name}", path, max_bytes=MAX_FILE_BYTES, backoff_s=backoff_s)
        try:
            _check_file(manifest, name, _read(upstream, name), neutral)
        except AssetsError:
            if local is None:
                path.unlink(missing_ok=True)
            raise
        on_file(name)

    try:
        for name in (manifest.license, manifest.neutral, manifest.indices):
            obtain(name)
        neutral = read_vertices(_read(upstream, manifest.neutral), manifest.neutral)
        offsets = [*manifest.identity, *manifest.expression]
        _in_parallel(lambda name: obtain(name, neutral), offsets, connections)
        archive = convert(upstream, manifest)
        _check_content(archive, manifest, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(archive, target)
        shutil.copyfile(upstream / manifest.license, target.parent / "LICENSE")
        if local is None:
            shutil.rmtree(upstream)
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
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            archive = {key: file[key] for key in file.files}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds on damaged files
        raise AssetsError(f"{path} cannot be read: {error}.", code="asset_malformed") from error
    _check_content(archive, manifest or pinned_manifest(), path)


def content_digest(archive: dict[str, np.ndarray]) -> str:
    """Returns the SHA-256 over name, type, shape and bytes of every array, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(archive):
        array = np.ascontiguousarray(archive[key])
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def offsets_digest(offsets: np.ndarray) -> str:
    """Returns the SHA-256 of (V, 3) float16 offsets, little-endian, row by row."""
    return hashlib.sha256(offsets.astype("<f2").tobytes()).hexdigest()


def _offsets(data: bytes, name: str, neutral: np.ndarray) -> np.ndarray:
    vertices = read_vertices(data, name)
    if vertices.shape != neutral.shape:
        raise AssetsError(
            f"{name} has {len(vertices)} vertices, the neutral head {len(neutral)}.", code="asset_malformed"
        )
    return (vertices - neutral).astype(np.float16)


def _check_file(manifest: Manifest, name: str, data: bytes, neutral: np.ndarray | None) -> None:
    pinned = manifest.sha256.get(name)
    right = pinned is None or hashlib.sha256(data).hexdigest() == pinned
    if right and neutral is not None:
        pinned = manifest.identity.get(name) or manifest.expression[name]
        try:
            right = offsets_digest(_offsets(data, name, neutral)) == pinned
        except AssetsError:
            right = False
    if not right:
        raise AssetsError(
            f"{name} is not the file that is pinned (commit {manifest.commit[:7]}): wrong checksum.",
            code="asset_checksum",
        )


def _check_content(archive: dict[str, np.ndarray], manifest: Manifest, path: Path) -> None:
    if content_digest(archive) != manifest.content_sha256:
        raise AssetsError(
            f"{path} is not the pinned ICT-FaceKit model: wrong checksum. Fetch it again.",
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


def _in_parallel(function: Callable[[str], None], names: list[str], threads: int) -> None:
    """Calls `function` with each name; the first error ends the rest and is raised."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(function, name) for name in names]
        try:
            for future in futures:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
