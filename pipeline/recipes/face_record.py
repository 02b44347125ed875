"""Records of photos with faces in them: their fields, how they are written and what they must be like.

Axes: pixel coordinates are x right, y down, in the upright photo (EXIF orientation applied), pixel
centres at integers. Normals are in camera space as `output.convention` says; see `pipeline.normals.encoding`
and `pipeline.geometry.crop_camera`. A face's rotation is that from head space to the space of a camera that
looks at it, its axes along the photo's: x right, y up, z to the viewer. Which weights found its points is in
run.json.
"""

import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import DecodeError
from pipeline.faces.crop import CROP_SIZE, CropWindow, hull_mask
from pipeline.faces.points import DENSE
from pipeline.images.png import decode_png, encode_png
from pipeline.recipes.crop_stage import NO_FACE, POINTS_FIELDS
from pipeline.run.items import Item
from pipeline.run.recipe import FileBeside, RecordFormat
from pipeline.run.records import PLACE, field, outcome

GREY, RGB = 0, 2
"""Colour types of PNG."""

CROP_WINDOW = pa.struct(
    [
        field("left", pa.int32(), "First column of the window in the upright photo."),
        field("top", pa.int32(), "First row of the window in the upright photo."),
        field("size", pa.int32(), "Side of the window in pixels of the upright photo."),
    ]
)

FACE = pa.struct(
    [
        field("index", pa.int32(), "Rank of the face in its photo: 0 is the largest, or the first found."),
        field("box", pa.list_(pa.float32(), 4), "The detector's box: left, top, right, bottom."),
        field("score", pa.float32(), "The detector's confidence; 1 where landmarks came from a file."),
        field("detector", pa.string(), "libfacedetection, hog, cnn, files, or the name of your own."),
        field("landmarks", pa.list_(pa.float32()), "68 points in iBUG 300-W order: x0, y0, x1, y1, ..."),
        field("points", pa.list_(pa.float32()), "500 points of the skin: x0, y0, sigma0, x1, ...; or null."),
        field("visible", pa.list_(pa.uint8()), "How probable it is that each is seen, 0..255; or null."),
        field("rotation", pa.list_(pa.float32()), "Head to camera, 3x3 row by row; or null."),
        field("points_sigma", pa.float32(), "Mean uncertainty of the points seen, 0.01: sure; or null."),
        field(
            "crop_window",
            CROP_WINDOW,
            "The square that crop, normals and mask cover; may reach beyond the photo.",
        ),
        field("crop_png", pa.binary(), "PNG, 256x256 RGB: the window, resized; mirrored beyond the photo."),
        field("normal_png", pa.binary(), "PNG, 256x256 RGB, 8 or 16 bit: the normals of the window."),
        field("mask_png", pa.binary(), "PNG, 256x256 grey: 255 where the normals are meant, else 0."),
        field("mask_share", pa.float32(), "Share of the window where the normals are meant."),
    ]
)

SCHEMA = pa.schema(
    [
        *PLACE,
        field("width", pa.int32(), "Width of the upright photo; null when it was not decoded."),
        field("height", pa.int32(), "Height of the upright photo; null when it was not decoded."),
        field("focal_mm", pa.float32(), "Focal length in millimetres by EXIF; null: not told."),
        field("focal_35mm", pa.float32(), "The same on 35 mm film, 36 mm wide, by EXIF; null: not told."),
        *outcome("faces", NO_FACE),
        field("faces", pa.list_(FACE), "The faces found; empty unless ok.", False),
    ]
)
"""Schema of the files in records/; every field carries its description as metadata."""

IMAGES = {"all": ("crop", "normal", "mask"), "normals": ("normal", "mask"), "none": ()}
"""What `output.images` and `output.file_images` say -> kinds of images."""

MAX_STEM = 40
"""Characters of a photo's name in those of its files."""

_PNG_COLUMNS = [f"faces.list.element.{name}" for name in ("crop_png", "normal_png", "mask_png")]
_PLAIN = ("index", "score", "detector", "points_sigma", "mask_share")
_LISTS = ("box", "landmarks", "points", "visible", "rotation")
_PLAIN_COLUMNS = [field.name for field in SCHEMA if field.name != "faces"]

PARQUET_OPTIONS: dict[str, Any] = {
    # PNGs do not get smaller twice, and the statistics of a column of PNGs are two PNGs.
    "compression": {
        **dict.fromkeys(_PNG_COLUMNS, "NONE"),
        **dict.fromkeys(_PLAIN_COLUMNS, "ZSTD"),
        **{f"faces.list.element.{name}": "ZSTD" for name in _PLAIN},
        **{f"faces.list.element.{name}.list.element": "ZSTD" for name in _LISTS},
        **{f"faces.list.element.crop_window.{name}": "ZSTD" for name in ("left", "top", "size")},
    },
    "use_dictionary": ["status", "error_code", "error_message"],
    "write_statistics": _PLAIN_COLUMNS,
}


def encode_faces(item: Item, config: Any) -> None:
    """Encodes the normals and masks that were handed on; without a mask the hull of the landmarks stands."""
    for face, found in zip(item.record["faces"], item.handed_on, strict=True):
        mask = found["mask"]
        if mask is None:
            landmarks, window = np.reshape(face["landmarks"], (-1, 2)), CropWindow(**face["crop_window"])
            mask = hull_mask(landmarks, window, item.record["width"], item.record["height"])
        face["normal_png"], face["mask_png"] = encode_png(found["normals"]), encode_png(mask)
        face["mask_share"] = float((mask > 0).mean())


def landmarks_of(table: pa.Table) -> Iterator[str]:
    """Yields for every row what tells its faces from others."""
    faces = table["faces"].combine_chunks()
    landmarks = faces.flatten().field("landmarks")
    start = 0
    for length in faces.value_lengths().to_pylist():
        yield str(landmarks.slice(start, length).to_pylist())
        start += length


def file_stem(row: dict[str, Any]) -> str:
    """Returns how the names of a record's files begin: its photo's name, safe in a shell, and some of its id.

    Photos of other folders, or with other endings, may have the same name.
    """
    name = row["uri"].partition("?")[0].rpartition("/")[2]
    stem = re.sub(r"[^\w.]+", "_", name.rpartition(".")[0] or name)[:MAX_STEM].strip("._")
    return f"{stem or 'photo'}-{row['id'] & (1 << 40) - 1:010x}"


def png_files(table: pa.Table, config: Any) -> Iterator[FileBeside]:
    """Yields the PNG files of some records, NAME-ID-FACE-KIND.png, as `output.file_images` says."""
    for row in table.select(["id", "uri", "faces"]).to_pylist():
        for face in row["faces"]:
            for kind in IMAGES[config.output.file_images]:
                name = f"{file_stem(row)}-{face['index']}-{kind}.png"
                yield FileBeside(name, row["id"], row["uri"], face[f"{kind}_png"])


def keep_images(table: pa.Table, config: Any) -> pa.Table:
    """Returns records with those images of faces alone that `output.images` says."""
    kept = IMAGES[config.output.images]
    dropped = [f"{kind}_png" for kind in IMAGES["all"] if kind not in kept]
    if not dropped:
        return table
    place = table.schema.get_field_index("faces")
    faces = table["faces"].combine_chunks()
    flat = faces.flatten()
    parts = [
        pa.nulls(len(flat), kind.type) if kind.name in dropped else flat.field(kind.name)
        for kind in flat.type
    ]
    offsets = np.concatenate([[0], np.cumsum(faces.value_lengths().to_numpy())])
    structs = pa.StructArray.from_arrays(parts, fields=list(flat.type))
    column = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs).cast(faces.type)
    return table.set_column(place, table.schema.field(place), column)


def check_faces(row: dict[str, Any], config: Any, thorough: bool) -> Iterator[str]:
    """Yields what is wrong with a record; see `pipeline.run.recipe.RecordFormat.check`."""
    if row["status"] != "failed":
        for name in ("width", "height"):
            if not row[name]:
                yield f"has no {name}"
    for place, face in enumerate(row["faces"]):
        kept = IMAGES[config.output.images]
        dropped = [f"{kind}_png" for kind in IMAGES["all"] if kind not in kept]
        needed = [name for name in FACE.names if name not in (*POINTS_FIELDS, *dropped)]
        lacking = [name for name in needed if face is None or face[name] is None]
        if lacking:
            yield f"has a face without {', '.join(lacking)}"
            continue
        if face["index"] != place:
            yield f"has face {face['index']} in place {place}"
        yield from (f"has a face {reason}" for reason in _check_geometry(face, row["width"], row["height"]))
        yield from (f"has a face {reason}" for reason in _check_points(face))
        yield from (f"has a face {reason}" for reason in _check_images(face, config.output, thorough))


def _check_geometry(face: dict[str, Any], width: int | None, height: int | None) -> Iterator[str]:
    landmarks = np.array(face["landmarks"], float)
    if landmarks.shape != (136,) or not np.isfinite(landmarks).all():
        yield "whose landmarks are not 68 points"
    if not np.isfinite(np.array(face["box"], float)).all():
        yield "whose box is not finite"
    window = face["crop_window"]
    left, top, size = window["left"], window["top"], window["size"]
    if None in (left, top, size) or size < 1:
        yield "without a window"
    elif width and height and not (-size < left < width and -size < top < height):
        yield "whose window is beyond the photo"


def _check_points(face: dict[str, Any]) -> Iterator[str]:
    given = [face[name] for name in POINTS_FIELDS]
    if None in given:
        if given != [None] * len(given):
            yield "with a part of what is known of its points"
        return
    points, visible, rotation, sigma = (np.array(value, float) for value in given)
    if points.shape != (3 * DENSE,) or not np.isfinite(points).all():
        yield f"whose points are not {DENSE} with a sigma each"
    elif not (points[2::3] > 0).all() or not sigma > 0:
        yield "whose points have no sigma"
    if visible.shape != (DENSE,):
        yield f"whose visibilities are not {DENSE}"
    if rotation.shape != (9,) or not _is_rotation(rotation.reshape(3, 3)):
        yield "whose rotation is none"


def _is_rotation(matrix: np.ndarray) -> bool:
    return np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-3)


def _check_images(face: dict[str, Any], output: Any, lengths: bool) -> Iterator[str]:
    images: dict[str, np.ndarray] = {}
    for name, depth, colour in (("crop", 8, RGB), ("normal", output.bits, RGB), ("mask", 8, GREY)):
        data = face[f"{name}_png"]
        if name not in IMAGES[output.images]:
            if data is not None:
                yield f"with a {name}_png that was not asked for"
            continue
        header = struct.pack(">IIBB", CROP_SIZE, CROP_SIZE, depth, colour)
        if data[16:26] != header:
            yield f"whose {name}_png is no PNG of {CROP_SIZE}x{CROP_SIZE} pixels of the right kind"
            continue
        try:
            images[name] = decode_png(data)
        except DecodeError:
            yield f"whose {name}_png cannot be decoded"
    mask, normals = images.get("mask"), images.get("normal")
    if mask is not None and not np.isin(mask, (0, 255)).all():
        yield "whose mask has values other than 0 and 255"
    if lengths and mask is not None and normals is not None:
        off = length_error(normals[mask == 255])
        if off > allowed_length_error(output.bits):
            yield f"whose normals are not of unit length: off by up to {off:.3g}"


def length_error(pixels: np.ndarray) -> float:
    """Returns how much the length of encoded normals differs from 1 at most; 0 where there are none.

    Args:
        pixels: (N, 3) uint8 or uint16; see `pipeline.normals.encoding`.
    """
    # Whatever the convention: it changes signs alone.
    values = pixels.astype(np.float32) / ((2 ** (8 * pixels.itemsize) - 1) / 2) - 1
    return float(np.abs(np.linalg.norm(values, axis=-1) - 1).max(initial=0))


def allowed_length_error(bits: int) -> float:
    """Returns what rounding to so many bits does to a unit vector at most, and a little more."""
    return 3**0.5 / (2**bits - 1) + 1e-5


FORMAT = RecordFormat(
    schema=SCHEMA,
    things="faces",
    empty=NO_FACE,
    codes=("landmarks_invalid", "detector_failed"),
    parquet=PARQUET_OPTIONS,
    finish=encode_faces,
    told_apart_by=landmarks_of,
    files=png_files,
    kept=keep_images,
    check=check_faces,
    bytes_per_photo=200_000,
)
