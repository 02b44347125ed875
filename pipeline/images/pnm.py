"""PBM, PGM and PPM, plain and raw, of 8 and 16 bits: Netpbm's formats.

https://netpbm.sourceforge.net/doc/pnm.html; Pillow reads them, too, in Python loops that take minutes.
"""

import re
from dataclasses import dataclass

import numpy as np

_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"P([1-6])" + _SPACE + rb"(\d{1,9})" + _SPACE + rb"(\d{1,9})")
_LARGEST = re.compile(_SPACE + rb"(\d{1,5})")


@dataclass(frozen=True)
class PnmHeader:
    """What the head of a file says.

    Attributes:
        kind: 1 to 6, as in P6.
        width: In pixels.
        height: In pixels.
        largest: Largest value.
        start: Where the values begin.
    """

    kind: int
    width: int
    height: int
    largest: int
    start: int


def read_header(data: bytes) -> PnmHeader:
    """Reads the head of a file.

    Raises:
        EOFError: It ends early.
        ValueError: It is damaged.
    """
    found = _HEADER.match(data)
    if found is None:
        raise EOFError("the header ends early") if len(data) < 20 else ValueError("the header is damaged")
    kind, width, height = map(int, found.groups())
    end, largest = found.end(), 1
    if kind not in (1, 4):
        found = _LARGEST.match(data, end)
        if found is None:
            raise EOFError("the header ends early") if len(data) < 40 else ValueError("no largest value")
        end, largest = found.end(), int(found[1])
        if not 0 < largest < 1 << 16:
            raise ValueError(f"its largest value is {largest}")
    return PnmHeader(kind, width, height, largest, end + 1)


def pnm_pixels(data: bytes, header: PnmHeader) -> np.ndarray:
    """Reads the values.

    Returns:
        (H, W) or (H, W, 3) uint8 or uint16, 0 to the largest value of the header; bits are 0 for black and
        1 for white.

    Raises:
        EOFError: The file ends early.
        ValueError: A value is none.
    """
    shape = (header.height, header.width, 3) if header.kind in (3, 6) else (header.height, header.width)
    count = int(np.prod(shape))
    body = data[header.start :]
    if header.kind == 4:
        row = -(-header.width // 8)
        bits = np.unpackbits(_take(body, np.dtype(np.uint8), row * header.height).reshape(-1, row), axis=1)
        return 1 - bits[:, : header.width]
    if header.kind > 4:
        kind = np.dtype(np.uint8 if header.largest < 256 else ">u2")
        values = _take(body, kind, count).astype(kind.newbyteorder("="))
    else:
        body = re.sub(rb"#[^\r\n]*", b"", body)
        if header.kind == 1:  # bits need no space between them
            digits = np.frombuffer(body, np.uint8)
            values = (digits[(digits == ord("0")) | (digits == ord("1"))][:count] == ord("0")).astype(
                np.uint8
            )
        else:
            values = np.fromstring(body, np.int32, sep=" ")[:count]
        if values.size < count:
            raise EOFError("the values end early")
        if values.min() < 0 or values.max() > header.largest:
            raise ValueError("a value is larger than the largest")
        values = values.astype(np.uint8 if header.largest < 256 else np.uint16)
    return np.minimum(values, header.largest).reshape(shape)


def _take(body: bytes, kind: np.dtype, count: int) -> np.ndarray:
    if len(body) < count * kind.itemsize:
        raise EOFError("the values end early")
    return np.frombuffer(body, kind, count)
