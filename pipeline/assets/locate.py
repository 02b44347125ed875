"""Where assets lie on this machine: an explicit option, FACET_ASSETS, the user's own folder, or Facet's."""

import os
from pathlib import Path

from pipeline.errors import AssetsError
from pipeline.weights import shipped_folder

ICT_FACEKIT = "ict-facekit"
"""Name of the face model on the command line."""

ICT_FACEKIT_FOLDER = "ict_facekit"
ICT_FACEKIT_FILE = "ict_facekit.npz"


def assets_folder() -> Path:
    """Returns the user's asset folder, where `facet assets convert` stores: `$XDG_DATA_HOME/facet/assets`."""
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "facet" / "assets"


def find_ict_facekit(option: str | Path | None = None) -> Path:
    """Finds the ICT-FaceKit face model.

    Looks at `option`, else at the environment variable FACET_ASSETS, else in the user's asset folder, else
    at the copy that comes with Facet. Only the first that is given counts: a wrong path is an error rather
    than a reason to take another model in silence. Each may be the file itself, the folder that holds it, or
    the folder above that one.

    Returns:
        Path of `ict_facekit.npz`.

    Raises:
        AssetsError: There is no such file (code asset_missing); the message says how to get it.
    """
    if option:
        place, source = Path(option), "the given path"
    elif os.environ.get("FACET_ASSETS"):
        place, source = Path(os.environ["FACET_ASSETS"]), "FACET_ASSETS"
    elif (assets_folder() / ICT_FACEKIT_FOLDER).is_dir():
        place, source = assets_folder(), "the asset folder"
    else:
        place, source = shipped_folder(), "Facet's own files"
    candidates = [place, place / ICT_FACEKIT_FILE, place / ICT_FACEKIT_FOLDER / ICT_FACEKIT_FILE]
    for candidate in candidates:
        if candidate.suffix == ".npz" and candidate.is_file():
            return candidate
    raise AssetsError(
        f"No {ICT_FACEKIT_FILE} in {source} ({place}): leave it out, and the copy that comes with Facet is "
        "taken.",
        code="asset_missing",
    )
