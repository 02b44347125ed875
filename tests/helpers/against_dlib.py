"""How `--detect auto` does beside `--detect dlib` on the same pictures.

python tests/helpers/against_dlib.py found PHOTO_OR_FOLDER...      faces and CPU time a photo
python tests/helpers/against_dlib.py moved PHOTO_OR_FOLDER...      turned and mirrored photos: found, degrees
python tests/helpers/against_dlib.py lights [HEADS]                rendered heads under 64 single lamps
python tests/helpers/against_dlib.py renders FOLDER [COUNT]        `facet synth`'s, window=loose: by yaw
python tests/helpers/against_dlib.py boxed FOLDER [COUNT]          the same, dlib's landmarks in auto's boxes
python tests/helpers/against_dlib.py scan FOLDER                   of Lee Perry-Smith's head
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq

from pipeline.faces.detect import DetectConfig, FaceFinder
from pipeline.faces.detectors import to_grey
from pipeline.faces.landmarks import Face, LandmarkPredictor
from pipeline.faces.window import Box, head_roll, lean
from pipeline.geometry.crop_camera import crop_camera
from pipeline.images.given import as_pixels
from pipeline.images.png import decode_png
from pipeline.normals.estimate import FaceNormals, estimate_normals
from pipeline.normals.inference import NormalsEstimator
from pipeline.samples.sample import decode_normal_map

MODES = ("auto", "dlib")
ENDINGS = (".jpg", ".jpeg", ".png")
LAMPS = {"frontal": (0, 25, 19), "side": (25, 50, 14), "hard": (50, 130, 31)}
"""Kind of light -> least and largest angle to the view, and how many: as in the Yale B photos."""
YAWS = {"below 30": (0, 30), "30 to 45": (30, 45), "45 to 60": (45, 60), "above 60": (60, 181)}


def photos(places: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    for place in map(Path, places):
        for path in [place] if place.is_file() else sorted(place.iterdir()):
            if path.suffix.lower() in ENDINGS:
                yield path.name, as_pixels(str(path))


def finders(faces: str = "all") -> dict[str, FaceFinder]:
    return {mode: FaceFinder(DetectConfig.model_validate({"mode": mode, "faces": faces})) for mode in MODES}


def degrees_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((first * second).sum(-1), -1, 1)))


def found(places: list[str]) -> None:
    find, total = finders(), defaultdict(list)
    for name, photo in photos(places):
        line = {}
        for mode, finder in find.items():
            start = time.process_time()
            faces = len(finder(photo))
            line[mode] = faces, round(1000 * (time.process_time() - start))
            total[mode].append(line[mode])
        print(f"{name:28s}", *(f"{mode} {faces} ({ms} ms)" for mode, (faces, ms) in line.items()))
    for mode, rows in total.items():
        faces, ms = np.array(rows).T
        print(
            f"{mode}: {faces.sum()} faces, on {(faces > 0).sum()} of {len(rows)} photos, {ms.mean():.1f} ms"
        )


def moved(places: list[str]) -> None:
    """Mean angle between the normals of a photo and those of the photo turned (on grey) or mirrored."""
    network, finder, angles = NormalsEstimator(), FaceFinder(DetectConfig()), defaultdict(list)
    for name, photo in photos(places):
        if not (before := estimate_normals(photo, network, finder)):
            continue
        for what in (90, 180, 270, 30, "mirrored"):
            copy, matrix, turn = turned(photo, what)
            after = estimate_normals(copy, network, finder)
            angles[what].append(angle_between(before[0], after, matrix, turn))
        print(f"{name:28s}", *(f"{what}: {values[-1]:.1f}" for what, values in angles.items()), flush=True)
    for what, values in angles.items():
        known = np.array(values)[~np.isnan(values)]
        print(f"{what}: found {len(known)} of {len(values)}, mean {known.mean():.2f},", end=" ")
        print(f"median {np.median(known):.2f}, worst {known.max():.2f} degrees")


def turned(photo: np.ndarray, what: int | str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The photo moved, the matrix (2, 3) of its points and that (3, 3) of its normals."""
    height, width = photo.shape[:2]
    if what == "mirrored":
        matrix = np.array([[-1.0, 0, width - 1], [0, 1, 0]])
        return np.ascontiguousarray(photo[:, ::-1]), matrix, np.diag([-1.0, 1, 1])
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), what, 1)
    size = np.ceil(np.abs(matrix[:, :2]) @ (width, height) - 1e-6).astype(int)
    matrix[:, 2] += (size - (width, height)) / 2
    copy = cv2.warpAffine(photo, matrix, tuple(size.tolist()), borderValue=(127, 127, 127))
    return copy, matrix, lean(what)


def angle_between(
    before: FaceNormals, after: list[FaceNormals], matrix: np.ndarray, turn: np.ndarray
) -> float:
    """Mean angle where both masks are set; NaN where the face is not found again."""
    size = len(before.normals)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1)
    place = before.window.to_photo(grid, size) @ matrix[:, :2].T + matrix[:, 2]
    for face in after:
        x, y = np.moveaxis(face.window.to_crop(place, size).astype(np.float32), -1, 0)
        mask = (cv2.remap(face.mask, x, y, cv2.INTER_NEAREST) > 0) & (before.mask > 0)
        if mask.sum() > 0.5 * (before.mask > 0).sum():
            normals = cv2.remap(face.normals, x, y, cv2.INTER_LINEAR)
            normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
            return float(degrees_between(normals, before.normals @ turn.T)[mask].mean())
    return float("nan")


def lights(heads: int) -> None:
    """Frontal heads under one hard lamp each, nothing else shining."""
    from pipeline.synth.sample import SampleConfig, Sampler

    sampler, find = Sampler(SampleConfig(size=224, portrait=1, window="loose"), 4242), finders()
    counts: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for index in range(heads):
        drawn, rng = sampler.parameters(index), np.random.default_rng(index)
        light = drawn.look.light
        for kind, (least, most, number) in LAMPS.items():
            angles, around = np.radians([rng.uniform(least, most, number), rng.uniform(-30, 210, number)])
            lit = []
            for angle, side in zip(angles, around, strict=True):
                places, power = light.lamps.copy(), np.zeros_like(light.power)
                places[0] = np.cos(side) * np.sin(angle), np.sin(side) * np.sin(angle), np.cos(angle)
                power[0] = 3.0
                look = replace(
                    drawn.look,
                    light=replace(
                        light,
                        constant=light.constant * 0,
                        flux=light.flux * 0,
                        lamps=places,
                        power=power,
                        exposure=light.exposure * max(0.15, np.cos(angle)),  # of a camera that stays as it is
                    ),
                )
                lit.append(replace(drawn, look=look, border=None))
            for image in sampler.render_drawn(lit).image.numpy():
                for mode, finder in find.items():
                    counts[kind, mode].append(bool(finder(image)))
            hits = {mode: counts[kind, mode] for mode in MODES}
            told = (f"{mode} {sum(those)} of {len(those)}" for mode, those in hits.items())
            print(f"{index + 1} heads, {kind} light:", *told, flush=True)


def in_boxes(find: Callable[[np.ndarray], list[Face]]) -> Callable[[np.ndarray], list[Face]]:
    """Returns a finder that is given the faces, and lets dlib's predictor find their landmarks."""
    predictor = LandmarkPredictor()

    def find_in_boxes(photo: np.ndarray) -> list[Face]:
        grey = to_grey(photo)
        return [
            Face(face.index, face.box, face.score, predictor.fit(grey, hog_box(face.box)))
            for face in find(photo)
        ]

    return find_in_boxes


def hog_box(box: Box) -> Box:
    """The square that dlib's HOG detector gives where libfacedetection gives a box: medians over 30 faces."""
    left, top, right, bottom = box
    side = 0.86 * (bottom - top + 1)
    x, y = (left + right) / 2, (top + bottom) / 2 + 0.07 * (bottom - top + 1)
    return x - side / 2, y - side / 2, x + side / 2 - 1, y + side / 2 - 1


def renders(folder: str, count: int, boxed: bool = False) -> None:
    """Of heads that both find: error of the normals, and of the landmarks but for their mean offset."""
    network, find = NormalsEstimator(), dict[str, Callable[[np.ndarray], list[Face]]](finders("largest"))
    if boxed:
        find["dlib"] = in_boxes(find["auto"])
    errors: dict[str, list[list[float]]] = defaultdict(list)
    offsets: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    hits: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for row in islice(read_rows(folder), count):
        meta = json.loads(row["meta"])
        photo = as_pixels(row["image"])
        truth, valid = decode_normal_map(decode_png(row["normal"]))
        points = np.reshape(row["landmarks"], (68, 2))
        if not ((points >= 0) & (points < len(photo))).all():
            continue
        yaw, side = abs(meta["yaw"]), np.ptp(points, axis=0).max()
        group = next(name for name, (low, high) in YAWS.items() if low <= yaw < high)
        maps = {}
        for mode, finder in find.items():
            faces = estimate_normals(photo, network, finder)
            at = [f for f in faces if np.linalg.norm(f.landmarks.mean(0) - points.mean(0)) < side / 2]
            hits[group, mode].append(bool(at))
            if at:
                face = at[0]
                middle = face.window.to_photo((127.5, 127.5)) + (len(photo) - 1) / 2 * np.array([-1, -1])
                turn = crop_camera(meta["focal"], meta["centre"] - middle, len(photo))
                maps[mode] = pasted(face, photo.shape, turn)
                roll = head_roll(np.array(meta["rotation"]))
                upright = (face.landmarks - points) @ lean(roll)[:2, :2].T / side
                offsets[mode].append((group, upright))
        if len(maps) == 2:
            both = valid & maps["auto"][1] & maps["dlib"][1]
            if both.any():
                errors[group].append([float(degrees_between(maps[m][0], truth)[both].mean()) for m in MODES])
    for group in YAWS:
        for mode in MODES:
            print(f"yaw {group}, {mode}: {sum(hits[group, mode])} of {len(hits[group, mode])} heads found")
        auto, dlib = np.mean(errors[group], 0) if errors[group] else (np.nan, np.nan)
        print(f"yaw {group}: of {len(errors[group])} heads normals auto {auto:.2f}, dlib {dlib:.2f} degrees")
    for mode, rows in offsets.items():
        mean = np.mean([offset for group, offset in rows if group == "below 30"], 0)
        for group in YAWS:
            those = [offset - mean for name, offset in rows if name == group]
            if those:
                error = 100 * np.linalg.norm(those, axis=-1)
                inner = error[:, 17:].mean()
                print(
                    f"yaw {group}, {mode}: 68 points {error.mean():.2f} % of the box, {inner:.2f} without jaw"
                )


def read_rows(folder: str) -> Iterator[dict[str, Any]]:
    for path in sorted(Path(folder).glob("*.parquet")):
        yield from pq.read_table(path, columns=["image", "normal", "landmarks", "meta"]).to_pylist()


def pasted(face: FaceNormals, shape: tuple[int, ...], turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normals in the photo's camera space and mask of a face, in the photo."""
    normals, mask = np.zeros(shape, np.float32), np.zeros(shape[:2], np.uint8)
    face.window.paste(face.normals @ turn.astype(np.float32), normals)
    face.window.paste(face.mask, mask)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals / np.maximum(length, 1e-6), (mask > 127) & (length[..., 0] > 0.5)


def scan(folder: str) -> None:
    """Error of the normals, photo by photo, where both masks are set."""
    network, find, errors = NormalsEstimator(), finders("largest"), []
    for path in sorted(Path(folder).glob("*_normal16.png")):
        pose = path.name.removesuffix("_normal16.png")
        truth, valid = decode_normal_map(decode_png(path.read_bytes()))
        valid &= decode_png((path.parent / f"{pose}_mask.png").read_bytes()) > 127
        for light in ("front", "side"):
            photo = as_pixels(str(path.parent / f"{pose}_{light}.png"))
            faces = {mode: estimate_normals(photo, network, finder) for mode, finder in find.items()}
            maps = {mode: pasted(them[0], photo.shape, np.eye(3)) for mode, them in faces.items() if them}
            if len(maps) < 2:
                print(pose, light, "found by", *maps)
                continue
            both = valid & maps["auto"][1] & maps["dlib"][1]
            errors.append([float(degrees_between(maps[m][0], truth)[both].mean()) for m in MODES])
            print(pose, light, "auto {:.2f}, dlib {:.2f} degrees".format(*errors[-1]))
    print(f"{len(errors)} photos:", "auto {:.2f}, dlib {:.2f} degrees".format(*np.mean(errors, 0)))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["found", *places]:
            found(places)
        case ["moved", *places]:
            moved(places)
        case ["lights", *rest]:
            lights(int(rest[0]) if rest else 4)
        case ["renders", folder, *rest]:
            renders(folder, int(rest[0]) if rest else 300)
        case ["boxed", folder, *rest]:
            renders(folder, int(rest[0]) if rest else 300, boxed=True)
        case ["scan", folder]:
            scan(folder)
        case _:
            sys.exit(__doc__)
