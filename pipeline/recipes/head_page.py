"""The page of a run's heads: photo, head over it, and the head to turn, light and move."""

from typing import Any

import cv2
import numpy as np

from pipeline.details.export import head_mesh
from pipeline.details.head import Head
from pipeline.details.kit import HeadKit
from pipeline.details.pictures import HeadPictures, encode_jpeg
from pipeline.errors import ImageError
from pipeline.faces.crop import CropWindow, crop_window
from pipeline.images.decode import decode_image
from pipeline.images.png import decode_png, encode_png
from pipeline.images.read import PhotoReader
from pipeline.pixels import resize
from pipeline.recipes.head_export import rows_with_heads
from pipeline.recipes.head_record import pictures_of, read_head
from pipeline.recipes.normals import NormalsRun
from pipeline.redact import shown_uri
from pipeline.report.heads import HeadView, head_page
from pipeline.storage.store import Store

PAGE = "report/heads.html"

HEADS = 8
"""Most heads on the page; each takes about half a megabyte of it."""

HEADS_OF_ONE_PHOTO = 2

PHOTO_SIDE = 480
TEXTURE_SIDE = 512
_SURROUNDINGS = 2.2
"""Side of the part of the photo that is shown, over that of the face."""

_SHOWN_UNIT = 0.5
"""Intensity from which on an action unit is named."""


def write_heads(store: Store, config: NormalsRun, kit: HeadKit) -> bool:
    """Writes the page, and returns whether there was a head to show.

    Args:
        store: The run's folder.
        config: How photos are read.
        kit: The head model.
    """
    reader = PhotoReader(config.read)
    views: list[HeadView] = []
    for row in rows_with_heads(store):
        faces = [face for face in row["faces"] if face["head"]][:HEADS_OF_ONE_PHOTO]
        photo = _photo(row, reader, config) if faces else None
        if photo is None:
            faces = [face for face in faces if face["crop_png"]]
        for face in faces:
            head = read_head(face["head"], row["width"], row["height"], kit)
            views.append(_view(row, face, head, photo))
        if len(views) >= HEADS:
            break
    if views:
        store.write(PAGE, head_page(views[:HEADS]).encode("utf-8"))
    return bool(views)


def _photo(row: dict[str, Any], reader: PhotoReader, config: NormalsRun) -> np.ndarray | None:
    """The photo as it was, or None where it is gone or another by now."""
    (data,) = reader([row["uri"]])
    if not isinstance(data, bytes):
        return None
    try:
        photo = decode_image(data, config.decode)
    except ImageError:
        return None
    return photo if photo.shape[:2] == (row["height"], row["width"]) else None


def _view(row: dict[str, Any], face: dict[str, Any], head: Head, photo: np.ndarray | None) -> HeadView:
    if photo is None:
        window, picture = CropWindow(**face["crop_window"]), decode_png(face["crop_png"])
    else:
        landmarks = np.asarray(face["landmarks"], float).reshape(-1, 2)
        window = crop_window(landmarks, _SURROUNDINGS)
        picture = resize(window.cut(photo), PHOTO_SIDE, PHOTO_SIDE)
    side = len(picture)
    x, y = window.to_crop(head.view.centre, side)
    return HeadView(
        name=" / ".join(map(_name, filter(None, (row.get("person"), row["uri"])))),
        photo=encode_jpeg(picture),
        size=(side, side),
        focal=head.view.focal * side / window.size,
        centre=(float(x), float(y)),
        mesh=head_mesh(head, _smaller(pictures_of(face["head"]), head)),
        rotation=head.view.rotation,
        translation=head.view.translation,
        facts=_facts(row, head),
    )


def _name(uri: str) -> str:
    return shown_uri(uri).rstrip("/").rsplit("/", 1)[-1]


def _smaller(pictures: HeadPictures, head: Head) -> HeadPictures:
    side = min(TEXTURE_SIDE, len(head.maps.texture))
    texture, normals = (
        cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        for picture in (head.maps.texture, head.maps.normals)
    )
    changed = {"texture_jpeg": encode_jpeg(texture), "normal_map_png": encode_png(normals)}
    return HeadPictures(**vars(pictures) | changed)


def _facts(row: dict[str, Any], head: Head) -> list[tuple[str, str]]:
    quality = head.quality
    units = sorted(head.action_units.items(), key=lambda unit: -unit[1])
    shown = ", ".join(f"{unit} {value:.1f}" for unit, value in units if value >= _SHOWN_UNIT)
    doubts = [("Doubtful", "points and normals contradict each other")] if quality.disagree else []
    return [
        ("Photo", shown_uri(row["uri"])),
        *(("Left out", f"{_name(photo['uri'])}: {photo['reason']}") for photo in row.get("left_out", ())),
        ("Action units, 0 to 5", shown or "none"),
        ("From the camera", f"{-head.view.position[2]:.0f} cm"),
        ("Points off", f"{quality.points_share:.1%} of the face"),
        ("Normals off", f"{quality.normals:.1f} degrees"),
        *doubts,
    ]
