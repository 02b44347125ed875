"""Rates of the single steps of the way of a photo, on one core: where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bench.timing import Rate, measure, one_core
from pipeline.errors import InputError
from pipeline.faces.crop import crop_image, crop_window, hull_mask
from pipeline.faces.detect import DetectConfig
from pipeline.faces.detectors import FastDetector, SeedDetector, to_grey
from pipeline.faces.landmarks import Box, LandmarkPredictor
from pipeline.images.decode import DecodeConfig, decode_image
from pipeline.images.png import encode_png
from pipeline.images.read import ReadConfig, read_bytes
from pipeline.normals.architectures import LoadedWeights
from pipeline.normals.encoding import encode_normals
from pipeline.normals.inference import NormalsEstimator


@dataclass(frozen=True)
class _Found:
    """The first face of a photo."""

    image: np.ndarray
    box: Box


def measure_steps(photos: Sequence[Path], weights: LoadedWeights, batch: int = 8) -> list[Rate]:
    """Times every step, one after the other; the first face of each photo is followed.

    Args:
        photos: Photos of faces; those without one drop out after the detection.
        weights: Weights of the network.
        batch: Crops that go through the network together.

    Raises:
        InputError: No photo shows a face.
        ImageError: A photo cannot be read or decoded.
    """
    rates: list[Rate] = []

    def step(name: str, function: Callable, items: Sequence, **options: Any) -> list:
        rate, results = measure(name, function, items, **options)
        rates.append(rate)
        return results

    with one_core():
        reading, decoding, detecting = ReadConfig(), DecodeConfig(), DetectConfig()
        data = step("read", lambda photo: read_bytes(str(photo), reading), photos)
        images = step("decode", lambda content: decode_image(content, decoding), data)
        step("detect, seed", SeedDetector(), images)
        fast = FastDetector(
            detecting.min_face_size, detecting.coarse_side, detecting.max_side, detecting.upsample_side
        )
        boxes = step("detect, fast", fast, images)
        found = [_Found(image, faces[0].box) for image, faces in zip(images, boxes, strict=True) if faces]
        if not found:
            raise InputError("No face was found in the photos; the benchmark needs photos of faces.")
        predictor = LandmarkPredictor()
        landmarks = step("landmarks", lambda face: predictor.fit(to_grey(face.image), face.box), found)
        pairs = step("crop and hull", _crop, list(zip(found, landmarks, strict=True)))
        crops, hulls = np.stack([crop for crop, _ in pairs]), [hull for _, hull in pairs]
        estimated = step(
            f"normals, {batch} at a time",
            NormalsEstimator(weights, device="cpu", batch_size=batch),
            [crops[start : start + batch] for start in range(0, len(crops), batch)],
            weight=len,
        )
        normals = np.concatenate([part.normals for part in estimated])
        step("encode crop, normals, mask", _encode, list(zip(crops, normals, hulls, strict=True)))
    return rates


def _crop(item: tuple[_Found, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    face, landmarks = item
    height, width = face.image.shape[:2]
    window = crop_window(landmarks, width, height)
    return crop_image(face.image, window), hull_mask(landmarks, window, width, height)


def _encode(item: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[bytes]:
    crop, normals, mask = item
    return [encode_png(crop), encode_png(encode_normals(normals)), encode_png(mask)]
