"""All assets of others that Facet uses: their licences, where they are, whether they are right."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.assets import ict_facekit
from pipeline.assets.locate import ICT_FACEKIT, find_ict_facekit
from pipeline.errors import AssetsError


@dataclass(frozen=True)
class Asset:
    """One asset.

    Attributes:
        name: Its name on the command line.
        purpose: What Facet does with it.
        license: Licence and what to mind.
        source: Where it comes from.
        find: Returns its path, or raises AssetsError with what to do.
        verify: Raises AssetsError if the file at a path is not the pinned one.
    """

    name: str
    purpose: str
    license: str
    source: str
    find: Callable[[], Path]
    verify: Callable[[Path], None]


def assets() -> dict[str, Asset]:
    """Returns all assets by name."""
    known = [
        Asset(
            name=ICT_FACEKIT,
            purpose="heads that are fitted, and that training data is rendered from",
            license="MIT",
            source=ict_facekit.pinned_manifest().repository,
            find=find_ict_facekit,
            verify=ict_facekit.verify,
        ),
        _dlib_model(
            "dlib-landmarks68",
            "shape_predictor_68_face_landmarks.dat",
            "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
            purpose="68 landmarks of a face",
            license="trained on iBUG 300-W, which is for non-commercial use",
        ),
        _dlib_model(
            "dlib-cnn-detector",
            "mmod_human_face_detector.dat",
            "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
            purpose="faces, with --detect cnn",
            license="CC0",
        ),
    ]
    return {asset.name: asset for asset in known}


def _dlib_model(name: str, file: str, sha256: str, purpose: str, license: str) -> Asset:
    def find() -> Path:
        from pipeline.faces.landmarks import model_file  # loads dlib

        return model_file(file)

    def verify(path: Path) -> None:
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                raise AssetsError(
                    f"{path} is not the pinned {name}: wrong checksum. Reinstall face_recognition_models.",
                    code="asset_checksum",
                )

    return Asset(name, purpose, license, "Python package face_recognition_models", find, verify)
