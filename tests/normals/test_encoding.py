"""Normals as pixels: values, bit depths, conventions."""

import numpy as np
import pytest

from pipeline.images.png import decode_png, encode_png
from pipeline.normals.encoding import SIGNS, decode_normals, encode_normals


def render_sphere(size=129):
    """Normals of a sphere seen from the front, by its equation: (size, size, 3), and where it is."""
    y, x = np.mgrid[0:size, 0:size]
    radius = (size - 1) / 2
    n_x, n_y = (x - radius) / radius, (radius - y) / radius  # rows run down, y runs up
    inside = n_x**2 + n_y**2 < 0.98
    n_z = np.sqrt(np.clip(1 - n_x**2 - n_y**2, 0, None))
    return np.where(inside[..., None], np.stack([n_x, n_y, n_z], -1), (0, 0, 1)), inside


def angles(first, second):
    """Degrees between unit vectors, (..., 3) each."""
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(first - second, axis=-1) / 2, 0, 1)))


def test_axes_of_a_sphere():
    normals, _ = render_sphere()
    left, right = normals[64, 6], normals[64, -7]
    top, bottom = normals[6, 64], normals[-7, 64]
    red, green, blue = 0, 1, 2
    pixels = encode_normals(normals)
    assert left[0] < 0 < right[0]
    assert bottom[1] < 0 < top[1]
    assert pixels[64, 6, red] < 20 < 235 < pixels[64, -7, red]
    assert pixels[-7, 64, green] < 20 < 235 < pixels[6, 64, green]
    assert pixels[64, 64].tolist() == [128, 128, 255]
    assert pixels[..., blue].min() >= 127


@pytest.mark.parametrize(
    ("value", "bits", "expected"),
    [(-1, 8, 0), (0, 8, 128), (1, 8, 255), (0.5, 8, 191), (-1, 16, 0), (0, 16, 32768), (1, 16, 65535)],
)
def test_values(value, bits, expected):
    assert encode_normals(np.full(3, value, np.float32), bits).tolist() == [expected] * 3


def test_values_out_of_range_are_clipped():
    assert encode_normals(np.array([2.0, -3.0, 1.0])).tolist() == [255, 0, 255]


@pytest.mark.parametrize(("bits", "dtype", "degrees"), [(8, np.uint8, 0.4), (16, np.uint16, 0.0025)])
@pytest.mark.parametrize("convention", list(SIGNS))
def test_round_trip(bits, dtype, degrees, convention):
    normals, _ = render_sphere()
    pixels = encode_normals(normals, bits, convention)
    assert pixels.dtype == dtype
    back = decode_normals(decode_png(encode_png(pixels)), convention)
    assert back.dtype == np.float32
    assert np.abs(np.linalg.norm(back, axis=-1) - 1).max() < 1e-6
    assert angles(back, normals).max() < degrees


def test_conventions_turn_the_axes():
    normal = np.array([0.6, 0.48, 0.64])
    turned = {name: decode_normals(encode_normals(normal, 16, name)) for name in SIGNS}
    np.testing.assert_allclose(turned["opengl"], [0.6, 0.48, 0.64], atol=1e-4)
    np.testing.assert_allclose(turned["opencv"], [0.6, -0.48, -0.64], atol=1e-4)
    np.testing.assert_allclose(turned["directx"], [0.6, -0.48, 0.64], atol=1e-4)


def test_every_pixel_decodes_to_a_unit_vector():
    values = np.array([0, 1, 127, 128, 254, 255], np.uint8)
    pixels = np.stack(np.meshgrid(values, values, values), -1)
    lengths = np.linalg.norm(decode_normals(pixels), axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="bits"):
        encode_normals(np.zeros((2, 3)), bits=12)
    with pytest.raises(ValueError, match="convention"):
        encode_normals(np.zeros((2, 3)), convention="blender")
    with pytest.raises(ValueError, match="last axis"):
        encode_normals(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="uint8"):
        decode_normals(np.zeros((2, 3)))
