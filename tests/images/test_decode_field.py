"""Decoding what cameras, scanners and editors make: profiles, few bits in many, previews, other formats."""

import io
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bad_images import portrait
from PIL import Image, ImageCms, TiffImagePlugin
from profiles import SRGB, grey_profile, matrix_profile

from pipeline.errors import ImageError
from pipeline.images import colour
from pipeline.images.decode import DecodeConfig, decode_image

CONFIG = DecodeConfig()
CASES = Path(__file__).resolve().parents[2] / "../shared/cases"


def save(image: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def error_of(content: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_image(content, CONFIG)
    return caught.value


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return portrait(96)[:80]


@pytest.fixture(scope="module")
def adobe(photo) -> Image.Image:
    """The photo's colours as Adobe RGB has them."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(matrix_profile()))
    return ImageCms.profileToProfile(Image.fromarray(photo), ImageCms.createProfile("sRGB"), profile)


class TestProfiles:
    @pytest.mark.parametrize("name", ["PNG", "TIFF", "JPEG", "WEBP", "AVIF"])
    def test_colours_are_those_of_srgb(self, photo, adobe, name):
        options = (
            {"quality": 98} if name in ("JPEG", "AVIF") else {"lossless": True} if name == "WEBP" else {}
        )
        decoded = decode_image(save(adobe, name, icc_profile=matrix_profile(), **options), CONFIG)
        assert np.abs(np.asarray(adobe).mean((0, 1)) - photo.mean((0, 1))).max() > 3
        assert np.abs(decoded.mean((0, 1)) - photo.mean((0, 1))).max() < 1.5

    def test_transparent_parts_lie_over_white_all_the_same(self, photo, adobe):
        adobe = adobe.copy()
        adobe.putalpha(
            Image.fromarray(np.where(np.arange(80)[:, None] < 9, 0, 255 + 0 * photo[..., 0]).astype(np.uint8))
        )
        decoded = decode_image(save(adobe, "PNG", icc_profile=matrix_profile()), CONFIG)
        assert (decoded[:9] == 255).all()
        assert np.abs(decoded[9:].mean((0, 1)) - photo[9:].mean((0, 1))).max() < 1

    def test_a_palette(self, photo, adobe):
        decoded = decode_image(save(adobe.quantize(200), "PNG", icc_profile=matrix_profile()), CONFIG)
        assert np.abs(decoded.mean((0, 1)) - photo.mean((0, 1))).max() < 2

    def test_strips_of_a_large_photo_are_converted_alike(self, adobe, monkeypatch):
        content = save(adobe, "PNG", icc_profile=matrix_profile())
        whole = decode_image(content, CONFIG)
        monkeypatch.setattr("pipeline.images.rgb.STRIP_PIXELS", 1000)
        np.testing.assert_array_equal(decode_image(content, CONFIG), whole)

    @pytest.mark.parametrize("mode", ["L", "LA"])
    def test_greys(self, photo, mode):
        grey = Image.fromarray(photo).convert(mode)
        linear = decode_image(save(grey, "PNG", icc_profile=grey_profile(1.0)), CONFIG)
        plain = decode_image(save(grey, "PNG"), CONFIG)
        assert linear.mean() > plain.mean() + 30
        assert (linear == linear[..., :1]).all()

    @pytest.mark.parametrize(
        "profile",
        [
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
            matrix_profile(SRGB, 2.2)[:200],
            b"none at all",
            grey_profile(1.0),
        ],
        ids=["sRGB", "cut", "none", "of another mode"],
    )
    def test_srgb_and_what_cannot_be_used_keep_every_byte(self, photo, profile):
        content = save(Image.fromarray(photo), "PNG", icc_profile=profile)
        np.testing.assert_array_equal(decode_image(content, CONFIG), photo)

    def test_a_profile_is_understood_once(self, photo, adobe):
        colour.to_srgb.cache_clear()
        for _ in range(3):
            decode_image(save(adobe, "PNG", icc_profile=matrix_profile()), CONFIG)
        assert colour.to_srgb.cache_info().misses == 1


class TestDepth:
    @pytest.mark.parametrize("bits", [10, 12, 14, 16])
    @pytest.mark.parametrize("name", [".png", ".tiff", ".pnm"])
    @pytest.mark.parametrize("colour", [True, False])
    def test_brightness_is_by_the_bits_in_use(self, photo, bits, name, colour):
        pixels = photo if colour else photo[..., 0].copy()
        below = np.random.default_rng(0).integers(0, 1 << (bits - 8), pixels.shape).astype(np.uint16)
        values = (pixels.astype(np.uint16) << (bits - 8)) + below
        content = cv2.imencode(name, values[..., ::-1] if colour else values)[1].tobytes()
        np.testing.assert_array_equal(decode_image(content, CONFIG).T, pixels.T if colour else [pixels.T] * 3)

    def test_a_tiff_says_its_largest_value(self, photo):
        dark = (photo[..., 0].astype(np.uint16) << 4) // 4  # 12 bits, and nothing brighter than 10
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[281] = 4095
        content = save(Image.fromarray(dark), "TIFF", tiffinfo=tags)
        np.testing.assert_array_equal(decode_image(content, CONFIG)[..., 0], dark >> 4)

    @pytest.mark.parametrize(
        "values",
        [
            np.zeros((40, 40), np.uint16),
            np.random.default_rng(0).integers(0, 400, (40, 40)).astype(np.uint16),
            (np.arange(1600).reshape(40, 40) % 30 * 257).astype(np.uint16),
            (np.arange(1600).reshape(40, 40) % 30 * 256).astype(np.uint16),
            (np.arange(1600).reshape(40, 40) * 16 % 9000).astype(np.uint16),
        ],
        ids=["black", "noise", "8 bits doubled", "8 bits above", "12 bits above"],
    )
    def test_dark_photos_of_16_bits_stay_dark(self, values):
        content = cv2.imencode(".png", values)[1].tobytes()
        np.testing.assert_array_equal(decode_image(content, CONFIG)[..., 0], values >> 8)

    def test_strips_are_of_one_depth(self, photo, monkeypatch):
        values = np.concatenate([photo[..., 0] // 8, photo[..., 0]]).astype(np.uint16) << 4 | 1
        content = cv2.imencode(".png", values)[1].tobytes()
        monkeypatch.setattr("pipeline.images.rgb.STRIP_PIXELS", 1000)
        np.testing.assert_array_equal(decode_image(content, CONFIG)[..., 0], values >> 4)


class TestNetpbm:
    @pytest.mark.parametrize("extension", [".ppm", ".pgm", ".pbm", ".pnm"])
    @pytest.mark.parametrize("raw", [True, False])
    def test_every_kind(self, photo, extension, raw):
        pixels = photo if extension == ".ppm" else photo[..., 0]
        pixels = (pixels > 100) * np.uint8(255) if extension == ".pbm" else pixels
        flag = cv2.IMWRITE_PXM_BINARY
        content = cv2.imencode(
            extension, pixels[..., ::-1] if pixels.ndim == 3 else pixels, [flag, int(raw)]
        )[1]
        expected = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        np.testing.assert_array_equal(decode_image(content.tobytes(), CONFIG), expected)

    def test_comments_and_a_largest_value(self):
        values = " ".join(str(number % 101) for number in range(400))
        decoded = decode_image(f"P2 # a comment\n20\n#another\n20 100\n{values}".encode(), CONFIG)
        assert decoded[0, :3, 0].tolist() == [0, 3, 5]
        assert decoded[5, 0].tolist() == [255] * 3

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"P6 20 20 255\n" + b"a" * 900, "truncated"),
            (b"P3 20 20 255\n 1 2 3", "truncated"),
            (b"P2 20 20 9\n" + b"10 " * 400, "decode_failed"),
            (b"P5 20 20 70000\n" + b"a" * 900, "decode_failed"),
            (b"P5 90000 90000 255\n" + b"a" * 900, "too_many_pixels"),
            (b"P7\nWIDTH 20\n", "unsupported_format"),
            (b"P6 is a text", "unsupported_format"),
        ],
    )
    def test_what_is_wrong(self, content, code):
        assert error_of(content).code == code


def tiff_with_a_preview(photo: np.ndarray, preview: np.ndarray, *, below: bool, tags=()) -> bytes:
    """Returns a TIFF whose first directory is a preview; the photo is in the next one, or in one below."""

    def directory(pixels, start, more, offset):
        height, width = pixels.shape[:2]
        entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, start)]
        entries += [(277, 3, 1), (278, 4, height), (279, 4, pixels.size), *more]
        fields = b"".join(
            struct.pack("<HHII" if kind == 4 else "<HHIH2x", tag, kind, 1, value)
            for tag, kind, value in sorted(entries)
        )
        return struct.pack("<H", len(entries)) + fields + struct.pack("<I", offset)

    first, second = 8 + photo.size + preview.size, 8 + photo.size + preview.size + 300
    more = [(254, 4, 1), *tags] + ([(330, 4, second)] if below else [])
    head = directory(preview, 8 + photo.size, more, 0 if below else second)
    last = directory(photo, 8, [(254, 4, 0)], 0)
    body = photo.tobytes() + preview.tobytes() + head
    return struct.pack("<2sHI", b"II", 42, first) + body + bytes(300 - len(head)) + last


class TestPreviews:
    def test_the_first_page_that_is_no_smaller_copy(self, photo):
        content = tiff_with_a_preview(photo[..., 0].copy(), photo[::2, ::2, 0].copy(), below=False)
        np.testing.assert_array_equal(decode_image(content, CONFIG)[..., 0], photo[..., 0])

    @pytest.mark.parametrize("tags", [(), ((50706, 4, 1),)], ids=["NEF", "DNG"])
    def test_a_camera_s_raw_file_is_never_its_preview(self, photo, tags):
        content = tiff_with_a_preview(photo[..., 0].copy(), photo[::2, ::2, 0].copy(), below=True, tags=tags)
        error = error_of(content)
        assert error.code == "unsupported_format"
        assert "raw" in error.message

    @pytest.mark.parametrize(
        "head",
        [b"FUJIFILMCCD-RAW 0201", b"IIU\0\x18\0\0\0", b"IIRO\x08\0\0\0", b"\0\0\0\x18ftypcrx \0\0\0\1"],
    )
    def test_raw_files_that_are_no_tiff(self, head):
        assert "raw" in error_of(head + bytes(100)).message

    def test_one_page_that_calls_itself_a_smaller_copy_is_the_photo(self, photo):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[254] = 1
        content = save(Image.fromarray(photo), "TIFF", tiffinfo=tags)
        np.testing.assert_array_equal(decode_image(content, CONFIG), photo)


class TestHeif:
    def test_avif(self, photo):
        decoded = decode_image(save(Image.fromarray(photo), "AVIF", quality=95), CONFIG)
        assert np.abs(decoded.astype(int) - photo).mean() < 3

    def test_heic_upright(self, photo):
        heif = pytest.importorskip("pillow_heif")
        exif = Image.Exif()
        exif[0x0112] = 6
        file = io.BytesIO()
        heif.from_pillow(Image.fromarray(np.rot90(photo))).save(file, quality=95, exif=exif.tobytes())
        decoded = decode_image(file.getvalue(), CONFIG)
        assert decoded.shape == photo.shape
        assert np.abs(decoded.astype(int) - photo).mean() < 3

    def test_without_the_package_the_message_says_so(self, photo, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
        error = error_of(b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(50))
        assert error.code == "unsupported_format"
        assert "pip install -U pillow-heif" in error.message

    def test_a_cut_file_is_an_error(self, photo):
        content = save(Image.fromarray(photo), "AVIF")
        assert error_of(content[: len(content) // 2]).code in ("truncated", "decode_failed")


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not there")
class TestCases:
    @pytest.mark.parametrize(
        "name", ["adobe_rgb", "prophoto", "channels_exchanged", "broken_profile", "srgb"]
    )
    def test_colours(self, name):
        decoded = decode_image((CASES / f"colour/{name}.jpg").read_bytes(), CONFIG)
        assert np.abs(decoded.mean((0, 1)) - [152.7, 136.5, 123.7]).max() < 2

    @pytest.mark.parametrize("name", ["12_of_16_bits.png", "10_of_16_bits.tif", "16_of_16_bits.png"])
    def test_depth(self, name):
        decoded = decode_image((CASES / f"depth/grey_{name}").read_bytes(), CONFIG)
        assert decoded.mean() == pytest.approx(139.8, abs=0.5)

    @pytest.mark.parametrize("name", ["thumbnail_is_first_page.tif", "thumbnail_is_second_page.tif"])
    def test_previews(self, name):
        assert decode_image((CASES / f"raw/{name}").read_bytes(), CONFIG).shape == (200, 200, 3)

    @pytest.mark.parametrize("name", ["camera.dng", "camera.nef"])
    def test_raw(self, name):
        assert "raw" in error_of((CASES / f"raw/{name}").read_bytes()).message
