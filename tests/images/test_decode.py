"""Decoding: every format to the same upright RGB, every broken file to an error with a code."""

import io
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from bad_images import chunk, encode, flip, make_bad_images, png_claiming, portrait
from PIL import ExifTags, Image, TiffImagePlugin
from PIL.TiffImagePlugin import IFDRational

from pipeline.errors import DecodeError, ImageError, SizeError
from pipeline.images.decode import DecodeConfig, decode_image, decode_photo
from pipeline.images.sniff import describe_content, sniff_format

CONFIG = DecodeConfig()
ANY_SIZE = DecodeConfig(min_side=1)


def save(image: Image.Image, name: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def code_of(content: bytes, config: DecodeConfig = CONFIG) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(content, config)
    assert caught.value.message
    return caught.value.code


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return portrait(96)[:80]


class TestFormats:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("PNG", {}),
            ("BMP", {}),
            ("WEBP", {"lossless": True}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "tiff_adobe_deflate"}),
            ("TIFF", {"compression": "packbits"}),
            ("TIFF", {"big_tiff": True}),
        ],
    )
    def test_lossless_formats_keep_every_pixel(self, photo, name, options):
        decoded = decode_image(encode(photo, name, **options), CONFIG)
        assert decoded.dtype == np.uint8
        assert decoded.flags.c_contiguous
        assert decoded.flags.writeable
        np.testing.assert_array_equal(decoded, photo)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"quality": 30}])
    def test_jpeg_equals_opencv(self, photo, options):
        content = encode(photo, "JPEG", **options)
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(decode_image(content, CONFIG), expected)

    @pytest.mark.parametrize("name", ["PNG", "TIFF", "JPEG", "BMP"])
    def test_grey(self, photo, name):
        grey = photo[..., 0].copy()
        decoded = decode_image(encode(grey, name, **({"quality": 100} if name == "JPEG" else {})), CONFIG)
        assert np.abs(decoded.astype(int) - grey[..., None]).max() <= 2
        assert (decoded == decoded[..., :1]).all()

    @pytest.mark.parametrize("name", ["PNG", "TIFF"])
    def test_16_bit_grey_keeps_the_upper_bits(self, name):
        grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        decoded = decode_image(encode(grey, name), CONFIG)
        np.testing.assert_array_equal(decoded, np.repeat((grey >> 8)[..., None], 3, axis=2))

    @pytest.mark.parametrize("extension", [".png", ".tiff"])
    def test_16_bit_colour_keeps_the_upper_bits(self, extension):
        colour = np.random.default_rng(0).integers(0, 65536, (30, 40, 3), np.uint16)
        content = cv2.imencode(extension, colour[..., ::-1])[1].tobytes()
        np.testing.assert_array_equal(decode_image(content, CONFIG), (colour >> 8).astype(np.uint8))

    def test_one_bit(self):
        bits = np.arange(400).reshape(20, 20) % 3 == 0
        decoded = decode_image(save(Image.fromarray(bits), "PNG"), CONFIG)
        np.testing.assert_array_equal(decoded, np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))

    @pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP"])
    def test_transparent_parts_lie_over_white(self, photo, name):
        alpha = np.zeros(photo.shape[:2], np.uint8)
        alpha[20:] = 255
        alpha[40:] = 51
        rgba = np.dstack([photo, alpha])
        decoded = decode_image(encode(rgba, name, **({"lossless": True} if name == "WEBP" else {})), CONFIG)
        assert (decoded[:20] == 255).all()
        np.testing.assert_array_equal(decoded[20:40], photo[20:40])
        np.testing.assert_array_equal(decoded[40:], np.round(photo[40:] * 0.2 + 255 * 0.8).astype(np.uint8))

    def test_opaque_alpha_changes_nothing(self, photo):
        rgba = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
        np.testing.assert_array_equal(decode_image(encode(rgba, "PNG"), CONFIG), photo)

    def test_grey_with_alpha(self):
        grey = Image.new("LA", (20, 20), (100, 255))
        grey.putpixel((3, 4), (100, 0))
        decoded = decode_image(save(grey, "PNG"), CONFIG)
        assert decoded[4, 3].tolist() == [255, 255, 255]
        assert decoded[0, 0].tolist() == [100, 100, 100]

    @pytest.mark.parametrize("mode", ["P", "RGB", "L"])
    def test_a_transparent_colour_lies_over_white(self, mode):
        image = Image.new("RGB", (20, 20), (10, 10, 10))
        image.paste((200, 200, 200), (0, 0, 5, 5))
        image = image.quantize(2) if mode == "P" else image.convert(mode)
        transparent = image.getpixel((0, 0))
        decoded = decode_image(save(image, "PNG", transparency=transparent), CONFIG)
        assert decoded[0, 0].tolist() == [255, 255, 255]
        assert decoded[10, 10].tolist() == [10, 10, 10]

    def test_palette(self, photo):
        image = Image.fromarray(photo).quantize(64)
        expected = np.asarray(image.convert("RGB"))
        for name in ("PNG", "GIF", "BMP", "TIFF"):
            np.testing.assert_array_equal(decode_image(save(image, name), CONFIG), expected)

    @pytest.mark.parametrize("name", ["JPEG", "TIFF"])
    def test_cmyk(self, photo, name):
        # Pillow writes, like Photoshop, inverted CMYK with an Adobe segment into JPEG.
        content = save(Image.fromarray(photo).convert("CMYK"), name, quality=98)
        assert (b"Adobe" in content) == (name == "JPEG")
        assert np.abs(decode_image(content, CONFIG).astype(int) - photo).mean() < 3

    @pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF"])
    def test_the_first_frame_of_many(self, photo, name):
        first, second = Image.fromarray(photo).quantize(16).convert("RGB"), Image.new("RGB", (96, 80))
        options = {"lossless": True} if name == "WEBP" else {}
        content = save(first, name, save_all=True, append_images=[second], **options)
        np.testing.assert_array_equal(decode_image(content, CONFIG), np.asarray(first))

    def test_a_jpeg_with_more_images_behind_it(self, photo):
        content = save(Image.fromarray(photo), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
        assert decode_image(content, CONFIG).shape == photo.shape

    def test_a_tall_image_is_converted_by_strips(self, monkeypatch):
        monkeypatch.setattr("pipeline.images.rgb.STRIP_PIXELS", 1000)
        for mode in ("RGB", "RGBA", "P", "L", "CMYK", "I;16"):
            rows = Image.fromarray(np.repeat(np.arange(200, dtype=np.uint8)[:, None], 37, 1))
            image = Image.fromarray(np.asarray(rows).astype(np.uint16) << 8) if mode == "I;16" else rows
            content = save(image.convert(mode) if mode != "I;16" else image, "TIFF")
            decoded = decode_image(content, CONFIG)
            np.testing.assert_array_equal(decoded, np.repeat(np.asarray(rows)[..., None], 3, axis=2))


class TestOrientation:
    @pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize(
        ("orientation", "stored"),
        [
            (1, lambda a: a),
            (2, lambda a: a[:, ::-1]),
            (3, lambda a: a[::-1, ::-1]),
            (4, lambda a: a[::-1]),
            (5, lambda a: a.transpose(1, 0, 2)),
            (6, lambda a: a.transpose(1, 0, 2)[::-1]),  # shown turned clockwise
            (7, lambda a: a.transpose(1, 0, 2)[::-1, ::-1]),
            (8, lambda a: a.transpose(1, 0, 2)[:, ::-1]),
            (0, lambda a: a),
            (9, lambda a: a),
        ],
    )
    def test_images_are_turned_upright(self, photo, name, orientation, stored):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(name, {})
        content = encode(np.ascontiguousarray(stored(photo)), name, exif=exif, **options)
        decoded = decode_image(content, CONFIG)
        assert decoded.shape == photo.shape
        assert decoded.flags.c_contiguous
        assert np.abs(decoded.astype(int) - photo).mean() < 3

    def test_damaged_metadata_is_no_reason_to_lose_a_photo(self, photo):
        for exif in (
            b"Exif\0\0II*\0\xff\xff\xff\x7f",
            b"Exif\0\0garbage",
            b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        ):
            assert decode_image(encode(photo, "JPEG", exif=exif), CONFIG).shape == photo.shape


def exif_of(focal_mm, focal_35mm) -> bytes:
    """Metadata of a photo that was taken upright with the camera turned."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lengths = {ExifTags.Base.FocalLength: focal_mm, ExifTags.Base.FocalLengthIn35mmFilm: focal_35mm}
    exif[ExifTags.IFD.Exif] = {tag: length for tag, length in lengths.items() if length is not None}
    return exif.tobytes()


class TestFocalLength:
    @pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize(
        ("stored", "told"),
        [
            ((IFDRational(425, 100), 28), (4.25, 28)),
            ((IFDRational(50), None), (50, None)),
            ((None, 85), (None, 85)),
            ((None, None), (None, None)),
            ((IFDRational(0, 0), 0), (None, None)),
            ((IFDRational(0, 1), 65535), (None, 65535)),
            ((IFDRational(1, 0), 28), (None, 28)),
            ((IFDRational(2**32 - 1), 28), (None, 28)),
        ],
    )
    def test_it_is_kept(self, photo, name, stored, told):
        decoded = decode_photo(encode(photo, name, exif=exif_of(*stored)), CONFIG)
        assert (decoded.focal_mm, decoded.focal_35mm) == told
        assert decoded.pixels.shape == (96, 80, 3)

    def test_files_without_metadata_tell_none(self, photo):
        for name in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"):
            decoded = decode_photo(encode(photo, name), CONFIG)
            assert (decoded.focal_mm, decoded.focal_35mm) == (None, None)

    @pytest.mark.parametrize(
        ("tag", "kind", "damaged", "told"),
        [
            # Type of the values and their number. Type 5 is a rational, 4 and 3 are integers, 2 is text.
            (ExifTags.Base.FocalLength, 5, (2, 1), (None, 28)),
            (ExifTags.Base.FocalLength, 5, (99, 1), (None, 28)),
            (ExifTags.Base.FocalLength, 5, (5, 2), (None, None)),  # reaches over the end
            (ExifTags.Base.FocalLength, 5, (5, 2**32 - 1), (None, 28)),
            (ExifTags.Base.FocalLengthIn35mmFilm, 3, (3, 2), (4.25, None)),
            (ExifTags.IFD.Exif, 4, (2, 1), (None, None)),  # which leads to both
        ],
    )
    def test_damaged_values_tell_none(self, photo, tag, kind, damaged, told):
        content = encode(photo, "JPEG", exif=exif_of(IFDRational(425, 100), 28))
        entry = struct.pack(">HHI", tag, kind, 1)
        assert content.count(entry) == 1
        decoded = decode_photo(content.replace(entry, struct.pack(">HHI", tag, *damaged)), CONFIG)
        assert (decoded.focal_mm, decoded.focal_35mm) == told
        assert decoded.pixels.shape == (96, 80, 3)


class TestLimits:
    @pytest.mark.parametrize(
        "content",
        [
            png_claiming(60_000, 60_000),
            png_claiming(2**31 - 1, 2**31 - 1),
            b"BM"
            + struct.pack("<IHHIIiiHHIIIIII", 10**6, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 1, 1, 0, 0),
            b"RIFF"
            + struct.pack("<I", 22)
            + b"WEBPVP8X"
            + struct.pack("<I", 10)
            + b"\0\0\0\0"
            + b"\xff\x3f\0" * 2,
        ],
        ids=["png", "huge png", "bmp", "webp"],
    )
    def test_what_claims_too_many_pixels_is_refused_by_its_header(self, content):
        assert code_of(content) == "too_many_pixels"

    def test_gif_jpeg_and_tiff_headers(self, photo):
        gif = encode(photo, "GIF")
        assert code_of(gif[:6] + b"\xff\xff\xff\xff" + gif[10:]) == "too_many_pixels"
        jpeg = encode(photo, "JPEG")
        frame = jpeg.index(b"\xff\xc0") + 5
        assert code_of(jpeg[:frame] + b"\xff\xff\xff\xff" + jpeg[frame + 4 :]) == "too_many_pixels"
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[256] = tags[257] = 60_000
        tags[258], tags[262], tags[277], tags[273], tags[279] = 8, 1, 1, 8, 100
        tiff = io.BytesIO(b"II*\0\x08\0\0\0")
        tiff.seek(8)
        tags.save(tiff)
        assert code_of(tiff.getvalue()) == "too_many_pixels"

    def test_the_message_says_the_limit(self):
        with pytest.raises(SizeError, match=r"60000 x 60000 = 3,600\.0 megapixels .* 100\.0 \(decode"):
            decode_image(png_claiming(60_000, 60_000), CONFIG)

    def test_limits_are_inclusive(self):
        content = encode(np.zeros((16, 40, 3), np.uint8), "PNG")
        assert decode_image(content, DecodeConfig(max_pixels=640, min_side=16)).shape == (16, 40, 3)
        assert code_of(content, DecodeConfig(max_pixels=639)) == "too_many_pixels"
        assert code_of(content, DecodeConfig(min_side=17)) == "too_small"

    def test_the_limit_of_pillow_does_not_count(self, photo, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        for name in ("JPEG", "PNG", "BMP"):
            assert decode_image(encode(photo, name), CONFIG).shape == photo.shape

    def test_compressed_text_and_profiles_may_not_unfold_into_gigabytes(self, photo):
        png = encode(photo, "PNG")
        bomb = zlib.compress(bytes(200 << 20), 9)
        for kind, body in (
            (b"zTXt", b"k\0\0" + bomb),
            (b"iCCP", b"p\0\0" + bomb),
            (b"iTXt", b"k\0\1\0\0\0" + bomb),
        ):
            content = png[:33] + chunk(kind, body) + png[33:]
            assert code_of(content) == "decode_failed"

    def test_pixels_beyond_the_size_are_not_unfolded(self):
        header = struct.pack(">IIBBBBB", 20, 20, 8, 2, 0, 0, 0)
        body = zlib.compress(bytes(200 << 20), 9)
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
        tracemalloc.start()
        assert not decode_image(content, CONFIG).any()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 << 20

    def test_a_jpeg_of_very_many_scans_is_refused(self, photo):
        jpeg = encode(photo, "JPEG", progressive=True)
        last = jpeg.rindex(b"\xff\xda")
        assert decode_image(jpeg[:-2] + jpeg[last:-2] * 3 + jpeg[-2:], CONFIG).shape == photo.shape
        assert code_of(jpeg[:-2] + jpeg[last:-2] * 600 + jpeg[-2:]) == "decode_failed"

    def test_a_jpeg_may_not_repeat_its_scans_without_being_progressive(self, photo):
        grey = encode(photo[..., 0].copy(), "JPEG")
        frame, first = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
        parts = b"\3" + b"".join(bytes([part, 0x11, 0]) for part in (1, 2, 3))
        head = (
            grey[:frame] + b"\xff\xc0\0\x11" + grey[frame + 4 : frame + 9] + parts + grey[frame + 13 : first]
        )
        scans = [grey[first : first + 5] + bytes([part]) + grey[first + 6 : -2] for part in (1, 2, 3)]
        assert decode_image(head + b"".join(scans) + b"\xff\xd9", CONFIG).shape == photo.shape
        with pytest.raises(DecodeError, match="scans"):
            decode_image(head + scans[0] * 600 + b"".join(scans) + b"\xff\xd9", CONFIG)


class TestBroken:
    @pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
    def test_files_cut_short(self, photo, name, part):
        content = encode(photo, name)
        with pytest.raises(ImageError) as caught:
            decode_image(content[: int(len(content) * part)], CONFIG)
        assert caught.value.code == "truncated"
        assert "ends early" in caught.value.message

    def test_what_is_no_image_is_named(self):
        cases = {
            b"hello": "text",
            b"BMW, Audi, Opel and others": "text",
            "Grüße\n".encode(): "text",
            b"\xef\xbb\xbf<!DOCTYPE html>": "an HTML page",
            b"  <HTML>": "an HTML page",
            b"<svg xmlns=''>": "an SVG drawing",
            b"<?xml version='1.0'?>\n<svg>": "an SVG drawing",
            b"<?xml version='1.0'?><rss>": "an XML document",
            b"version https://git-lfs.github.com/spec/v1\n": "a Git LFS pointer",
            b"%PDF-1.7": "a PDF document",
            b"PK\x03\x04": "a ZIP archive",
            b"\0\0\0\x18ftypmp42": "a video",
            bytes(3000): "zero bytes only",
            bytes(2000) + b"x": "begins with zero bytes",
            b"\xfe\xdc\xba": "no known format",
        }
        for content, name in cases.items():
            assert sniff_format(content) is None
            assert name in describe_content(content)
            assert code_of(content) == "unsupported_format"
            with pytest.raises(DecodeError, match=name):
                decode_image(content, CONFIG)

    def test_text_longer_than_what_is_looked_at(self):
        assert describe_content("ä".encode() * 2000) == "text"

    def test_a_file_that_is_empty(self):
        assert code_of(b"") == "empty_file"

    @pytest.mark.parametrize("dtype", [np.float32, np.int32])
    def test_32_bits_per_channel_are_refused(self, dtype):
        content = encode(np.zeros((20, 20), dtype), "TIFF")
        assert code_of(content) == "unsupported_format"

    def test_the_bad_image_list(self, tmp_path):
        for name, expected in make_bad_images(tmp_path).items():
            content = (tmp_path / name).read_bytes()
            if expected.status == "failed":
                assert code_of(content) == expected.error_code, name
            else:
                assert decode_image(content, CONFIG).ndim == 3, name


SMALL = np.random.default_rng(3).integers(0, 256, (9, 11, 3), np.uint8)
EXIF = Image.Exif()
EXIF[0x0112] = 6


@pytest.mark.parametrize(
    "content",
    [
        encode(SMALL, "JPEG", exif=EXIF),
        encode(SMALL, "JPEG", progressive=True),
        save(Image.fromarray(SMALL).convert("CMYK"), "JPEG"),
        encode(SMALL, "PNG", exif=EXIF),
        encode(SMALL[..., 0].astype(np.uint16) * 257, "PNG"),
        save(
            Image.fromarray(SMALL).quantize(8), "PNG", save_all=True, append_images=[Image.new("P", (9, 9))]
        ),
        save(
            Image.fromarray(SMALL).quantize(8), "GIF", save_all=True, append_images=[Image.new("P", (9, 9))]
        ),
        encode(SMALL, "BMP"),
        encode(SMALL, "PPM"),
        encode(SMALL, "WEBP", exif=EXIF),
        encode(SMALL, "WEBP", lossless=True),
        encode(SMALL, "TIFF", exif=EXIF),
        encode(SMALL, "TIFF", compression="tiff_lzw"),
        encode(SMALL, "TIFF", compression="jpeg"),
        encode(SMALL[..., 0].astype(np.uint16) * 257, "TIFF"),
    ],
    ids=lambda content: f"{sniff_format(content)}-{len(content)}",
)
def test_no_damage_gets_through(content, capfd):
    """Every byte inverted, every byte set to 0, every cut: an image or an ImageError, and silence."""
    config = DecodeConfig(min_side=1, max_pixels=1_000_000)
    for position in range(len(content)):
        zeroed = content[:position] + b"\0" + content[position + 1 :]
        for damaged in (flip(content, position), zeroed, content[:position]):
            try:
                image = decode_image(damaged, config)
            except ImageError:
                continue
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
    assert capfd.readouterr() == ("", "")
