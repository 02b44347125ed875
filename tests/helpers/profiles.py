"""Colour profiles made in tests: matrix and curve, and grey, of version 2 of the ICC format."""

import struct

ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
"""X, Y, Z of red, green and blue of Adobe RGB (1998), adapted to D50."""

SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))


def matrix_profile(primaries=ADOBE, gamma: float = 563 / 256) -> bytes:
    """Returns a profile of three primaries and one gamma."""
    tags = {f"{name}XYZ": _xyz(*xyz) for name, xyz in zip("rgb", primaries, strict=True)}
    tags |= {f"{name}TRC": _curve(gamma) for name in "rgb"}
    return _profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    """Returns a profile of greys."""
    return _profile(b"GRAY", {"kTRC": _curve(gamma)})


def _xyz(*values: float) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return struct.pack(">4s4xIH2x", b"curv", 1, round(gamma * 256))


def _profile(space: bytes, tags: dict[str, bytes]) -> bytes:
    text = b"of a test\0"
    tags = {
        "desc": struct.pack(">4s4xI", b"desc", len(text)) + text + bytes(78),
        "wtpt": _xyz(0.9642, 1.0, 0.8249),
    } | tags
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, unpadded in tags.items():
        content = unpadded + bytes(-len(unpadded) % 4)
        table += struct.pack(">4sII", name.encode(), start + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s12s4s4sIII8xI3i48x",
        start + len(body), b"test", 0x02100000, b"mntr", space, b"XYZ ", bytes(12), b"acsp", b"\0" * 4,
        0, 0, 0, 0, round(0.9642 * 65536), 65536, round(0.8249 * 65536),
    )  # fmt: skip
    assert len(head) == 128
    return head + struct.pack(">I", len(tags)) + table + body
