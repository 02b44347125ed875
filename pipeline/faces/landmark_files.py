"""Landmarks from files, one per photo, in place of a detector.

The file has the photo's name with another ending:

    photo.npy   NumPy array, (68, 2) or (faces, 68, 2), x and y in pixels of the upright photo
    photo.pts   iBUG's text format, one face; its first pixel is 1, so that 1 is subtracted

A photo without a file has no face.
"""

import io
import tokenize
from pathlib import PurePosixPath

import numpy as np

from pipeline.errors import ImageError, ReadError
from pipeline.faces.detectors import Detection
from pipeline.faces.landmarks import COUNT
from pipeline.images.read import ReadConfig, read_bytes
from pipeline.storage.places import StorageConfig, local_path

MAX_FACES = 1000
"""Faces of a file beyond which it is taken to be damaged."""


class LandmarkFiles:
    """Looks up the landmarks of photos."""

    def __init__(self, folder: str, storage: StorageConfig | None = None):
        self._folder = folder.rstrip("/")
        self._read = ReadConfig(storage=storage or StorageConfig(), max_bytes=1 << 20)

    def __call__(self, uri: str) -> list[Detection]:
        """Returns the faces of a photo: the tight boxes of the landmarks with a score of 1.

        Args:
            uri: Path or URL of the photo; only its name counts.

        Raises:
            ImageError: Code landmarks_invalid: the file holds no such landmarks.
            ReadError: The file is there but cannot be read.
        """
        stem = PurePosixPath(local_path(uri) or uri.partition("?")[0]).stem
        for ending, parse in ((".npy", _parse_npy), (".pts", _parse_pts)):
            name = f"{self._folder}/{stem}{ending}"
            try:
                content = read_bytes(name, self._read)
            except ReadError as error:
                if error.code == "not_found":
                    continue
                raise
            try:
                return [_as_detection(points) for points in parse(content)]
            except ValueError as error:
                message = f"{name} does not hold landmarks: {error}."
                raise ImageError(message, "landmarks_invalid") from error
        return []


def _parse_npy(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    try:
        shape, _, dtype = read_header(file)
    except tokenize.TokenError as error:  # NumPy lets it through
        raise ValueError("its header is damaged") from error
    # Before the array is made: a header may claim any size.
    if shape[-2:] != (COUNT, 2) or len(shape) > 3 or (len(shape) == 3 and shape[0] > MAX_FACES):
        raise ValueError(f"its shape is {shape}, not (68, 2) or (faces, 68, 2)")
    if dtype.kind not in "fiu":
        raise ValueError(f"it holds {dtype}, not numbers")
    return np.load(io.BytesIO(content), allow_pickle=False).reshape(-1, COUNT, 2)


def _parse_pts(content: bytes) -> np.ndarray:
    text = content.decode("ascii", "strict")
    values = text.partition("{")[2].partition("}")[0].split()
    if len(values) != 2 * COUNT:
        raise ValueError(f"it has {len(values)} numbers between its braces, not {2 * COUNT}")
    return np.array(values, dtype=np.float64).reshape(1, COUNT, 2) - 1


def _as_detection(points: np.ndarray) -> Detection:
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        landmarks = points.astype(np.float32)
    if not (np.abs(landmarks) < 1e6).all():
        raise ValueError("a coordinate is no sensible number")
    (left, top), (right, bottom) = landmarks.min(axis=0).tolist(), landmarks.max(axis=0).tolist()
    return Detection((left, top, right, bottom), 1.0, landmarks)
