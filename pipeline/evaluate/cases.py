"""Labelled crops to score on: from Parquet in the training schema, or from folders of pictures.

What is in a folder of pictures is told in `pipeline.samples.pictures`: square crops, made as the product
makes them, and normal maps of our convention, in which a vector of no length means no truth there.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from pipeline.errors import DataError, FacetError
from pipeline.images.png import encode_png
from pipeline.regions import Region
from pipeline.samples.pictures import decode_any_photo, pair_pictures, what_it_holds
from pipeline.samples.rows import PAIRED, BadRows, find_row_groups, keep_kinds, load_group
from pipeline.samples.sample import Sample, decode_row
from pipeline.samples.schema import SIZE
from pipeline.storage.store import Store

log = logging.getLogger(__name__)


def read_cases(paths: Sequence[str], bad: BadRows, size: int = SIZE) -> Iterator[Sample]:
    """Yields the labelled crops of folders and Parquet data, decoded, at one size.

    `bad` takes what cannot be used.

    Raises:
        DataError: A path holds no labelled crop at all.
    """
    for path in paths:
        count = 0
        for sample in _read_path(path, bad, size):
            if face_mask(sample).any():
                count += 1
                yield sample
            else:
                bad.add(sample.id, "no pixel of the face has a true normal")
        if not count:
            raise DataError(f"{path} holds no labelled crop that can be used.")


def face_mask(sample: Sample) -> np.ndarray:
    """Returns the pixels (S, S) bool of skin and eyes whose true normal is known."""
    assert sample.normals is not None
    assert sample.regions is not None
    return np.isin(sample.regions, (Region.SKIN, Region.EYE)) & sample.normals.any(-1)


def landmark_mask(sample: Sample) -> np.ndarray | None:
    """Returns the pixels (S, S) bool inside the landmarks' convex hull with a true normal, or None.

    None also where the landmarks are not known.
    """
    assert sample.normals is not None
    if sample.landmarks is None:
        return None
    canvas = np.zeros(sample.normals.shape[:2], np.uint8)
    points = np.floor(sample.landmarks.astype(np.float64) + 0.5).astype(np.int32)
    cv2.fillPoly(canvas, [cv2.convexHull(points)], 1)
    inside = (canvas > 0) & sample.normals.any(-1)
    return inside if inside.any() else None


def _read_path(path: str, bad: BadRows, size: int) -> Iterator[Sample]:
    if {"images", "normals"} & set(Store(path).names()):
        yield from _read_pictures(Store(path), bad, size)
        return
    for group in find_row_groups([path]):
        paired = keep_kinds(group, group.kinds == PAIRED)
        yield from (sample for sample in load_group(paired, size, bad) if sample is not None)


def _read_pictures(folder: Store, bad: BadRows, size: int) -> Iterator[Sample]:
    pairing = pair_pictures(folder)
    for line in pairing.lines():
        log.warning("Left out: %s.", line)
    for name, files in pairing.rows.items():
        if what_it_holds(files) != "paired":
            (alone,) = {files.get("image"), files.get("normal")} - {None}
            bad.add(str(alone), "it has no partner")
            continue
        try:
            row: dict[str, Any] = {column: folder.read(file) for column, file in files.items()}
            row |= {"id": name, "image": encode_png(decode_any_photo(row["image"]))}
            yield decode_row(row, size)
        except (FacetError, FileNotFoundError) as error:
            bad.add(files["image"], str(error))
