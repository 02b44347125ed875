"""The photo among the pictures of a TIFF file, which may begin with a small preview; camera raw files."""

from PIL import TiffImagePlugin

from pipeline.errors import DecodeError

MAX_PAGES = 64
"""Pages that are looked at for the photo."""

NEW_SUBFILE_TYPE, SUBFILE_TYPE, PHOTOMETRIC, SUB_IFDS, DNG_VERSION = 254, 255, 262, 330, 50706
REDUCED, MASK = 1, 4
"""Bits of NewSubfileType: a smaller copy of another picture; where another is transparent."""

RAW_PHOTOMETRICS = (32803, 34892)
"""Values of a sensor behind its colour filters, and such values with all colours filled in."""


def find_photo(image: TiffImagePlugin.TiffImageFile, data: bytes) -> int:
    """Moves to the first page that is no smaller copy of another, and returns its number.

    Raises:
        DecodeError: Code unsupported_format: it is a camera's raw file.
    """
    tags = image.tag_v2
    previews = _is_reduced(image) and SUB_IFDS in tags  # the picture is in a directory below
    if DNG_VERSION in tags or tags.get(PHOTOMETRIC) in RAW_PHOTOMETRICS or data[8:10] == b"CR" or previews:
        raise DecodeError(
            "A camera's raw file, which is not read: give the photo as JPEG or TIFF.", "unsupported_format"
        )
    for page in range(MAX_PAGES):
        try:
            image.seek(page)
        except EOFError:
            break
        if not _is_reduced(image):
            return page
    image.seek(0)
    return 0


def _is_reduced(image: TiffImagePlugin.TiffImageFile) -> bool:
    kind = image.tag_v2.get(NEW_SUBFILE_TYPE, 0)
    return (isinstance(kind, int) and bool(kind & (REDUCED | MASK))) or image.tag_v2.get(SUBFILE_TYPE) == 2
