"""Folders of pictures and labels: which files belong together, and which belong to nothing.

    FOLDER/images/    photos or crops, in any format that is read
           normals/   normal maps, PNG or another lossless format, 8 or 16 bit
           masks/     grey pictures: bright where the normal counts

Each subfolder is optional, and may have folders within. Files of the same name make one row: first those
whose names are equal but for the ending, then those that are equal after `_normal`, `_mask` and the like are
taken off, whatever their case. Names are compared as Unicode means them, not byte by byte: an é may be
stored in two ways.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from pipeline.errors import DataError, ImageError
from pipeline.images.decode import DecodeConfig, decode_image
from pipeline.images.names import is_other_name, is_photo_name
from pipeline.samples.sample import MAX_PIXELS
from pipeline.storage.store import Store

KINDS = {"images": "image", "normals": "normal", "masks": "mask"}
"""Subfolder -> column."""

_TAILS = {
    "images": r"image|images|img|rgb|color|colour|photo|crop|input",
    "normals": r"normal|normals|nrm|norm|normalmap|normal_map|n",
    "masks": r"mask|masks|msk|matte|alpha|valid|m",
}
_TAIL = {kind: re.compile(rf"[ _.-]({tails})$") for kind, tails in _TAILS.items()}
_NAMED = 3


@dataclass
class Pairing:
    """What a folder of pictures holds.

    Attributes:
        rows: Row name -> column -> file, relative to the folder, in the order of names; every row has an
            image or a normal map.
        unused: What belongs to no row -> its files, relative to the folder.
    """

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Says what was left out, a line for each reason, with names."""
        return [
            f"{len(files):,} {reason}: {', '.join(map(ascii, files[:_NAMED]))}"
            + (", ..." if len(files) > _NAMED else "")
            for reason, files in self.unused.items()
            if files
        ]


def what_it_holds(row: Mapping[str, object]) -> str:
    """Returns paired, images alone or normals alone, by the columns that a row has."""
    image, normal = row.get("image") is not None, row.get("normal") is not None
    return "paired" if image and normal else "images alone" if image else "normals alone"


def pair_pictures(folder: Store) -> Pairing:
    """Finds the pictures of a folder and what belongs together."""
    found = Pairing()
    exact: dict[str, dict[str, str]] = {}
    for kind, column in KINDS.items():
        for path in folder.find(kind):
            name = path.removeprefix(f"{kind}/")
            if any(part.startswith(".") for part in name.split("/")) or is_other_name(name):
                continue
            if not is_photo_name(name):
                found.unused.setdefault("files whose ending is not read", []).append(path)
                continue
            row = exact.setdefault(_stem(name), {})
            if column in row:
                found.unused.setdefault("files of a name that another has", []).append(path)
            else:
                row[column] = path
    rows = _join_alike(exact)
    for name in sorted(rows):
        if rows[name].keys() == {"mask"}:
            found.unused.setdefault("masks without an image or a normal map", []).append(rows[name]["mask"])
        else:
            found.rows[name] = rows[name]
    return found


def decode_any_photo(data: bytes) -> np.ndarray:
    """Decodes a photo as `facet normals` does: (H, W, 3) uint8 RGB.

    Raises:
        DataError: It cannot be decoded.
    """
    try:
        return decode_image(data, DecodeConfig(min_side=1, max_pixels=MAX_PIXELS))
    except ImageError as error:
        raise DataError(f"image cannot be decoded: {error.message}") from error


def _stem(name: str) -> str:
    return str(PurePosixPath(unicodedata.normalize("NFC", name)).with_suffix(""))


def _join_alike(rows: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Joins rows that lack each other's columns and whose names differ by case and what the tail says."""
    groups: dict[str, list[str]] = {}
    for name, row in rows.items():
        plain = name.casefold()
        for kind, column in KINDS.items():
            if column in row and len(row) == 1:
                plain = _TAIL[kind].sub("", plain)
        groups.setdefault(plain, []).append(name)
    joined: dict[str, dict[str, str]] = {}
    for names in groups.values():
        columns = [column for name in names for column in rows[name]]
        if len(set(columns)) < len(columns):  # which belongs to which cannot be told
            joined |= {name: rows[name] for name in names}
            continue
        # The image's name, else that of the normal map.
        names.sort(key=lambda name: min(list(KINDS.values()).index(column) for column in rows[name]))
        joined[names[0]] = {column: path for name in names for column, path in rows[name].items()}
    return joined
