"""Rows decoded: validity, size, landmarks, limits."""

import zlib

import cv2
import numpy as np
import pytest
from spheres import sphere_normals, sphere_row

from pipeline.errors import DataError
from pipeline.evaluate.metrics import angular_error
from pipeline.images.png import encode_png
from pipeline.normals.encoding import encode_normals
from pipeline.regions import Region
from pipeline.samples.sample import decode_row, resize_normals, unit_or_zero


def test_masks_and_vectors_of_wrong_length_are_not_trusted():
    normals = np.zeros((32, 32, 3), np.float32)
    normals[..., 2] = 1
    pixels = encode_normals(normals)
    pixels[:4] = 0
    pixels[4:8] = 128
    mask = np.full((32, 32), 255, np.uint8)
    mask[8:12] = 0
    row = {"id": "a", "normal": encode_png(pixels), "mask": encode_png(mask)}
    sample = decode_row(row, None)
    trusted = sample.normals.any(-1)
    assert not trusted[:12].any()
    assert trusted[12:].all()
    assert (sample.regions == np.where(trusted, Region.SKIN, Region.IGNORE)).all()
    assert not sample.has_regions


def test_resized_normals_average_valid_pixels_only():
    normals = np.zeros((4, 4, 3), np.float32)
    normals[:, :2] = (0.6, 0, 0.8)
    normals[0, 2] = (0, 0, 1)
    normals[:2, 3] = (0, 0.6, 0.8)
    small = resize_normals(normals, 2)
    assert small[0, 0] == pytest.approx((0.6, 0, 0.8), abs=1e-6)
    # Three valid pixels of four, two of one kind: their sum, at unit length.
    mean = np.array([0, 1.2, 2.6]) / np.linalg.norm([0, 1.2, 2.6])
    assert small[0, 1] == pytest.approx(mean, abs=1e-6)
    assert not small[1, 1].any()


def test_resized_sphere_is_the_sphere_rendered_small():
    small = resize_normals(sphere_normals(256), 64)
    truth = sphere_normals(64)
    both = small.any(-1) & (truth[..., 2] > 0.3)
    assert angular_error(small, truth)[both].max() < 1.0


def test_landmarks_scale_with_the_pixels():
    row = sphere_row(0, 64, landmarks=np.full(136, 10.0))
    assert decode_row(row, 32).landmarks == pytest.approx(np.full((68, 2), 4.75))


@pytest.mark.parametrize(
    ("ending", "before", "width"), [(".jpg", b"\xff\xc0\0\x11\x08", 2), (".png", b"IHDR", 4)]
)
def test_pictures_are_measured_before_they_are_decoded(ending, before, width):
    picture = bytearray(cv2.imencode(ending, np.zeros((32, 32, 3), np.uint8))[1].tobytes())
    at = picture.index(before) + len(before)
    picture[at : at + 2 * width] = (50000).to_bytes(width, "big") * 2
    if ending == ".png":
        picture[29:33] = zlib.crc32(picture[12:29]).to_bytes(4, "big")
    with pytest.raises(DataError, match="too large: 50000x50000"):
        decode_row({"id": "a", "image": bytes(picture)}, None)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8"])
def test_what_is_no_picture_is_named(data):
    with pytest.raises(DataError, match="image cannot be decoded: "):
        decode_row({"id": "a", "image": data}, None)


def test_short_vectors_become_zero():
    normals = np.array([[[0, 0, 0.49], [0, 0.8, 0]]], np.float32)
    assert unit_or_zero(normals).tolist() == [[[0, 0, 0], [0, 1, 0]]]
