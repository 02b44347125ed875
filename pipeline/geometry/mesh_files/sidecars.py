"""What stands beside a mesh: the photo's camera, and how to use the displacement map."""

from typing import Any

import numpy as np

from pipeline.geometry.mesh_files import UNITS

MIDLEVEL = 0.5


def camera_facts(
    uri: str,
    size: tuple[int, int],
    focal: float,
    centre: tuple[float, float],
    *,
    rotation: np.ndarray,
    translation: np.ndarray,
    unit: str = "m",
) -> dict[str, Any]:
    """What camera.json says.

    Args:
        uri: The photo.
        size: Its width and height in pixels, upright.
        focal: Focal length in pixels.
        centre: Principal point (x, y) in pixels whose centres are integers.
        rotation: (3, 3) head space to camera space.
        translation: (3,) centimetres, position of the head's origin in camera space.
        unit: The mesh's: "m", "cm" or "mm".
    """
    to_camera = np.eye(4)
    to_camera[:3, :3], to_camera[:3, 3] = rotation, np.asarray(translation) * UNITS[unit]
    return {
        "uri": uri,
        "width": size[0],
        "height": size[1],
        "fx": float(focal),
        "fy": float(focal),
        "cx": float(centre[0]),
        "cy": float(centre[1]),
        "projection": "u = cx + fx x / (-z), v = cy - fy y / (-z); pixel centres at integers, v down",
        "camera_space": "camera at the origin, looking along -z, x right, y up",
        "model_to_camera": to_camera.tolist(),
        "unit": unit,
    }


def displacement_facts(range_mm: float) -> dict[str, Any]:
    """What displacement.json says of a 16-bit map that holds -range_mm..range_mm."""
    full = 2 * range_mm
    return {
        "unit": "mm",
        "mm_per_full_range": full,
        "midlevel": MIDLEVEL,
        "strength_m": full / 1000,
        "strength_cm": full / 10,
        "strength_mm": full,
        "colourspace": "Non-Color",
        "formula": "shift along the normal = (value - midlevel) x strength, value in 0..1, on a divided mesh",
    }


BLENDER_SCRIPT = '''"""Displaces proxy.obj (in {unit}) in Blender: select the head, set FOLDER, run."""

import bpy

FOLDER = "//"
head = bpy.context.object
division = head.modifiers.new("Divide", "SUBSURF")
division.levels = division.render_levels = 3
image = bpy.data.images.load(FOLDER + "displacement.png")
image.colorspace_settings.name = "Non-Color"
texture = bpy.data.textures.new("Displacement", "IMAGE")
texture.image = image
texture.extension = "EXTEND"
displace = head.modifiers.new("Displace", "DISPLACE")
displace.texture, displace.texture_coords, displace.direction = texture, "UV", "NORMAL"
displace.mid_level, displace.strength = {midlevel}, {strength}
'''


def blender_script(range_mm: float, unit: str = "m") -> str:
    """What blender_displace.py says for a mesh in a unit."""
    strength = displacement_facts(range_mm)[f"strength_{unit}"]
    return BLENDER_SCRIPT.format(unit=unit, midlevel=MIDLEVEL, strength=strength)
