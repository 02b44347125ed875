"""Stage: decode a photo, find its faces, cut them out. Runs in a process of its own, so it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.faces.crop import CropShape, cut_encoded, cut_face
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.faces.landmarks import Face
from pipeline.faces.points import DENSE, FacePoints
from pipeline.images.decode import DecodeConfig, decode_photo
from pipeline.images.png import encode_quickly
from pipeline.normals.upright import upright_crop, upright_window
from pipeline.run.items import Item, Photo

if TYPE_CHECKING:
    from pipeline.storage.places import StorageConfig

NO_FACE = "no_face"

POINTS_FIELDS = ("points", "visible", "rotation", "points_sigma")
"""Fields of a face that are null where there is no points network."""


class CropStage:
    """Takes items of one photo each from bytes to crops, and describes their faces.

    Hands on a dictionary for each face: name -> (window, encoded crop) of the further crops asked for,
    "upright", (window, crop) of a head that leans, and "photo_size", the photo's width and height.

    Args:
        decode: How to decode.
        detect: How to find faces.
        storage: How remote landmark files are reached.
        shapes: Crops to cut beside the one that every record holds.
    """

    def __init__(
        self,
        decode: DecodeConfig,
        detect: DetectConfig,
        storage: StorageConfig | None = None,
        shapes: tuple[CropShape, ...] = (),
    ):
        self._decode = decode
        self._find_faces = FaceFinder(detect, storage=storage)
        self._shapes = shapes

    def __call__(self, item: Item) -> None:
        """Works on one photo.

        Raises:
            ImageError: It cannot be decoded, or its landmarks not be used.
        """
        (photo,) = item.photos
        facts, faces, handed_on = self.look(photo)
        item.record.update(facts)
        if not faces:
            item.end_empty(NO_FACE, "No face was found.")
            return
        item.record["faces"], item.handed_on = faces, handed_on

    def look(self, photo: Photo) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        """Looks at a photo.

        Returns:
            What a record says of the photo, what it says of each face, and what is handed on with each.

        Raises:
            ImageError: It cannot be decoded, or its landmarks not be used.
        """
        decoded = decode_photo(photo.data or b"", self._decode)
        image = decoded.pixels
        height, width = image.shape[:2]
        facts = {
            "width": width,
            "height": height,
            "focal_mm": decoded.focal_mm,
            "focal_35mm": decoded.focal_35mm,
        }
        faces = self._find_faces(image, photo.file.uri)
        handed_on: list[dict[str, Any]] = [
            {shape.name: cut_encoded(image, face.landmarks, shape) for shape in self._shapes}
            | {"photo_size": (width, height)}
            for face in faces
        ]
        for face, found in zip(faces, handed_on, strict=True):
            if (window := upright_window(face)) is not None:
                found["upright"] = (window, upright_crop(image, window))
        detector = self._find_faces.detector_name
        return facts, [describe_face(image, face) | {"detector": detector} for face in faces], handed_on


def describe_face(image: np.ndarray, face: Face) -> dict[str, Any]:
    """Returns a face's part of the record, without normals and mask.

    Args:
        image: (H, W, 3) uint8 RGB, upright.
        face: A face of this photo.
    """
    window, crop = cut_face(image, face)
    return {
        "index": face.index,
        "box": list(face.box),
        "score": face.score,
        "landmarks": face.landmarks.ravel(),
        **describe_points(face.points),
        "crop_window": {"left": window.left, "top": window.top, "size": window.size},
        "crop_png": encode_quickly(crop),
    }


def describe_points(found: FacePoints | None) -> dict[str, Any]:
    """Returns what the record says of the points of a face; nothing where they were not looked for."""
    if found is None:
        return dict.fromkeys(POINTS_FIELDS)
    return {
        "points": np.column_stack([found.points, found.sigma[:DENSE]]).ravel(),
        "visible": np.rint(found.visible[:DENSE] * 255).astype(np.uint8),
        "rotation": found.rotation.ravel(),
        "points_sigma": found.relative_sigma,
    }
