"""A page of heads: photo, the head over it, and the head to turn, light and move, in one HTML file.

The browser draws by WebGL without a library. The topology and the expressions are stored once for all heads;
lengths are whole numbers of 10 micrometres.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from pipeline.geometry.mesh import Topology, moved_rows
from pipeline.geometry.mesh_files import Material, Mesh
from pipeline.report.page import render
from pipeline.words import quantity

_STEPS_PER_CM = 1000
_STILL_CM = 0.005  # what moves by less is not seen


@dataclass(frozen=True, eq=False)
class HeadView:
    """A head of the page.

    Attributes:
        name: What the page calls it, mostly the photo's name.
        photo: JPEG or PNG, of some hundred pixels.
        size: Its width and height.
        focal: Focal length in its pixels.
        centre: Principal point (x, y) in its pixels, whose centres are integers.
        mesh: The head in head space; all heads of a page have one topology and the same targets.
        rotation: (3, 3) head space to camera space.
        translation: (3,) centimetres.
        facts: Label and value of what is said about it.
    """

    name: str
    photo: bytes
    size: tuple[int, int]
    focal: float
    centre: tuple[float, float]
    mesh: Mesh
    rotation: np.ndarray
    translation: np.ndarray
    facts: Sequence[tuple[str, str]] = ()


def head_page(heads: Sequence[HeadView]) -> str:
    """Returns the HTML of one or more heads."""
    first = heads[0].mesh
    data: dict[str, Any] = {
        "perCm": _STEPS_PER_CM,
        "parts": _parts(first.drawn, list(first.materials)),
        "uvVertex": _packed(first.topology.uv_vertex[np.unique(first.drawn.faces_uv)], np.uint16),
        "uv": _packed(np.rint(first.topology.uv[np.unique(first.drawn.faces_uv)] * 65535), np.uint16),
        "targets": {name: _sparse(offsets) for name, offsets in first.targets.items() if offsets.any()},
        "heads": [_head(head) for head in heads],
    }
    return render(
        "heads.html",
        ["report.css", "heads.css"],
        "heads.js",
        headline=quantity(len(heads), "head"),
        heads=heads,
        photos=[_data_uri(head.photo) for head in heads],
        targets=_grouped(data["targets"]),
        data=Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")),
    )


def _head(head: HeadView) -> dict[str, Any]:
    used = int(head.mesh.drawn.faces.max()) + 1
    return {
        "name": head.name,
        "size": head.size,
        "focal": head.focal,
        "centre": head.centre,
        "rotation": np.asarray(head.rotation, float).ravel().round(7).tolist(),
        "translation": np.asarray(head.translation, float).round(5).tolist(),
        "vertices": _packed(np.rint(head.mesh.vertices[:used] * _STEPS_PER_CM), np.int16),
        "weights": {name: round(weight, 4) for name, weight in head.mesh.weights.items() if weight},
        "looks": [_look(material) for material in head.mesh.materials.values()],
    }


def _look(material: Material) -> dict[str, Any]:
    pictures = {"texture": material.texture, "normals": material.normal_map}
    return {"colour": material.colour, "roughness": material.roughness} | {
        name: _data_uri(picture) for name, picture in pictures.items() if picture is not None
    }


def _parts(drawn: Topology, names: list[str]) -> list[dict[str, Any]]:
    used = np.unique(drawn.faces_uv)
    return [
        {"name": name, "quads": _packed(np.searchsorted(used, drawn.only(name).faces_uv), np.uint16)}
        for name in names
    ]


def _sparse(offsets: np.ndarray) -> dict[str, str]:
    rows = np.nonzero(moved_rows(offsets, _STILL_CM))[0]
    return {
        "rows": _packed(rows, np.uint16),
        "offsets": _packed(np.rint(offsets[rows] * _STEPS_PER_CM), np.int16),
    }


def _grouped(targets: Mapping[str, Any]) -> dict[str, list[str]]:
    """Sliders by the region that their name begins with."""
    groups: dict[str, list[str]] = {"brows": [], "eyes": [], "cheeks": [], "nose": [], "jaw": [], "mouth": []}
    for name in targets:
        group = next((group for group in groups if name.startswith(group.rstrip("s"))), "mouth")
        groups[group].append(name)
    return groups


def _packed(values: np.ndarray, kind: type) -> str:
    limits = np.iinfo(kind)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise ValueError("the head is too large for the page")
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode("ascii")


def _data_uri(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
