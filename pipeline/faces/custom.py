"""Somebody else's detector: what it answers with becomes detections, what it raises a fault of its own."""

import functools
import importlib
import importlib.util
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError, FacetError, ImageError
from pipeline.faces.detectors import Detection, Detector

FAILED = "detector_failed"
BLANK = (128, 128, 3)
"""Shape of the photo that a detector is tried on."""

WHAT_IS_READ = (
    "a list or an array of boxes (left, top, right, bottom), each with a score behind it or not, or of "
    "pipeline.faces.detectors.Detection"
)


class CustomDetector:
    """Calls a detector and takes what it answers.

    Args:
        find: Takes an upright (H, W, 3) uint8 RGB photo, and returns boxes.
        name: Of the detector, for messages.
    """

    def __init__(self, find: Callable[[np.ndarray], Any], name: str):
        self._find = find
        self._name = name

    def __call__(self, image: np.ndarray) -> list[Detection]:
        """Finds the faces of a photo.

        Raises:
            ImageError: Code detector_failed: it failed, or answered with something else than boxes.
        """
        try:
            return detections(self._find(image.copy()))  # it may draw into it
        except (FacetError, MemoryError):
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            own = place.filename == __file__
            where = "" if own else f" ({Path(place.filename).name}, line {place.lineno})"
            words = f"{type(error).__name__}: {error}{where}"
            raise ImageError(f"The detector {self._name} failed: {words}.", FAILED) from error


def detections(answer: Any) -> list[Detection]:
    """Returns the faces that a detector answered with; None stands for none.

    Raises:
        TypeError: It is something else than boxes.
        ValueError: A box is none.
    """
    if answer is None:
        return []
    if not isinstance(answer, Iterable) or isinstance(answer, str | bytes | dict):
        raise TypeError(f"it returned {type(answer).__name__}, not {WHAT_IS_READ}")
    return [_detection(face) for face in answer]


def _detection(face: Any) -> Detection:
    if isinstance(face, Detection):
        left, top, right, bottom = map(float, face.box)
        found = Detection((left, top, right, bottom), float(face.score), face.landmarks, face.roll)
    else:
        found = _of_numbers(face)
    left, top, right, bottom = found.box
    if not (np.isfinite(found.box).all() and left < right and top < bottom):
        raise ValueError(f"it returned the box {found.box}, not (left, top, right, bottom)")
    if found.landmarks is None:
        return found
    landmarks = np.asarray(found.landmarks, np.float32)
    if landmarks.shape != (68, 2) or not np.isfinite(landmarks).all():
        raise ValueError(f"it returned landmarks of shape {landmarks.shape}, not (68, 2), or not finite")
    return replace(found, landmarks=landmarks)


def _of_numbers(face: Any) -> Detection:
    """Makes a detection of (left, top, right, bottom), (..., score) or ((...), score)."""
    try:
        numbers = np.asarray(face, np.float64)
    except (TypeError, ValueError):
        try:
            numbers = np.asarray([*face[0], face[1]], np.float64)
        except (TypeError, ValueError, IndexError, KeyError):
            numbers = np.empty(0)
    if numbers.shape not in ((4,), (5,)):
        raise TypeError(f"it returned {repr(face)[:80]} for a face, not {WHAT_IS_READ}")
    left, top, right, bottom, score = [*numbers.tolist(), 1.0][:5]
    return Detection((left, top, right, bottom), score)


def load_detector(reference: str) -> Detector:
    """Returns what somebody else's factory makes, once it was tried on a blank photo.

    Args:
        reference: package.module:function; the function takes nothing and returns what takes an upright
            (H, W, 3) uint8 RGB photo and returns boxes.

    Raises:
        ConfigError: It cannot be imported, fails, or returns something else.
    """
    check_detector(reference)
    module, _, name = reference.partition(":")
    try:
        factory: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
        find = factory()
    except Exception as error:
        raise ConfigError(
            f"The detector {reference} cannot be used: {type(error).__name__}: {error}."
        ) from error
    if not callable(find):
        raise ConfigError(f"The detector {reference} returns {type(find).__name__}, not a function.")
    detector = CustomDetector(find, reference)
    try:
        detector(np.full(BLANK, 255, np.uint8))
    except ImageError as error:
        raise ConfigError(f"On a blank photo: {error.message}") from error
    return detector


def check_detector(reference: str) -> None:
    """Checks that the module of a detector exists, without running more of it than its packages.

    Raises:
        ConfigError: It is not.
    """
    module = reference.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ConfigError(
            f"The detector {reference} cannot be used: there is no module {module}. It is looked for where "
            "Python looks: install it, or name its folder in PYTHONPATH."
        )
