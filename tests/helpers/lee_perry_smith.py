"""Converter of the Lee Perry-Smith head scan into labelled crops, and its score.

    python tests/helpers/lee_perry_smith.py OUT.parquet [FOLDER]

makes the 14 shaded renders (front and side light of 7 poses) into training-schema rows: landmarks by dlib on
the render, crop by the product's rule, true normals and mask resampled from the same window.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.faces.crop import crop_image, crop_window
from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.images.png import encode_png
from pipeline.normals.encoding import encode_normals
from pipeline.samples.sample import decode_normal_map, resize_normals
from pipeline.samples.schema import SCHEMA, SIZE

LIGHTS = ("front", "side")


def find_landmarks(folder: Path) -> dict[str, tuple[np.ndarray, str]]:
    """Fits landmarks to every shaded render.

    Returns:
        Render name -> landmarks (68, 2) and the render that they were found on: dlib finds no face in some,
        and then the other light of the same pose stands in, which shows the same geometry.
    """
    finder = FaceFinder(DetectConfig(mode="dlib", faces="largest"))
    found: dict[str, np.ndarray | None] = {}
    poses = sorted(path.name.removesuffix("_mask.png") for path in folder.glob("*_mask.png"))
    for pose in poses:
        for light in (*LIGHTS, "flat"):
            faces = finder(_read(folder / f"{pose}_{light}.png", cv2.IMREAD_COLOR_RGB))
            found[f"{pose}_{light}"] = faces[0].landmarks if faces else None
    landmarks: dict[str, tuple[np.ndarray, str]] = {}
    for pose in poses:
        for light in LIGHTS:
            for source in (light, *LIGHTS, "flat"):
                if (points := found[f"{pose}_{source}"]) is not None:
                    landmarks[f"{pose}_{light}"] = (points, f"{pose}_{source}")
                    break
            else:
                raise ValueError(f"dlib finds no face in any render of {pose}")
    return landmarks


def convert(folder: Path) -> pa.Table:
    """Returns the labelled crops of the scan, one row per shaded render."""
    rows = []
    for name, (landmarks, source) in find_landmarks(folder).items():
        pose, light = name.rsplit("_", 1)
        image = _read(folder / f"{name}.png", cv2.IMREAD_COLOR_RGB)
        height, width = image.shape[:2]
        window = crop_window(landmarks)
        mask = _read(folder / f"{pose}_mask.png", cv2.IMREAD_GRAYSCALE)
        pixels = _read(folder / f"{pose}_normal16.png", cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH)
        normals, valid = decode_normal_map(pixels)
        normals = resize_normals(window.cut(normals * (valid & (mask > 127))[..., None]), SIZE)
        normals[window.beyond(width, height, SIZE)] = 0
        yaw, pitch = (_angle(part) for part in pose.split("_"))
        rows.append(
            {
                "id": name,
                "image": encode_png(crop_image(image, window, SIZE)),
                "normal": encode_png(encode_normals(normals, bits=16)),
                "mask": encode_png((normals.any(-1) * 255).astype(np.uint8)),
                "landmarks": window.to_crop(landmarks, SIZE).astype(np.float32).ravel(),
                "meta": json.dumps({"yaw": yaw, "pitch": pitch, "light": light, "landmarks_of": source}),
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _read(path: Path, flags: int) -> np.ndarray:
    picture = cv2.imread(str(path), flags)
    assert picture is not None, path
    return picture


def _angle(text: str) -> int:
    digits = text.lstrip("yawpitch")
    sign = -1 if text.removeprefix("yaw").removeprefix("pitch")[0] == "m" else 1
    return sign * int("".join(c for c in digits if c.isdigit()))


if __name__ == "__main__":
    default = Path(__file__).resolve().parents[3] / "shared" / "eval" / "lee_perry_smith"
    pq.write_table(convert(Path(sys.argv[2]) if len(sys.argv) > 2 else default), sys.argv[1])
