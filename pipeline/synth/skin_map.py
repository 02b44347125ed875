"""Painted skin: maps that hold where things are on a face.

A map is a person without colours: blotches, lips, brow hairs, beard, wrinkles. Painting one is costly, so it
is reused for a few samples.

Layers of a map (chart of `chart.py`):
    MELANIN, REDNESS    signed, about unit variance: brown and red mottling, red cheeks, nose, chin, ears
    LIPS, BROW, BEARD, SCALP, LINER, SHADOW, BLUSH    coverage 0..1 (hair layers already broken into hairs)
    SPOTS               freckles and moles, 0..1
    OIL                 gloss, about 1 in the T-zone and 0.4 elsewhere
    CREASE              depth of wrinkles, darkens 0..1
    HEIGHT              relief in cm, and its slopes BY_THETA (cm per radian) and BY_Y (cm per cm)
"""

import cv2
import numpy as np

from pipeline.synth import brush, chart, wrinkles

MELANIN, REDNESS, LIPS, BROW, BEARD, SCALP, LINER, SHADOW, BLUSH = range(9)
SPOTS, OIL, CREASE, HEIGHT, BY_THETA, BY_Y = range(9, 15)
CHANNELS = 16  # one spare: rows of 32 bytes gather faster


def paint_map(rng: np.random.Generator, landmarks: np.ndarray) -> np.ndarray:
    """Paints one map.

    A map is a person without colours. 45 % have a beard or stubble, 45 % are old (age 0.5..1, deep
    wrinkles), brows vary in height, arch, thickness, length and density, 20 % have receding hair.

    Args:
        rng: Decides everything.
        landmarks: (68, 3), landmarks of the neutral head, cm.

    Returns:
        (MAP_HEIGHT, MAP_WIDTH, CHANNELS) float32.
    """
    marks = chart.to_texels(landmarks)
    shape = (chart.MAP_HEIGHT, chart.MAP_WIDTH)
    layers = np.zeros((CHANNELS, *shape), np.float32)
    age = rng.uniform(0.5, 1.0) if rng.random() < 0.45 else rng.uniform(0, 0.5)
    bearded = rng.random() < 0.45
    layers[LIPS] = _lips(shape, marks, rng)
    _paint_colour(layers, marks, rng)
    layers[BROW] = _brows(shape, marks, rng)
    if bearded:
        layers[BEARD] = _beard(shape, marks, rng)
    layers[SCALP] = _scalp(shape, rng)
    _paint_eyes(layers, marks, rng)
    layers[SPOTS] = _spots(shape, rng)
    relief = wrinkles.paint_relief(marks, float(age), layers[LIPS], rng)
    layers[HEIGHT], layers[CREASE] = relief.height, relief.crease
    layers[BY_THETA], layers[BY_Y] = wrinkles.slopes(relief.height)
    return np.ascontiguousarray(np.moveaxis(layers, 0, -1))


def _spot(shape: tuple[int, int], centre: np.ndarray, radius: tuple[float, float]) -> np.ndarray:
    """Gaussian spot."""
    x = (np.arange(shape[1], dtype=np.float32) - np.float32(centre[0])) / np.float32(radius[0])
    y = (np.arange(shape[0], dtype=np.float32) - np.float32(centre[1])) / np.float32(radius[1])
    return np.exp(-0.5 * y * y)[:, None] * np.exp(-0.5 * x * x)[None]


def _paint_colour(layers: np.ndarray, marks: np.ndarray, rng: np.random.Generator) -> None:
    """Mottling, redness, gloss and blush."""
    shape = (layers.shape[1], layers.shape[2])
    fine, mid, broad = (brush.noise(rng, shape, sigma) for sigma in (1.0, 3.5, 14))
    layers[MELANIN] = 0.3 * fine + 0.5 * mid * rng.uniform(0.5, 1.3) + 0.75 * broad
    other, other_fine = brush.noise(rng, shape, 9), brush.noise(rng, shape, 2)
    nose, chin = marks[33], marks[8]
    cheeks = [(marks[a] + marks[b]) / 2 for a, b in ((31, 2), (35, 14))]
    red = rng.uniform(0.4, 1.3) * _spot(shape, nose - (0, 12), (24, 18))
    red += rng.uniform(0, 0.6) * _spot(shape, chin - (0, 18), (40, 16))
    blush = np.zeros(shape, np.float32)
    for cheek in cheeks:
        spot = _spot(shape, cheek + rng.normal(0, 5, 2), (rng.uniform(24, 40), rng.uniform(20, 34)))
        red += rng.uniform(0.4, 1.3) * spot
        blush += spot
    for ear in ((-1.45, 1.0), (1.45, 1.0)):
        centre = chart.to_texels(np.array([9 * np.sin(ear[0]), ear[1], chart.AXIS_Z + 9 * np.cos(ear[0])]))
        red += 0.7 * _spot(shape, centre, (26, 55))
    for eye in (marks[36:42].mean(0), marks[42:48].mean(0)):
        red += 0.35 * _spot(shape, eye, (32, 20))
    layers[REDNESS] = red * (0.8 + 0.35 * other) + 0.3 * other + 0.22 * other_fine
    layers[BLUSH] = np.clip(blush, 0, 1)
    forehead = np.array([marks[27][0], marks[19:25, 1].mean() - 55])
    oil = 0.4 + 0.6 * _spot(shape, marks[29], (16, 40)) + 0.5 * _spot(shape, forehead, (90, 40))
    for cheek in cheeks:
        oil += 0.25 * _spot(shape, cheek - (0, 28), (26, 18))
    layers[OIL] = np.clip(oil + 0.14 * mid + 0.1 * fine, 0.05, 1.6) + 0.5 * layers[LIPS]


def _lips(shape: tuple[int, int], marks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lip coverage with a soft border; the seam between the lips is part of it."""
    centre = marks[48:60].mean(0)
    upper = brush.smooth_curve(marks[48:55], 40)
    lower = brush.smooth_curve(marks[[54, 55, 56, 57, 58, 59, 48]], 40)
    outline = np.concatenate([upper, lower[1:-1]])
    outline = centre + (outline - centre) * (1.0, rng.uniform(0.88, 1.08))
    mask = brush.polygon(shape, outline, rng.uniform(1.2, 2.4))
    return mask * (1 + 0.1 * brush.noise(rng, shape, 0.8, 4.0))


def _brows(shape: tuple[int, int], marks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two brows of drawn hairs over a soft base."""
    thickness = rng.uniform(6.0, 14.0)
    lift = rng.normal(0, 3.0) - 0.25 * thickness
    arch, reach, density = rng.normal(0, 2.5), rng.uniform(0.85, 1.12), rng.uniform(0.6, 1.1)
    taper, tail_drop = rng.uniform(0.25, 0.6), rng.normal(0, 2.0)
    hairs = round(rng.uniform(160, 340))
    base = np.zeros(shape, np.float32)
    curves: list[np.ndarray] = []
    for ids, outward in ((range(21, 16, -1), -1.0), (range(22, 27), 1.0)):
        points = marks[list(ids)].copy()
        points[:, 1] += 1.5 - lift + tail_drop * np.linspace(0, 1, 5) - arch * np.array([0, 0.5, 1, 0.6, 0])
        points = points[0] + (points - points[0]) * reach
        curve = brush.smooth_curve(points, 32)
        along = np.linspace(0, 1, 32)
        half = thickness * np.minimum(1, 0.55 + 2.2 * along) * (1 - (1 - taper) * along**2) / 2
        outline = np.concatenate([curve - np.c_[0 * half, half], (curve + np.c_[0 * half, half])[::-1]])
        base = np.maximum(base, brush.polygon(shape, outline, 1.8))
        t = rng.random(hairs) ** 0.9
        index = np.minimum((t * 31).astype(int), 30)
        root = curve[index] + (curve[index + 1] - curve[index]) * ((t * 31) % 1)[:, None]
        root[:, 1] += rng.uniform(-1, 1, hairs) * half[index]
        # Medial hairs stand up, lateral ones lie along the brow.
        angle = np.radians(np.interp(t, [0, 0.25, 1], [75, 35, -8]) + rng.normal(0, 12, hairs))
        length = rng.uniform(3, 7.5, hairs)
        tip = root + np.c_[outward * np.cos(angle), -np.sin(angle)] * length[:, None]
        curves.extend(np.stack([root, tip], 1))
    drawn = brush.lines(shape, curves, list(rng.uniform(0.45, 1, len(curves))), 1)
    return np.clip(base * rng.uniform(0.25, 0.65) + brush.blur(drawn, 0.6) * density * 1.2, 0, 1)


def _beard(shape: tuple[int, int], marks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Beard or stubble: a region of one of several cuts, broken into hairs."""
    down = np.array([0.0, 1.0])
    jaw = marks[2:15]
    nose_base, mouth = marks[33], marks[48:60]
    face = np.concatenate(
        [
            marks[[1]],
            jaw + down * rng.uniform(6, 34),
            marks[[15]],
            (marks[[13]] + marks[[54]]) / 2 + rng.uniform(-12, 4) * down,
            marks[[54]] + (14, -6),
            marks[[35]] + (4, 8),
            marks[[31]] + (-4, 8),
            marks[[48]] + (-14, -6),
            (marks[[3]] + marks[[48]]) / 2 + rng.uniform(-12, 4) * down,
        ]
    )
    region = brush.polygon(shape, face, rng.uniform(5, 11))
    cut = rng.choice(["full", "goatee", "moustache", "chin"], p=[0.62, 0.16, 0.14, 0.08])
    below_nose = nose_base[1] + 4
    if cut == "goatee":
        region *= _spot(shape, mouth.mean(0) + np.array([0, 10]), (rng.uniform(24, 36), 34)) > 0.5
    elif cut == "moustache":
        region *= brush.smoothstep(mouth[6, 1] + 12, mouth[6, 1] - 4, np.arange(shape[0]))[:, None]
    elif cut == "chin":
        region *= brush.smoothstep(mouth[9, 1] + 4, mouth[9, 1] + 12, np.arange(shape[0]))[:, None]
    region = brush.blur(region.astype(np.float32), 4)
    lips = brush.polygon(shape, brush.smooth_curve(np.concatenate([mouth, mouth[:1]]), 40), 1.5)
    region *= (1 - lips) * brush.smoothstep(below_nose - 6, below_nose + 4, np.arange(shape[0]))[:, None]
    patchy = np.clip(0.85 + 0.35 * brush.noise(rng, shape, 14), 0, 1.2)
    if rng.random() < 0.55:  # stubble: a shade and dots
        dots = brush.smoothstep(0.5, 1.8, brush.noise(rng, shape, 0.8))
        return np.clip(region * patchy * (rng.uniform(0.1, 0.4) + dots * rng.uniform(0.2, 0.7)), 0, 0.85)
    hairs = brush.smoothstep(-1.6, 1.6, brush.noise(rng, shape, 0.6, 2.2))
    grown = np.clip(region * 1.5 * patchy, 0, 1)
    return np.clip(grown * (0.58 + 0.5 * hairs), 0, 1)


_HAIRLINE = (
    [0, 20, 36, 46, 55, 64, 69, 74, 80, 86, 100, 112, 120, 132, 180],
    [11.0, 10.8, 10.0, 8.6, 6.4, 5.0, 3.0, 1.6, 2.6, 5.0, 6.0, 3.5, -1.0, -4.5, -6.0],
)
"""Angles in degrees and heights in cm of the border of the scalp hair on the neutral head."""


def scalp_height(theta: np.ndarray) -> np.ndarray:
    """Height above which hair grows, cm, at angles in radians."""
    return np.interp(np.abs(np.degrees(theta)), *_HAIRLINE)


def _scalp(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Cropped scalp hair; receding for some."""
    theta = chart.column_angles()
    border = scalp_height(theta) + rng.normal(0, 0.3)
    if rng.random() < 0.2:
        border = border + rng.uniform(0.5, 3.5) * np.exp(-0.5 * (np.degrees(theta) / 42) ** 2)
    height = chart.TOP - np.arange(shape[0], dtype=np.float32) / chart.ROWS_PER_CM
    above = height[:, None] - border[None].astype(np.float32) + 0.35 * brush.noise(rng, shape, 5)
    streaks = brush.noise(rng, shape, 0.8, 4.0)
    return np.clip(brush.smoothstep(-0.5, 0.9, above + 0.3 * streaks) * (0.86 + 0.14 * streaks), 0, 1)


def _paint_eyes(layers: np.ndarray, marks: np.ndarray, rng: np.random.Generator) -> None:
    """Lash lines with lashes, eye shadow, and the tired colour under the eyes."""
    shape = (layers.shape[1], layers.shape[2])
    lashes, shade = rng.uniform(0.3, 1.0), rng.uniform(0, 0.8)
    curves: list[np.ndarray] = []
    values: list[float] = []
    shadow = np.zeros(shape, np.float32)
    # Corner, upper lid, corner, lower lid; x towards the outer corner is `side`.
    for ids, side in (((36, 37, 38, 39, 40, 41), -1.0), ((45, 44, 43, 42, 47, 46), 1.0)):
        outer, up_outer, up_inner, inner, low_inner, low_outer = marks[list(ids)]
        upper = brush.smooth_curve(np.stack([inner, up_inner, up_outer, outer]), 24)
        lower = brush.smooth_curve(np.stack([inner, low_inner, low_outer, outer]), 24)
        curves += [upper + np.array([0, -0.8]), upper[8:] + np.array([0, 0.2]), lower + np.array([0, 0.8])]
        values += [0.9, 1.0, 0.22 + 0.3 * lashes]
        for t in np.linspace(0.15, 1, 16):
            root = upper[round(t * 23)]
            tip = root + np.array([side * (t - 0.35) * 6, -2.5 - 3 * rng.random()]) * lashes
            curves.append(np.stack([root, tip]))
            values.append(0.5 * lashes)
        lid = np.concatenate([upper, (upper + np.array([side * 3, -13]))[::-1]])
        shadow = np.maximum(shadow, brush.polygon(shape, lid, 4))
        bag = _spot(shape, (low_inner + low_outer) / 2 + (0, 11), (17, 7))
        layers[MELANIN] += shade * 2.2 * bag
        layers[REDNESS] += 0.4 * shade * bag
    layers[LINER] = np.clip(brush.blur(brush.lines(shape, curves, values, 2), 0.7) * 1.25, 0, 1)
    layers[SHADOW] = shadow


def _spots(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Freckles, for some many, and a few moles."""
    canvas = np.zeros(shape, np.uint8)
    freckles = int(rng.integers(150, 900)) if rng.random() < 0.25 else int(rng.integers(0, 40))
    centre = chart.to_texels(np.array([0.0, 2.0, 10.0]))
    where = rng.normal(centre, (95, 60), (freckles, 2))
    for (x, y), value in zip(where, rng.uniform(40, 160, freckles), strict=True):
        cv2.circle(
            canvas, (round(x * 16), round(y * 16)), int(rng.integers(8, 26)), float(value), -1, cv2.LINE_AA, 4
        )
    for _ in range(int(rng.integers(0, 7))):
        x, y = rng.uniform((160, 60), (480, 480))
        cv2.circle(canvas, (round(x * 16), round(y * 16)), int(rng.integers(18, 42)), 255, -1, cv2.LINE_AA, 4)
    return brush.blur(canvas, 0.7)
