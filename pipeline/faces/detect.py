"""Faces of a photo: a detector's boxes, selected, ordered, and their 68 landmarks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.config import Section
from pipeline.faces.custom import CustomDetector, load_detector
from pipeline.faces.detectors import (
    CnnDetector,
    Detection,
    Detector,
    FastDetector,
    PaperDetector,
    to_grey,
)
from pipeline.faces.landmarks import Face, LandmarkPredictor
from pipeline.faces.libfacedetection import FINEST_SIDE, LibFaceDetector
from pipeline.faces.points import FacePoints, PointsFinder
from pipeline.images.given import AnyPhoto, as_pixels

if TYPE_CHECKING:
    from pipeline.storage.places import StorageConfig


MOST_DOUBTED = 8
"""So many detections of a photo are looked at upside down in vain."""


class DetectConfig(Section):
    """Which faces are looked for, and how.

    Attributes:
        mode: auto: libfacedetection and the points network: faces at any yaw and roll. dlib: HOG, coarse to
            fine, and dlib's landmarks. paper: HOG at full resolution, the first detection only, whatever
            `faces` and `min_face_size` say. cnn: dlib's CNN. files: no detector, landmarks from files.
            custom: a detector of your own, see `detector`, which alone says so.
        faces: all; largest: the one with the largest box; first: the detector's most certain.
        threshold: Least score of the detector that `auto` takes for a face, 0.2..1.
        max_sigma: Largest mean uncertainty of the points of what `auto` takes for a face, in sides of the
            window that the network looks at.
        min_face_size: Faces whose box is narrower than this many source pixels are left out.
        coarse_side: Longer side in pixels of the copy that `dlib` searches first.
        max_side: Longer side in pixels of the finest copy that `auto` (at most 1024) and `dlib` search: in a
            larger photo faces narrower than 14 or 80 pixels of this copy are not found.
        upsample_side: Longer side in pixels to which `dlib` enlarges smaller photos at last.
        cnn_side: Longer side in pixels of the copy that `cnn` searches.
        landmarks: Folder of the landmark files of `files`; see `pipeline.faces.landmark_files`.
        detector: package.module:function of `custom`; see `pipeline.faces.custom`.
    """

    mode: Literal["auto", "dlib", "paper", "cnn", "files", "custom"] = "auto"
    faces: Literal["all", "largest", "first"] = "all"
    threshold: float = Field(default=0.6, ge=0.2, le=1)
    max_sigma: float = Field(default=0.035, gt=0)
    min_face_size: int = Field(default=40, ge=10)
    coarse_side: int = Field(default=400, ge=100, le=4096)
    max_side: int = Field(default=2048, ge=100, le=16384)
    upsample_side: int = Field(default=1024, ge=0, le=4096)
    cnn_side: int = Field(default=640, ge=100, le=2048)
    landmarks: str | None = None
    detector: str | None = Field(default=None, pattern=r"^\w+(\.\w+)*:\w+(\.\w+)*$")

    @model_validator(mode="before")
    @classmethod
    def _detector_says_the_mode(cls, values: Any) -> Any:
        custom = isinstance(values, dict) and values.get("detector") and "mode" not in values
        return values | {"mode": "custom"} if custom else values

    @model_validator(mode="after")
    def _fields_belong_to_modes(self) -> Self:
        if (self.mode == "files") != bool(self.landmarks):
            raise ValueError("mode=files needs landmarks=FOLDER, and landmarks=FOLDER needs mode=files")
        if (self.mode == "custom") != bool(self.detector):
            raise ValueError("mode=custom needs detector=MODULE:FUNCTION, and detector needs mode=custom")
        return self


class FaceFinder:
    """Finds the faces of photos and their landmarks. Deterministic; one instance per process.

    Args:
        config: What to look for.
        detector: A detector to use in place of the configured one; see `pipeline.faces.custom`.
        storage: How remote landmark files are reached.

    Attributes:
        detector_name: See `detector_name`; "custom" for one that was passed.

    Raises:
        ConfigError: Mode custom: the detector cannot be had.
    """

    def __init__(
        self,
        config: DetectConfig | None = None,
        detector: Detector | None = None,
        storage: StorageConfig | None = None,
    ):
        config = config or DetectConfig()
        self._config = config
        self._by_uri = detector is None and config.mode == "files"
        self._detector: Any
        if detector is None:
            self._detector = _build_detector(config, storage)
        else:
            self._detector = CustomDetector(detector, "custom")
        self.detector_name = "custom" if detector else detector_name(config)
        self._points = PointsFinder() if detector is None and config.mode == "auto" else None
        if detector is None and config.mode not in ("auto", "files", "custom"):
            # Loaded now, not as a part of the first photo's time. A custom one may have landmarks itself.
            self._predictor  # noqa: B018

    @cached_property
    def _predictor(self) -> LandmarkPredictor:
        return LandmarkPredictor()

    def __call__(self, image: AnyPhoto, uri: str | None = None) -> list[Face]:
        """Finds the faces of one photo.

        Args:
            image: (H, W, 3) uint8 RGB, upright; or a Pillow image, a path or URL, or the bytes of a file.
            uri: Path or URL of the photo, by whose name landmark files are found.

        Returns:
            Faces with index 0, 1, ...: the largest box first, or the one face that is asked for. Empty
            where there is none.

        Raises:
            ImageError: Mode files: the file of this photo cannot be used.
        """
        image = as_pixels(image)
        if not self._by_uri:
            detections = self._detector(image)
        elif uri is not None:
            detections = self._detector(uri)
        else:
            raise ValueError("landmarks from files are found by the photo's URI")
        if self._points is not None:
            return self._with_points(image, detections, self._points)
        if self._config.mode != "paper":
            detections = select(detections, self._config)
        grey = to_grey(image)
        by_paper = self._config.mode == "paper"
        return [
            Face(index, detection.box, detection.score, self._landmarks(grey, detection), by_paper=by_paper)
            for index, detection in enumerate(detections)
        ]

    def _with_points(
        self, image: np.ndarray, detections: list[Detection], find_points: PointsFinder
    ) -> list[Face]:
        found = find_all_points(
            large_enough(detections, self._config),
            lambda detection, turn: find_points(image, detection.box, detection.roll + turn),
            self._config.max_sigma,
        )
        return [
            Face(index, detection.box, detection.score, found[detection].landmarks, found[detection])
            for index, detection in enumerate(select(list(found), self._config))
        ]

    def _landmarks(self, grey: np.ndarray, detection: Detection) -> np.ndarray:
        if detection.landmarks is not None:
            return detection.landmarks
        if self._config.mode == "paper":
            return self._predictor.fit_directly(grey, detection.box)
        return self._predictor.fit(grey, detection.box)


def find_all_points(
    detections: list[Detection], find: Callable[[Detection, int], FacePoints], max_sigma: float
) -> dict[Detection, FacePoints]:
    """Returns the detections that look like faces to the points network, and their points.

    The detector may be sure of a face that is upside down, and not see that it is: what does not look like a
    face is looked at once more, turned by 180 degrees. Not so after `MOST_DOUBTED` in vain: the photo is a
    pattern or a blurred crowd.

    Args:
        detections: The surest first.
        find: Returns the points of a detection whose head leans by so many degrees more than it says.
        max_sigma: Largest `relative_sigma` of a face.
    """
    found: dict[Detection, FacePoints] = {}
    turns, in_vain = [0, 180], 0
    for detection in detections:
        for turn in turns if in_vain < MOST_DOUBTED else turns[:1]:
            points = find(detection, turn)
            if points.relative_sigma <= max_sigma:
                found[detection] = points
                turns.sort(key=lambda other: other != turn)  # in an upside-down photo others will be, too
                break
        else:
            in_vain += 1
    return found


def large_enough(detections: list[Detection], config: DetectConfig) -> list[Detection]:
    """Leaves out faces that are narrower or lower than `min_face_size`."""
    return [
        face
        for face in detections
        if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) + 1 >= config.min_face_size
    ]


def select(detections: list[Detection], config: DetectConfig) -> list[Detection]:
    """Leaves out small faces and those that are not asked for; the largest come first."""
    large = large_enough(detections, config)
    if config.faces == "first":
        return large[:1]
    # Equal areas are common, since dlib's boxes come in steps: the rest of the key fixes the order.
    large.sort(key=lambda face: (-face.area, -face.score, face.box))
    return large[:1] if config.faces == "largest" else large


def detector_name(config: DetectConfig) -> str:
    """Returns what finds the faces here: libfacedetection, hog, cnn, files, or a detector of one's own."""
    if config.mode == "auto":
        return "libfacedetection"
    return config.detector or (config.mode if config.mode in ("cnn", "files") else "hog")


def _build_detector(config: DetectConfig, storage: StorageConfig | None) -> Any:
    if config.landmarks:
        # Here, since it reads from storage, whose libraries take as long to import as all others do.
        from pipeline.faces.landmark_files import LandmarkFiles

        return LandmarkFiles(config.landmarks, storage)
    if config.detector:
        return load_detector(config.detector)
    if config.mode == "paper":
        return PaperDetector()
    if config.mode == "auto":
        return LibFaceDetector(config.threshold, config.min_face_size, min(config.max_side, FINEST_SIDE))
    if config.mode == "cnn":
        return CnnDetector(config.cnn_side)
    return FastDetector(config.min_face_size, config.coarse_side, config.max_side, config.upsample_side)
