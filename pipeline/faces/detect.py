"""Faces of a photo: a detector's boxes, selected, ordered, and their 68 landmarks."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.config import Section
from pipeline.faces.detectors import CnnDetector, Detection, Detector, FastDetector, SeedDetector, to_grey
from pipeline.faces.landmark_files import LandmarkFiles
from pipeline.faces.landmarks import Face, LandmarkPredictor


class DetectConfig(Section):
    """Which faces are looked for, and how.

    Attributes:
        mode: fast: HOG, coarse to fine. seed: HOG at full resolution, the first detection only, whatever
            `faces` and `min_face_size` say. cnn: dlib's CNN. files: no detector, landmarks from files.
        faces: all; largest: the one with the largest box; first: the detector's most certain.
        min_face_size: Faces whose box is narrower than this many source pixels are left out.
        coarse_side: Longer side in pixels of the copy that `fast` searches first.
        max_side: Longer side in pixels of the finest copy that `fast` searches: faces narrower than
            80 / max_side of the longer side of a larger photo are not found.
        upsample_side: Longer side in pixels to which `fast` enlarges smaller photos at last.
        cnn_side: Longer side in pixels of the copy that `cnn` searches.
        landmarks: Folder of the landmark files of `files`; see `pipeline.faces.landmark_files`.
    """

    mode: Literal["fast", "seed", "cnn", "files"] = "fast"
    faces: Literal["all", "largest", "first"] = "all"
    min_face_size: int = Field(default=40, ge=20)
    coarse_side: int = Field(default=400, ge=100, le=4096)
    max_side: int = Field(default=2048, ge=100, le=16384)
    upsample_side: int = Field(default=1024, ge=0, le=4096)
    cnn_side: int = Field(default=640, ge=100, le=2048)
    landmarks: str | None = None

    @model_validator(mode="after")
    def _landmarks_belong_to_files(self) -> Self:
        if (self.mode == "files") != bool(self.landmarks):
            raise ValueError("mode=files needs landmarks=FOLDER, and landmarks=FOLDER needs mode=files")
        return self


class FaceFinder:
    """Finds the faces of photos and their landmarks. Deterministic; one instance per process.

    Args:
        config: What to look for.
        detector: A detector to use in place of the configured one.
    """

    def __init__(self, config: DetectConfig, detector: Detector | None = None):
        self._config = config
        self._detector = detector or _build_detector(config)
        self._predictor = LandmarkPredictor()

    def __call__(self, image: np.ndarray, uri: str | None = None) -> list[Face]:
        """Finds the faces of one photo.

        Args:
            image: (H, W, 3) uint8 RGB, upright.
            uri: Path or URL of the photo, by whose name landmark files are found.

        Returns:
            Faces with index 0, 1, ...: the largest box first, or the one face that is asked for. Empty
            where there is none.

        Raises:
            ImageError: Mode files: the file of this photo cannot be used.
        """
        if not isinstance(self._detector, LandmarkFiles):
            detections = self._detector(image)
        elif uri is not None:
            detections = self._detector(uri)
        else:
            raise ValueError("landmarks from files are found by the photo's URI")
        if self._config.mode == "seed":
            fit = self._predictor.fit_directly
        else:
            fit = self._predictor.fit
            detections = select(detections, self._config)
        grey = to_grey(image)
        return [
            Face(
                index,
                detection.box,
                detection.score,
                fit(grey, detection.box) if detection.landmarks is None else detection.landmarks,
            )
            for index, detection in enumerate(detections)
        ]


def select(detections: list[Detection], config: DetectConfig) -> list[Detection]:
    """Leaves out small faces and those that are not asked for; the largest come first."""
    large = [
        face
        for face in detections
        if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) + 1 >= config.min_face_size
    ]
    if config.faces == "first":
        return large[:1]
    # Equal areas are common, since dlib's boxes come in steps: the rest of the key fixes the order.
    large.sort(key=lambda face: (-face.area, -face.score, face.box))
    return large[:1] if config.faces == "largest" else large


def _build_detector(config: DetectConfig) -> Detector | LandmarkFiles:
    if config.landmarks:
        return LandmarkFiles(config.landmarks)
    if config.mode == "seed":
        return SeedDetector()
    if config.mode == "cnn":
        return CnnDetector(config.cnn_side)
    return FastDetector(config.min_face_size, config.coarse_side, config.max_side, config.upsample_side)
