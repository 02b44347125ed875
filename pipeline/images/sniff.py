"""What a file is, told by its content and never by its name."""

import re

SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "jpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "webp"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "tiff"),
    (re.compile(rb"GIF8[79]a"), "gif"),
    # "BM" alone also begins texts: the size of the second header, one of the known ones, tells them apart.
    (re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), "bmp"),
    (re.compile(rb"P[1-6](?:\s|#[^\r\n]*[\r\n])+\d+\s"), "pnm"),
    (re.compile(rb".{4}ftyp(avi[fs]|m(if1|sf1|iaf).{4}(.{4}){0,12}?avi[fs])", re.DOTALL), "avif"),
    (re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL), "heic"),
)
"""First bytes of the formats that are read."""

RAW = "a camera's raw file, which is not read"

OTHERS = (
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"\s*<svg", re.IGNORECASE), "an SVG drawing"),
    (re.compile(rb"\s*<\?xml.{0,500}<svg", re.IGNORECASE | re.DOTALL), "an SVG drawing"),
    (re.compile(rb"\s*<\?xml", re.IGNORECASE), "an XML document"),
    (re.compile(rb".{4}ftypcrx |FUJIFILMCCD-RAW|IIU\0|II(RO|RS)|MMOR|FOVb|\0MRM", re.DOTALL), RAW),
    (re.compile(rb".{4}ftyp", re.DOTALL), "a video"),
    (re.compile(rb"\x1aE\xdf\xa3|RIFF.{4}AVI |\0\0\x01[\xb3\xba]", re.DOTALL), "a video"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 image, which is not read"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "a JPEG XL image, which is not read"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"\x1f\x8b"), "a gzip archive"),
    (re.compile(rb"PAR1"), "a Parquet file"),
    (re.compile(rb"\x93NUMPY"), "a NumPy array"),
    (re.compile(rb".{257}ustar", re.DOTALL), "a tar archive"),
    (re.compile(rb"P[7fF]\s"), "a PAM or PFM image, which is not read"),
    (re.compile(rb"\x76\x2f\x31\x01|#\?RADIANCE"), "an image of high dynamic range, which is not read"),
)

HEAD = 1024
"""Bytes at the beginning of a file that are looked at."""


def sniff_format(data: bytes) -> str | None:
    """Returns the name of the format, None where the content is none that is read."""
    return next((name for signature, name in SIGNATURES if signature.match(data[:HEAD])), None)


def describe_content(data: bytes) -> str:
    """Says in a few words what a file that is none of the read formats seems to be."""
    if known := known_content(data):
        return known
    head = data[:HEAD].removeprefix(b"\xef\xbb\xbf")
    if not head.strip(b"\0"):
        return "a file of zero bytes only" if not data.strip(b"\0") else "a file that begins with zero bytes"
    return "text" if _is_text(head) else "no known format"


def known_content(data: bytes) -> str | None:
    """Says what a file of one of the formats is that are known, but not read; None: it is none."""
    head = data[:HEAD].removeprefix(b"\xef\xbb\xbf")
    return next((description for signature, description in OTHERS if signature.match(head)), None)


def is_complete(data: bytes, name: str) -> bool:
    """Whether a file has the end that its format asks for; True where the format has none."""
    match name:
        case "jpeg":
            return b"\xff\xd9" in data[-65536:]  # cameras append their own data behind the end
        case "png":
            return b"IEND" in data
        case "gif":
            return data.rstrip(b"\0").endswith(b";")
        case "webp":
            return len(data) >= 8 + int.from_bytes(data[4:8], "little")
        case "bmp":
            return len(data) >= int.from_bytes(data[2:6], "little")
    return True


def _is_text(head: bytes) -> bool:
    try:
        # The cut at HEAD may split a character.
        text = head.decode("utf-8", "strict" if len(head) < HEAD else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
