"""The project's own PNG files."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import DecodeError
from pipeline.images.png import decode_png, encode_png, encode_quickly


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4, 5), np.uint8), ((4, 5, 3), np.uint8), ((3, 2), np.uint16), ((1, 1, 3), np.uint16)],
)
def test_png_keeps_every_value(shape, dtype):
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    back = decode_png(encode_png(array))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 3), (256, 256, 3)])
def test_quick_png_keeps_every_value(shape):
    crop = np.random.default_rng(0).integers(0, 256, (*shape[:2], 6), np.uint8)[..., ::2]
    data = encode_quickly(crop)
    np.testing.assert_array_equal(decode_png(data), crop)
    image = Image.open(BytesIO(data))
    image.verify()  # the checksums
    assert (image.format, image.mode) == ("PNG", "RGB")


def test_quick_png_of_a_photo_is_hardly_larger(astronaut):
    crop = astronaut[:256, :256]
    assert len(encode_quickly(crop)) < 1.12 * len(encode_png(crop))


def test_png_is_in_rgb_order():
    array = np.array([[[10, 20, 30]]], np.uint8)
    assert Image.open(BytesIO(encode_png(array))).getpixel((0, 0)) == (10, 20, 30)


@pytest.mark.parametrize("data", [b"", b"no image", encode_png(np.zeros((9, 9), np.uint8))[:20]])
def test_bytes_that_are_no_png(data):
    with pytest.raises(DecodeError):
        decode_png(data)


@pytest.mark.parametrize("shape", [(0, 4), (4,), (4, 4, 2), (4, 4, 4)])
def test_arrays_that_are_no_image(shape):
    with pytest.raises(ValueError, match="no image"):
        encode_png(np.zeros(shape, np.uint8))
