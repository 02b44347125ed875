"""Colour profiles (ICC): colours of a photo to those of sRGB, which everything else here is meant for."""

import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

SAME = 2
"""Steps of 255 by which a profile may differ from sRGB and still be sRGB."""

MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile -> mode of the images that it is for."""

ToSrgb = Callable[[Image.Image], Image.Image]


@functools.lru_cache(maxsize=64)
def to_srgb(profile: bytes, mode: str) -> ToSrgb | None:
    """Returns what turns images of one mode to sRGB by a profile, as RGB.

    Args:
        profile: ICC profile.
        mode: RGB, L or CMYK.

    Returns:
        None where nothing is to be done: the profile is that of sRGB, for another mode, or not usable.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if MODES.get(source.profile.xcolor_space) != mode:
            return None
        target = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        transform = ImageCms.buildTransform(source, target, mode, "RGB", intent, flags)
        if mode != "CMYK" and _changes_little(transform, mode):
            return None
    except Exception:  # a damaged profile raises nearly everything, and is no reason to lose a photo
        return None

    def convert(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image, transform)
        return image if converted is None else converted

    return convert


def _changes_little(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    if mode == "L":
        colours = np.arange(256, dtype=np.uint8)[None]
    else:
        colours = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(1, -1, 3)
    image = Image.fromarray(colours)
    converted = np.asarray(ImageCms.applyTransform(image, transform)).astype(int)
    return bool(np.abs(converted - np.asarray(image.convert("RGB"))).max() <= SAME)
