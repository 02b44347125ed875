"""Records of photos with heads: those of faces, and for each face the head that was fitted to it.

Meshes are not kept: `read_head` makes a head of a record again, and its meshes follow from it.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.details.head import Head
from pipeline.details.kit import HeadKit
from pipeline.details.pictures import HeadPictures, decode_jpeg, decode_maps, encode_maps
from pipeline.details.reconstruct import points_of
from pipeline.errors import DecodeError
from pipeline.fitting.expressions import ACTION_UNITS
from pipeline.fitting.fit import ViewQuality
from pipeline.fitting.head import EXPRESSION, IDENTITY, PIVOT, FitHead
from pipeline.fitting.views import Points, ViewState
from pipeline.images.png import decode_png
from pipeline.recipes import face_record
from pipeline.run.recipe import FileBeside
from pipeline.run.records import field

FIT_FAILED = "fit_failed"

_PICTURES = [entry.name for entry in fields(HeadPictures)]
_SMALL = ("left_eye_jpeg", "right_eye_jpeg", "back_jpeg")
"""Pictures that are not of the size of the face's."""

QUALITY = pa.struct(
    [
        field("points", pa.float32(), "Root mean square of the points' distances, in their sigmas."),
        field("points_share", pa.float32(), "Median distance of the points over the size of the face."),
        field("normals", pa.float32(), "Mean degrees between the head and the normals."),
        field("disagreement", pa.float32(), "The same for the head by points alone, turned for the best."),
        field("tilt", pa.float32(), "Degrees by which the normals as a whole were turned."),
        field("covered", pa.float32(), "Share of the face in view of which the normals say something."),
        field("disagree", pa.bool_(), "Points and normals contradict each other: do not rely on this head."),
    ]
)

HEAD = pa.struct(
    [
        field("identity", pa.list_(pa.float32(), IDENTITY), "Coefficients of ICT-FaceKit's identity modes."),
        field("expression", pa.list_(pa.float32(), EXPRESSION), "Weights 0..1 of ICT-FaceKit's expressions."),
        field(
            "action_units",
            pa.struct([pa.field(unit, pa.float32()) for unit in ACTION_UNITS]),
            "Intensities 0..5 of FACS' action units, by the published table of the expressions.",
        ),
        field("rotation", pa.list_(pa.float32(), 9), "Head space to camera space, 3x3 row by row."),
        field("translation", pa.list_(pa.float32(), 3), "Of the head's origin in camera space, cm."),
        field("focal", pa.float32(), "Focal length in pixels of the photo."),
        field("centre", pa.list_(pa.float32(), 2), "Principal point in pixels of the photo."),
        field("quality", QUALITY, "How well the head explains the photo."),
        field("texture_jpeg", pa.binary(), "The face's skin in texture space."),
        field("visibility_png", pa.binary(), "Of the same texels: 255 seen, 128 mirrored, 0 filled."),
        field("displacement_png", pa.binary(), "16 bit: 0..65535 are -4 mm..4 mm along the smooth normal."),
        field("normal_map_png", pa.binary(), "Of the detailed face in the proxy's tangent space, green up."),
        field("left_eye_jpeg", pa.binary(), "Texture of the left eyeball."),
        field("right_eye_jpeg", pa.binary(), "Texture of the right eyeball."),
        field("back_jpeg", pa.binary(), "Texture of the back of the head, filled."),
    ]
)

FACE = pa.struct(
    [
        *face_record.FACE,
        field("head", HEAD, "The head; null where none fits, see head_error."),
        field("head_error", pa.string(), "Why no head fits this face, with numbers; null where one does."),
    ]
)

_FACES = face_record.SCHEMA.get_field_index("faces")
SCHEMA = face_record.SCHEMA.set(_FACES, face_record.SCHEMA.field(_FACES).with_type(pa.list_(FACE)))
"""Schema of the files in records/."""


def recorded_points(face: dict[str, Any], head: FitHead) -> Points:
    """The points of a face for the fit, from its record."""
    landmarks = np.asarray(face["landmarks"], float).reshape(-1, 2)
    points = None if face["points"] is None else np.asarray(face["points"], float).reshape(-1, 3)
    visible = None if face["visible"] is None else np.asarray(face["visible"], float) / 255
    return points_of(head, landmarks, points, visible)


def describe_head(head: Head) -> dict[str, Any]:
    """Returns what a record says of a head."""
    view = head.view
    return {
        "identity": head.identity,
        "expression": view.expression,
        "action_units": head.action_units,
        "rotation": view.rotation.ravel(),
        "translation": view.translation,
        "focal": view.focal,
        "centre": view.centre,
        "quality": vars(head.quality),
        **vars(encode_maps(head.maps)),
    }


def read_head(found: dict[str, Any], width: int, height: int, kit: HeadKit) -> Head:
    """Makes a head of what a record says of it; the inverse of `describe_head`.

    Args:
        found: `head` of a face.
        width: Of the photo in pixels.
        height: Of the photo in pixels.
        kit: The head model.
    """
    rotation = np.array(found["rotation"], float).reshape(3, 3)
    return Head(
        kit=kit,
        identity=np.array(found["identity"], float),
        view=ViewState(
            expression=np.array(found["expression"], float),
            rotation=rotation,
            position=np.array(found["translation"], float) + rotation @ PIVOT,
            focal=found["focal"],
            centre=np.array(found["centre"], float),
            tilt=np.eye(3),
        ),
        width=width,
        height=height,
        quality=ViewQuality(**found["quality"]),
        maps=decode_maps(pictures_of(found)),
    )


def pictures_of(found: dict[str, Any]) -> HeadPictures:
    """The pictures of a head of a record."""
    return HeadPictures(**{name: found[name] for name in _PICTURES})


def head_files(table: pa.Table, config: Any) -> Iterator[FileBeside]:
    """Yields the files of the pictures of every face and head of some records."""
    for number in range(len(table)):
        of_row = table.slice(number, 1)
        yield from face_record.png_files(of_row, config)
        (row,) = of_row.select(["id", "uri", "faces"]).to_pylist()
        for face in row["faces"]:
            for name in _PICTURES if face["head"] else ():
                kind, _, ending = name.rpartition("_")
                ending = ending.replace("jpeg", "jpg")
                file = f"{face_record.file_stem(row)}-{face['index']}-{kind}.{ending}"
                yield FileBeside(file, row["id"], row["uri"], face["head"][name])


def check_heads(row: dict[str, Any], config: Any, thorough: bool) -> Iterator[str]:
    """Yields what is wrong with a record; see `pipeline.run.recipe.RecordFormat.check`."""
    yield from face_record.check_faces(row, config, thorough)
    for face in row["faces"]:
        head = face and face.get("head")
        if face and (head is None) == (face["head_error"] is None):
            yield "has a face with neither a head nor a reason, or with both"
        if head:
            yield from (f"has a head {reason}" for reason in _check_head(head, config.details.texture_size))


def _check_head(head: dict[str, Any], size: int) -> Iterator[str]:
    lacking = [name for name in HEAD.names if head[name] is None]
    if lacking:
        yield f"without {', '.join(lacking)}"
        return
    for name in ("identity", "expression", "rotation", "translation", "centre"):
        if not np.isfinite(head[name]).all():
            yield f"whose {name} is not finite"
    if not 0 < head["focal"] < np.inf:
        yield "without a focal length"
    for name in _PICTURES:
        try:
            picture = (decode_png if name.endswith("png") else decode_jpeg)(head[name])
        except DecodeError:
            yield f"whose {name} cannot be decoded"
            continue
        if name not in _SMALL and picture.shape[:2] != (size, size):
            yield f"whose {name} is not of {size}x{size} pixels"


def _leaves(kind: pa.DataType, path: str) -> Iterator[tuple[str, pa.DataType]]:
    """Paths of the Parquet columns that a field becomes, and their types."""
    if pa.types.is_struct(kind):
        for part in kind:
            yield from _leaves(part.type, f"{path}.{part.name}")
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(kind.value_type, f"{path}.list.element")
    else:
        yield path, kind


_ADDED = [
    leaf
    for name in ("head", "head_error")
    for leaf in _leaves(FACE.field(name).type, f"faces.list.element.{name}")
]

FORMAT = replace(
    face_record.FORMAT,
    schema=SCHEMA,
    codes=(*face_record.FORMAT.codes, FIT_FAILED),
    parquet=face_record.PARQUET_OPTIONS
    | {
        "compression": face_record.PARQUET_OPTIONS["compression"]
        | {path: "NONE" if pa.types.is_binary(kind) else "ZSTD" for path, kind in _ADDED}
    },
    files=head_files,
    check=check_heads,
    bytes_per_photo=3_000_000,
)
assert {field.name for field in QUALITY} == {field.name for field in fields(ViewQuality)}
