"""Training crops: a labelled head as a detector would hand it over, in a worse photo.

| what | share | range |
|---|---|---|
| mirrored | half | |
| window | all | side exp N(0, 0.10), place N(0, 0.05) of the side, each cut at 2.5 deviations |
| lean that is left | 70 %, 22 %, 8 % | N(0, 12), U(-60, 60), U(-180, 180) degrees |
| photo's border | 20 % | a line through the crop at any angle: grey, black, white, any colour, the edge |
| things before the face | 15 % | one or two rectangles or ellipses of any colour or of noise |
| resolution | 35 % | down to 20..100 pixels and up again, by any of three filters |
| light | half | gain 0.5..1.6, exponent 0.5..1.9, channel gains exp N(0, 0.08); 15 % grey |
| blur, noise, JPEG | 15, 25, 25 % | up to 1.5 pixels; up to 15 levels; quality 20..80 |
"""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pipeline.faces.points import SIZE
from pipeline.faces.window import OUTSIDE, RolledWindow, head_roll, lean, window_of_points
from pipeline.geometry.crop_camera import crop_camera
from pipeline.points.labels import LabelledHead, decode_bgr


@dataclass(frozen=True)
class Example:
    """One crop and what the network should answer; see `pipeline.points.network.PointsOutput`.

    Attributes:
        image: (SIZE, SIZE, 3) uint8 RGB.
        points: (COUNT, 2) float32, in crop sides about the middle.
        visible: (COUNT,) bool.
        rotation: (3, 3) float32, head space to crop camera space, turned with the crop.
    """

    image: np.ndarray
    points: np.ndarray
    visible: np.ndarray
    rotation: np.ndarray


def true_window(head: LabelledHead, mirrored: bool = False) -> RolledWindow:
    """The upright window about a head's true points."""
    side = int(mirrored)
    about = window_of_points(head.points[side], head_roll(head.rotation[side]))
    # Upright for the camera that looks at the window, not for that of the photo.
    roll = head_roll(to_crop_camera(head, about, mirrored) @ head.rotation[side])
    return window_of_points(head.points[side], roll)


def to_crop_camera(head: LabelledHead, window: RolledWindow, mirrored: bool = False) -> np.ndarray:
    """Rotation (3, 3) from the photo's camera space to that of a camera that looks at a window's middle."""
    middle = (head.size - 1) / 2
    return crop_camera(head.focal, head.centre[int(mirrored)] - (window.x, window.y) + middle, head.size)


def cut_example(
    head: LabelledHead, window: RolledWindow, mirrored: bool = False, border: int = cv2.BORDER_CONSTANT
) -> Example:
    """The crop of a window, without any faults; `border` says what goes on beyond the picture."""
    side = int(mirrored)
    image = decode_bgr(head.image, cv2.IMREAD_COLOR)[..., ::-1]
    if mirrored:
        image = image[:, ::-1]
    points = window.to_crop(head.points[side], SIZE)
    inside = ((points > -0.5) & (points < SIZE - 0.5)).all(1)
    image = cv2.copyMakeBorder(image, head.size, head.size, head.size, head.size, border, value=OUTSIDE)
    shifted = replace(window, x=window.x + head.size, y=window.y + head.size)
    return Example(
        image=shifted.crop(image, SIZE),
        points=((points - (SIZE - 1) / 2) / SIZE).astype(np.float32),
        visible=head.visible[side] & inside,
        rotation=(lean(-window.roll) @ to_crop_camera(head, window, mirrored) @ head.rotation[side]).astype(
            np.float32
        ),
    )


def jitter(
    window: RolledWindow, rng: np.random.Generator, strength: float = 1.0, any_roll: bool = True
) -> RolledWindow:
    """The window that a detector would give in place of the true one."""
    size, x, y = np.clip(rng.normal(size=3), -2.5, 2.5) * strength
    kind = rng.random() if any_roll else 0.0
    if kind < 0.7:
        roll = 12 * float(np.clip(rng.normal(), -2.5, 2.5)) * strength
    else:
        limit = 60 if kind < 0.92 else 180
        roll = float(rng.uniform(-limit, limit))
    moved = window.to_photo(np.array([0.05 * x, 0.05 * y]) * SIZE + (SIZE - 1) / 2, SIZE)
    return RolledWindow(moved[0], moved[1], window.side * math.exp(0.10 * size), window.roll + roll)


def draw_example(head: LabelledHead, rng: np.random.Generator) -> Example:
    """Draws a training crop of a head."""
    mirrored = bool(rng.random() < 0.5)
    # Corners of one colour in a turned picture would tell how it was turned.
    border = (cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE)[
        rng.choice(3, p=[0.3, 0.5, 0.2])
    ]
    example = cut_example(head, jitter(true_window(head, mirrored), rng), mirrored, border)
    image, visible = example.image, example.visible
    pixels = np.rint(example.points * SIZE + (SIZE - 1) / 2).astype(int).clip(0, SIZE - 1)
    if rng.random() < 0.15:
        for _ in range(rng.integers(1, 3)):
            thing = _shape(rng)
            image = _fill(image, thing, rng)
            visible = visible & ~thing[pixels[:, 1], pixels[:, 0]]
    if rng.random() < 0.2:
        beyond = _half_plane(rng)
        image = _beyond(image, beyond, rng)
        visible = visible & ~beyond[pixels[:, 1], pixels[:, 0]]
    return replace(example, image=_spoil(image, rng), visible=visible)


def _shape(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    centre = tuple(int(v) for v in rng.uniform(0, SIZE, 2))
    axes = tuple(int(v) for v in rng.uniform(0.05, 0.28, 2) * SIZE)
    angle = float(rng.uniform(0, 180))
    if rng.random() < 0.5:
        cv2.ellipse(mask, centre, axes, angle, 0, 360, 1, -1)
    else:
        box = cv2.boxPoints((centre, (2 * axes[0], 2 * axes[1]), angle))
        cv2.fillPoly(mask, [box.astype(np.int32)], 1)
    return mask > 0


def _fill(image: np.ndarray, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = image.copy()
    colour = rng.uniform(0, 255, 3)
    if rng.random() < 0.4:
        coarse = rng.normal(0, rng.uniform(5, 60), (16, 16, 3)).astype(np.float32)
        colour = (colour + cv2.resize(coarse, (SIZE, SIZE)))[where]
    elif rng.random() < 0.3:
        colour = image[rng.integers(SIZE), rng.integers(SIZE)]
    image[where] = np.clip(colour, 0, 255)
    return image


def _half_plane(rng: np.random.Generator) -> np.ndarray:
    """What lies beyond a line, which leaves the middle mostly inside."""
    angle = rng.choice([0, 0.5, 1, 1.5]) * np.pi + (rng.normal(0, 0.5) if rng.random() < 0.5 else 0.0)
    offset = rng.uniform(-0.05, 0.45) * SIZE
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    return x * math.cos(angle) + y * math.sin(angle) > offset


def _beyond(image: np.ndarray, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = image.copy()
    kind = rng.random()
    if kind < 0.8:
        grey = rng.choice([0, 127, 255])
        image[where] = 127 if kind < 0.4 else grey if kind < 0.7 else rng.uniform(0, 255, 3)
        return image
    _, nearest = cv2.distanceTransformWithLabels(
        where.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    inside = ~where
    table = np.zeros((nearest.max() + 1, 3), np.uint8)
    table[nearest[inside]] = image[inside]
    return table[nearest]


def _spoil(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Resolution, light, blur, noise and compression of a worse photo."""
    chance = rng.random(7)
    if chance[0] < 0.35:
        small = int(np.exp(rng.uniform(np.log(20), np.log(100))))
        up = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[rng.choice(3, p=[0.55, 0.4, 0.05])]
        image = cv2.resize(
            cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (SIZE, SIZE), interpolation=up
        )
    if chance[1] < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.5)))
    if chance[2] < 0.5:
        gains = np.exp(rng.uniform(np.log(0.5), np.log(1.6)) + rng.normal(0, 0.08, 3))
        exponent = np.exp(rng.uniform(np.log(0.5), np.log(1.9)))
        levels = np.arange(256)[:, None] / 255
        table = np.clip(255 * (levels**exponent) * gains, 0, 255).astype(np.uint8)
        image = np.stack([table[image[..., c], c] for c in range(3)], -1)
    if chance[3] < 0.15:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    if chance[4] < 0.25:
        noise = rng.standard_normal((SIZE, SIZE, 1 if chance[5] < 0.4 else 3), dtype=np.float32)
        image = np.clip(image + noise * rng.uniform(2, 15), 0, 255).astype(np.uint8)
    if chance[6] < 0.25:
        quality = int(rng.integers(20, 81))
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = decode_bgr(data.tobytes())
    return image
