"""What a rendered row says about its points, for the picture as it is and for its mirror image.

A mirrored picture shows a head whose every vertex is that of the other side: the points' own places are not
stored in a row, but follow from the head's numbers in `meta`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.errors import DataError
from pipeline.geometry.head_model import NARROW_FACE_VERTICES, FaceModel
from pipeline.geometry.head_regions import dense_vertices
from pipeline.regions import Region
from pipeline.samples.rows import find_row_groups


@dataclass(frozen=True)
class LabelledHead:
    """One row's picture and labels; first as it is, then mirrored.

    Attributes:
        image: The encoded picture, not mirrored.
        size: Side of the picture in pixels.
        points: (2, COUNT, 2) float32, pixels of the picture.
        visible: (2, COUNT) bool: inside the picture and hidden neither by the head nor by a thing.
        rotation: (2, 3, 3) float32, head space to the space of the photo's camera.
        focal: Focal length of that camera in pixels of the picture.
        centre: (2, 2) float32, its principal point.
        meta: What else the row says.
    """

    image: bytes
    size: int
    points: np.ndarray
    visible: np.ndarray
    rotation: np.ndarray
    focal: float
    centre: np.ndarray
    meta: dict[str, Any]


def point_vertices(model: FaceModel) -> np.ndarray:
    """Vertex ids (COUNT,) of the points."""
    return torch.cat([dense_vertices(model), model.landmarks]).numpy()


def vertices_digest(ids: np.ndarray) -> str:
    """Names a choice of vertices: weights hold for one choice alone."""
    return hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest()[:16]


def label_row(row: Mapping[str, Any], model: FaceModel) -> LabelledHead:
    """Labels of a row of `pipeline.samples.schema.RENDERED_SCHEMA`."""
    meta = json.loads(row["meta"])
    basis, neutral = _basis(model)
    coefficients = np.array([*meta["identity"], *meta["expression"]], np.float32)
    vertices = (neutral + (coefficients @ basis).reshape(-1, 3)) * np.array(meta["scale"], np.float32)
    rotation = np.array(meta["rotation"], np.float32)
    points_camera = vertices @ rotation.T + np.array(meta["translation"], np.float32)
    depth = -points_camera[:, 2]
    centre = np.array(meta["centre"], np.float32)
    points = centre + meta["focal"] * points_camera[:, :2] * [1, -1] / depth[:, None]
    seen = decode_bgr(row["depth"])
    depths = np.where(seen > 0, seen * meta["depth_scale"] + meta["depth_offset"], 0.0).astype(np.float32)
    visible = _visible(points, depth, depths, decode_bgr(row["regions"]))
    size = seen.shape[0]
    points, visible = points.reshape(2, -1, 2).astype(np.float32), visible.reshape(2, -1)
    points[1, :, 0] = size - 1 - points[1, :, 0]
    flip = np.diag([-1.0, 1.0, 1.0]).astype(np.float32)
    return LabelledHead(
        image=row["image"],
        size=size,
        points=points,
        visible=visible,
        rotation=np.stack([rotation, flip @ rotation @ flip]),
        focal=float(meta["focal"]),
        centre=np.stack([centre, [size - 1 - centre[0], centre[1]]]).astype(np.float32),
        meta=meta,
    )


def read_heads(paths: Sequence[str], model: FaceModel) -> Iterator[LabelledHead]:
    """Labels the rows of rendered Parquet files, or of folders of them, local or as URLs.

    Raises:
        DataError: A path holds no Parquet file, or one that the renderer did not write.
    """
    files = {group.path: group for group in find_row_groups(paths)}
    for path, group in files.items():
        try:
            with group.store.open(group.name) as file:
                table = pq.read_table(file, columns=["image", "meta", "depth", "regions"])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} holds no rendered heads: {error}.") from error
        for row in table.to_pylist():
            yield label_row(row, model)


def _visible(points: np.ndarray, depth: np.ndarray, depths: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The rule of `pipeline.synth.labels.project_vertices`, and no hair or thing before a point."""
    size = len(depths)
    column, row = np.rint(points).astype(int).T
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    row, column = row.clip(0, size - 1), column.clip(0, size - 1)
    farthest = cv2.dilate(depths, np.ones((3, 3), np.uint8))
    free = ~np.isin(regions[row, column], [int(Region.HAIR), int(Region.OCCLUDER)])
    return inside & free & (depth < farthest[row, column] + 0.4)


def decode_bgr(data: bytes, mode: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """Decodes an image as OpenCV does: colours are BGR."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    assert image is not None
    return image


@lru_cache(maxsize=1)
def _basis(model: FaceModel) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (153, 2 COUNT * 3) and neutral places (2 COUNT, 3) of the points and of their mirror points."""
    skin = model.neutral[:NARROW_FACE_VERTICES]
    distance, mirror = torch.cdist(skin * skin.new_tensor([-1, 1, 1]), skin).min(1)
    assert distance.max() < 0.02, "the head model is not symmetric"
    ids = point_vertices(model)
    ids = np.concatenate([ids, mirror.numpy()[ids]])
    offsets = torch.cat([model.identity, model.expression]).reshape(-1, len(model.neutral), 3)[:, ids]
    return offsets.flatten(1).numpy(), model.neutral[ids].numpy()
