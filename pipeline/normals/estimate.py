"""From a photo in memory to the normals of its faces, in one call."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from pipeline.faces.crop import CropWindow, cut_face, hull_mask
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.faces.landmarks import Face
from pipeline.images.given import AnyPhoto, as_pixels
from pipeline.normals.architectures import LoadedWeights
from pipeline.normals.inference import NormalsEstimator
from pipeline.normals.upright import in_photo, upright_crop, upright_window
from pipeline.weights import DEFAULT

Finder = Callable[[np.ndarray], list[Face]]


@dataclass(frozen=True)
class FaceNormals:
    """One face of a photo with its normals.

    Attributes:
        index: Rank among the faces of the photo.
        box: Left, top, right, bottom of the detector's box in pixels of the photo.
        score: The detector's confidence.
        landmarks: (68, 2) float32, x and y in pixels of the photo.
        window: The square of the photo that the maps below cover.
        crop: (H, W, 3) uint8 of this window.
        normals: (H, W, 3) float32, unit length, camera space: x right, y up, z to the viewer. The camera is
            the crop's; see `pipeline.geometry.crop_camera`.
        mask: (H, W) uint8, 255 where the normals are meant.
        confidence: (H, W) float32, larger is surer, 0 where there is no answer, or None where the network
            does not learn it.
    """

    index: int
    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray
    window: CropWindow
    crop: np.ndarray
    normals: np.ndarray
    mask: np.ndarray
    confidence: np.ndarray | None


@overload
def estimate_normals(
    images: AnyPhoto,
    weights: str | Path | LoadedWeights | NormalsEstimator = ...,
    detect: Literal["auto", "dlib", "paper", "cnn"] | DetectConfig | Finder = ...,
) -> list[FaceNormals]: ...
@overload
def estimate_normals(
    images: list[Any] | tuple[Any, ...],
    weights: str | Path | LoadedWeights | NormalsEstimator = ...,
    detect: Literal["auto", "dlib", "paper", "cnn"] | DetectConfig | Finder = ...,
) -> list[list[FaceNormals]]: ...
def estimate_normals(
    images: AnyPhoto | list[Any] | tuple[Any, ...],
    weights: str | Path | LoadedWeights | NormalsEstimator = DEFAULT,
    detect: Literal["auto", "dlib", "paper", "cnn"] | DetectConfig | Finder = "auto",
) -> list[FaceNormals] | list[list[FaceNormals]]:
    """Estimates the surface normals of every face in one photo or in several.

    Args:
        images: A photo, or a list of photos: each an (H, W, 3) uint8 RGB array, upright, a Pillow image, a
            path or URL, or the bytes of a file.
        weights: Name or path of weights. For many calls make a `NormalsEstimator` once and pass that.
        detect: Mode of detection or its whole configuration; or a function from a photo to its faces, such
            as a `FaceFinder` made once for many calls.

    Returns:
        The faces of the photo; for a list of photos a list of such lists.

    Raises:
        ValueError: An image has another shape or type.
        ImageError: A file cannot be read or decoded.
        WeightsError: The weights cannot be loaded.
    """
    single = not isinstance(images, list | tuple)
    photos = [as_pixels(images)] if not isinstance(images, list | tuple) else list(map(as_pixels, images))
    estimator = weights if isinstance(weights, NormalsEstimator) else NormalsEstimator(weights)
    if isinstance(detect, str):
        detect = DetectConfig(mode=detect)
    find = FaceFinder(detect) if isinstance(detect, DetectConfig) else detect
    found = [(photo, find(photo)) for photo in photos]
    results = [_estimate(photo, faces, estimator) for photo, faces in found]
    return results[0] if single else results


def _estimate(photo: np.ndarray, faces: list[Face], estimator: NormalsEstimator) -> list[FaceNormals]:
    if not faces:
        return []
    height, width = photo.shape[:2]
    windows, crops = zip(*(cut_face(photo, face) for face in faces), strict=True)
    upright = [upright_window(face) for face in faces]
    pairs = zip(crops, upright, strict=True)
    answer = estimator(
        np.stack([crop if seen is None else upright_crop(photo, seen) for crop, seen in pairs])
    )
    results = []
    for i, (face, window, seen) in enumerate(zip(faces, windows, upright, strict=True)):
        normals, mask, confidence = in_photo(answer, i, seen, window, (width, height))
        results.append(
            FaceNormals(
                index=face.index,
                box=face.box,
                score=face.score,
                landmarks=face.landmarks,
                window=window,
                crop=crops[i],
                normals=normals,
                mask=hull_mask(face.landmarks, window, width, height) if mask is None else mask,
                confidence=confidence,
            )
        )
    return results
