"""Detectors: an RGB photo in, boxes of faces out, the detector's best first.

All are dlib's: the frontal HOG detector (Dalal and Triggs, CVPR 2005; King, 2015), coarse to fine or by the
rule of the paper that the crop comes from (Abrevaya et al., CVPR 2020), and the max-margin CNN detector
(King, arXiv 1502.00046). Any callable of the same shape can take their place.
"""

import math
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Protocol

import cv2
import dlib
import numpy as np

from pipeline.faces.landmarks import model_file
from pipeline.faces.window import Box
from pipeline.pixels import resize, scale_points

SMALLEST = 80
"""Side in pixels of the smallest face that dlib's detectors find in the image that they are given."""

WORTHWHILE = 1.5
"""For more faces beside a single one, a copy is searched if it is finer by more than this factor."""

WEAK = 0.1
"""A detection that scores less is left out beside a single surer one: there it is more often a helmet or a
hand, while in a group it is more often a face."""

SAME_FACE = 0.3
"""Boxes that overlap by more than this intersection over union are the same face."""


@dataclass(frozen=True)
class Detection:
    """One detected face.

    Attributes:
        box: In upright source pixels.
        score: The detector's confidence, higher is better.
        landmarks: (68, 2) float32 x and y in the same pixels, where the detector knows them; None: they
            are fitted in the box.
        roll: Degrees by which the head leans counter-clockwise, as far as the detector knows.
    """

    box: Box
    score: float
    landmarks: np.ndarray | None = field(default=None, compare=False)
    roll: float = 0.0

    @property
    def area(self) -> float:
        """Area of the box in pixels."""
        left, top, right, bottom = self.box
        return (right - left + 1) * (bottom - top + 1)


class Detector(Protocol):
    """What stands behind face detection."""

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """Finds the faces of an upright (H, W, 3) uint8 RGB photo, the most certain first."""


class PaperDetector:
    """The paper's rule: the whole photo in grey, no upsampling, the first detection only."""

    def __init__(self) -> None:
        self._hog = dlib.get_frontal_face_detector()

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """Returns at most one face."""
        return _detect_hog(self._hog, to_grey(image), 1.0)[:1]


class FastDetector:
    """dlib's HOG detector coarse to fine, on copies of growing resolution until faces are found.

    The detector's time grows with the number of pixels and it finds every face that spans 80 pixels
    or more, so that a small copy is enough for a portrait. Full resolution is reached only when the
    coarser copies show nothing, and a small photo is enlarged last. The exception are groups: where a
    copy shows several faces near the limit of 80 pixels, there may be smaller ones, and a finer copy is
    searched as well.

    Args:
        min_face_size: Smallest face of interest in source pixels: copies finer than needed are left out.
        coarse_side: Longer side in pixels of the first copy.
        max_side: Longer side in pixels of the finest copy of a large photo; bounds time and memory.
        upsample_side: Photos smaller than this are enlarged to it, at most twice, as the last resort.
    """

    def __init__(self, min_face_size: int, coarse_side: int, max_side: int, upsample_side: int):
        self._hog = dlib.get_frontal_face_detector()
        self._limits = (min_face_size, coarse_side, max_side, upsample_side)

    def __call__(self, image: np.ndarray) -> list[Detection]:
        grey = to_grey(image)
        found: list[Detection] = []
        scales = search_scales(max(grey.shape), *self._limits)
        for scale, finer in zip_longest(scales, scales[1:], fillvalue=0.0):
            here = _detect_hog(self._hog, resize_by(grey, scale), scale)
            new = [face for face in here if not any(same_face(face, other) for other in found)]
            found += new
            sure = [face for face in found if face.score >= WEAK]
            found = sure if len(sure) == 1 else found
            smallest = min((math.sqrt(face.area) * scale for face in new), default=math.inf)
            # Several faces near the limit are a group; so may be one at the very limit, in a coarse copy.
            if len(found) > 1:
                go_on = smallest < 2 * SMALLEST
            elif len(found) == 1:
                go_on = smallest < SMALLEST and finer > WORTHWHILE * scale
            else:
                go_on = True
            if not go_on:
                break
        return sorted(found, key=lambda face: -face.score)


def search_scales(
    side: int, min_face_size: int, coarse_side: int, max_side: int, upsample_side: int
) -> list[float]:
    """Returns the scales at which `FastDetector` searches a photo, the coarsest first.

    Args:
        side: Longer side of the photo in pixels.
        min_face_size: See `FastDetector`, as for the others.
        coarse_side: Longer side in pixels of the first copy.
        max_side: Longer side in pixels of the finest copy of a large photo.
        upsample_side: Longer side in pixels to which a small photo is enlarged.
    """
    # At this scale the smallest face of interest is just large enough for the detector.
    enough = SMALLEST / min_face_size
    full = min(1.0, max_side / side, enough)
    coarse = min(full, coarse_side / side)
    # Each copy has at most twice the side of the one before.
    steps = math.ceil(math.log2(full / coarse))
    scales = [coarse * (full / coarse) ** (step / steps) for step in range(steps)] + [full]
    up = min(2.0, upsample_side / side, enough)
    return [*scales, up] if up > 1.2 else scales


class CnnDetector:
    """dlib's CNN detector: finds turned and covered faces too, at seconds per photo on a CPU.

    Args:
        side: Longer side in pixels to which photos are resized, enlarging them at most twice. Time and
            memory grow with its square: 1.6 s and 0.3 GB at 512, 6.5 s and 1.1 GB at 1024 on one core.
    """

    def __init__(self, side: int):
        self._cnn = dlib.cnn_face_detection_model_v1(str(model_file("mmod_human_face_detector.dat")))
        self._side = side

    def __call__(self, image: np.ndarray) -> list[Detection]:
        scale = min(2.0, self._side / max(image.shape[:2]))
        copy = np.ascontiguousarray(resize_by(image, scale))
        if min(copy.shape[:2]) < SMALLEST // 2:
            return []  # no room for a face, and the network fails on images smaller than its filters
        return [
            Detection(_to_source(face.rect, scale), float(face.confidence)) for face in self._cnn(copy, 0)
        ]


def to_grey(image: np.ndarray) -> np.ndarray:
    """Returns the luma of an (H, W, 3) uint8 RGB image as (H, W) uint8."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _detect_hog(hog: dlib.fhog_object_detector, grey: np.ndarray, scale: float) -> list[Detection]:
    boxes, scores, _ = hog.run(grey, 0, 0.0)
    return [Detection(_to_source(box, scale), float(score)) for box, score in zip(boxes, scores, strict=True)]


def resize_by(image: np.ndarray, scale: float) -> np.ndarray:
    """Returns a copy of an image at a scale; at scale 1 the image itself."""
    height, width = image.shape[:2]
    return resize(image, max(1, round(width * scale)), max(1, round(height * scale)))


def _to_source(box: dlib.rectangle, scale: float) -> Box:
    left, top, right, bottom = (
        scale_points(side, 1 / scale) for side in (box.left(), box.top(), box.right(), box.bottom())
    )
    return left, top, right, bottom


def same_face(first: Detection, second: Detection) -> bool:
    """Whether two detections are of the same face, by the overlap of their boxes."""
    left, top = max(first.box[0], second.box[0]), max(first.box[1], second.box[1])
    right, bottom = min(first.box[2], second.box[2]), min(first.box[3], second.box[3])
    common = max(0.0, right - left + 1) * max(0.0, bottom - top + 1)
    return common > SAME_FACE * (first.area + second.area - common)
