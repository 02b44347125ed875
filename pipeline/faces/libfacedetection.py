"""Faces at any yaw, roll and size with the network of libfacedetection (Yu et al., BSD-3).

A small copy of the photo is searched first. Where it shows one clear face nothing more is done; where it
shows nothing, a crowd, or something doubtful, finer copies follow; where no face is clear then, copies
turned by quarters are searched as well, and the turn under which a face is surest tells how its head lies.
"""

from itertools import pairwise

import cv2
import numpy as np

from pipeline.faces.detectors import Detection, same_face
from pipeline.onnx_session import open_session
from pipeline.pixels import resize, scale_points
from pipeline.weights import read_onnx

COARSE_SIDE = 160
"""Longer side in pixels of the first copy: 5 ms on one core where the photo is square."""

STEP = 2.5
"""Each copy is finer than the one before by at most this factor."""

FINEST_SIDE = 1024
"""Longer side in pixels of the finest copy: 0.25 s on one core where the photo is square."""

TURNED_SIDE = 320
"""Longer side in pixels of the turned copies."""

SMALLEST = 14
"""Side in pixels of the smallest face that is looked for in a copy; at 8 half of them are found."""

RESOLVED = 2 * SMALLEST
"""A copy that shows a face at this size would have been sure of it: finer ones add only smaller faces."""

DOUBTFUL = 0.35
"""Something that scores from here to the threshold is worth a finer copy; the library's own floor is 0.2."""

CLEAR = 0.85
"""Upright faces that are seen well score more, almost all of them 0.9: others may be turned."""

STRIDES = (8, 16, 32)
"""Pixels between the places of the network's three answers: for small, middling and large faces."""

OVERLAP = 0.45
"""Of answers that overlap by more than this intersection over union the surest is kept, as by the library."""

WEAK = 0.75
"""A resolved detection that scores less is left out beside a clear face: there it is a cloud or a bush."""


class LibFaceDetector:
    """libfacedetection coarse to fine, and turned where that shows nothing. Runs in one thread.

    Args:
        threshold: Least score of a face, 0.2..1.
        min_face_size: Smallest face of interest in source pixels: copies finer than needed are left out.
        max_side: Longer side in pixels of the finest copy.
    """

    def __init__(self, threshold: float, min_face_size: int, max_side: int):
        self._session = open_session(read_onnx("libfacedetection"), "libfacedetection")
        self._threshold = threshold
        self._min_face_size = min_face_size
        self._max_side = max_side

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """Finds the faces of an upright (H, W, 3) uint8 RGB photo, the surest first."""
        side = max(image.shape[:2])
        scales = self._scales(side)
        found = self._search(image, scales[0])
        for coarser, scale in pairwise(scales):
            if not self._worth_a_finer_copy(found, coarser):
                break
            found = _merge(found, self._search(image, scale), RESOLVED / coarser)
        if not any(face.score >= CLEAR for face in found):
            scale = min(TURNED_SIDE / side, 2.0)
            for quarters in (1, 2, 3):
                found = _merge(found, self._search(image, scale, quarters), np.inf)
        return self._certain(found)

    def _scales(self, side: int) -> list[float]:
        finest = min(self._max_side / side, SMALLEST / self._min_face_size, 2.0)
        # A large copy misses faces that fill the photo, a small one tiny faces: all sizes need such steps.
        scales = [min(COARSE_SIDE / side, max(finest, 1.0))]
        while scales[-1] * 1.25 < finest:
            scales.append(min(scales[-1] * STEP, finest))
        return scales

    def _worth_a_finer_copy(self, found: list[Detection], scale: float) -> bool:
        faces = [face for face in found if face.score >= self._threshold]
        if not faces or len(found) > len(faces):
            return True
        smallest = min(_side(face) for face in faces) * scale
        return smallest < RESOLVED or (len(faces) > 1 and smallest < 2 * RESOLVED)

    def _search(self, image: np.ndarray, scale: float, quarters: int = 0) -> list[Detection]:
        """Searches one copy, turned counter-clockwise by quarters; boxes in pixels of `image`."""
        copy = np.rot90(_reduced(image, scale), quarters)
        height, width = copy.shape[:2]
        corners, scores = self.detect(copy, WEAK if quarters else DOUBTFUL)
        roll = (0.0, 90.0, 180.0, -90.0)[-quarters % 4]
        found = []
        for points, score in zip(corners, scores, strict=True):
            low, high = scale_points(
                np.sort(turn_points_back(points, quarters, width, height), axis=0), 1 / scale
            )
            box = (*(low + 0.5).tolist(), *(high - 0.5).tolist())
            found.append(Detection(box, score, roll=roll))
        return found

    def detect(self, image: np.ndarray, least: float) -> tuple[np.ndarray, list[float]]:
        """Runs the network once.

        Args:
            image: (H, W, 3) uint8 RGB.
            least: Lowest score of a face.

        Returns:
            Upper left and lower right corners of the faces, (N, 2, 2) float64, x and y where pixel centres
            are integers; and their scores, the surest first.
        """
        height, width = image.shape[:2]
        padded = np.zeros((1, _padded(height), _padded(width), 3), np.uint8)
        padded[0, :height, :width] = image
        boxes, scores = [np.empty((0, 4))], [np.empty(0)]
        for stride, (answer,) in zip(STRIDES, self._session.run(None, {"image": padded}), strict=True):
            face, fits = 1 / (1 + np.exp(-answer[:2]))
            score = np.sqrt(face * fits)
            row, column = np.nonzero(score >= least)
            across, down, log_width, log_height = answer[2:, row, column].astype(np.float64)
            size = np.exp([log_width, log_height]) * stride
            boxes.append(np.stack([*((column + across, row + down) * np.array(stride) - size / 2), *size], 1))
            scores.append(score[row, column])
        all_boxes, all_scores = np.concatenate(boxes), np.concatenate(scores)
        kept = cv2.dnn.NMSBoxes(all_boxes.tolist(), all_scores.tolist(), 0, OVERLAP)
        low, size = np.split(all_boxes[kept], 2, axis=1)
        return np.stack([low, low + size], 1) - 0.5, all_scores[kept].tolist()

    def _certain(self, found: list[Detection]) -> list[Detection]:
        faces = [face for face in found if face.score >= self._threshold]
        clear = [_side(face) for face in faces if face.score >= CLEAR]
        if clear:
            least = max(clear) / 3
            faces = [face for face in faces if face.score >= WEAK or _side(face) < least]
        return sorted(faces, key=lambda face: (-face.score, face.box))


def _reduced(image: np.ndarray, scale: float) -> np.ndarray:
    """Returns a copy at a scale. It is halved as often as that goes: averaging by whole numbers is quick.

    What is left, less than a half, is interpolated, and as good for detection as averaged.
    """
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    while min(image.shape[:2]) > 1 and image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        half = image.shape[0] // 2, image.shape[1] // 2
        image = resize(image[: 2 * half[0], : 2 * half[1]], half[1], half[0])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _padded(side: int) -> int:
    return -(-side // STRIDES[-1]) * STRIDES[-1]


def turn_points_back(points: np.ndarray, quarters: int, width: int, height: int) -> np.ndarray:
    """Points (N, 2) of a copy that `np.rot90` turned, as pixels of the copy before.

    Args:
        points: x and y in pixels of the turned copy.
        quarters: How often it was turned by 90 degrees counter-clockwise.
        width: Width of the turned copy.
        height: Height of the turned copy.
    """
    x, y = points.T
    match quarters % 4:
        case 1:
            x, y = height - 1 - y, x
        case 2:
            x, y = width - 1 - x, height - 1 - y
        case 3:
            x, y = y, width - 1 - x
    return np.stack([x, y], axis=1)


def _merge(found: list[Detection], new: list[Detection], largest: float) -> list[Detection]:
    """Adds faces up to a size; of detections of the same face the surer one stays."""
    faces = [*found, *(face for face in new if _side(face) < largest or face.score >= CLEAR)]
    kept: list[Detection] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if not any(same_face(face, other) for other in kept):
            kept.append(face)
    return kept


def _side(face: Detection) -> float:
    left, top, right, bottom = face.box
    return max(right - left, bottom - top) + 1
