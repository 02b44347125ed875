"""Hairdos: strands grown on the neutral head's scalp, as a cloud of points that `strands.py` draws.

A hairdo is grown once (`Salon.grow`) and reused for a few samples; length on the photo, colour and light
differ. A few hundred guides are combed, pulled by gravity, curled and kept outside the head; each has a clump
of followers. 45 % of bobs and long hair, 40 % of short hair have a fringe; some have strands astray over the
face.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.geometry.head_model import FaceModel
from pipeline.synth import chart, skin_map

POINTS = 130_000
"""Points of a hairdo."""
ATTRIBUTES = 8
"""x, y, z (cm, neutral head space), tangent x, y, z, shade, tint of the strand."""

_STYLES = {
    "crop": (0.22, 0.6, 2.5),  # brushed away from the crown
    "short": (0.22, 2.5, 7),  # parted or brushed back or forward
    "bob": (0.14, 10, 17),
    "long": (0.24, 18, 34),
    "back": (0.10, 8, 14),  # slicked back or tied
    "curls": (0.08, 2, 9),  # afro, frizzy
}
"""Style -> its share, shortest and longest length in cm."""
_STEPS = 24
_CENTRE = np.array([0.0, 3.0, 0.5])
"""Centre from which the head is star-shaped enough for hair to lie on it."""
_CROWN = np.array([0.0, 13.5, -3.5])


@dataclass(frozen=True)
class Style:
    """How a hairdo grows."""

    name: str
    length: float
    volume: float
    lift: float
    gravity: float
    curl: float
    pitch: float
    clump: float
    frizz: float
    part: float
    comb: str
    fringe: float
    astray: float
    curtain: float
    hug: float


def draw_style(rng: np.random.Generator) -> Style:
    """Draws a style."""
    name = str(rng.choice(list(_STYLES), p=[share for share, *_ in _STYLES.values()]))
    length = float(rng.uniform(*_STYLES[name][1:]))
    curly = name == "curls" or rng.random() < 0.25
    comb = {"crop": "crown", "back": "back", "curls": "up"}.get(name, "part")
    if name == "short":
        comb = str(rng.choice(["part", "crown", "back", "forward"]))
    fringe = {"bob": 0.45, "long": 0.4, "short": 0.4}.get(name, 0.0)
    return Style(
        name=name,
        length=length,
        volume=float(rng.uniform(0.2, 0.6) if name in ("crop", "back") else rng.uniform(0.4, 1.9)),
        lift={"crop": 0.5, "back": 0.15, "curls": 2.5}.get(name, float(rng.uniform(0.2, 1.1))),
        gravity={"crop": 0.02, "back": 0.03, "curls": 0.02, "short": 0.08}.get(name, 0.22),
        curl=float(rng.uniform(0.15, 0.6) if curly else rng.uniform(0, 0.12)),
        pitch=float(rng.uniform(1.2, 5.0)),
        clump=float(rng.uniform(0, 0.12) if name == "crop" else rng.uniform(0.1, 0.5)),
        frizz=float(rng.uniform(0.25, 0.5) if name == "curls" else rng.uniform(0.02, 0.15)),
        part=float(rng.normal(0, 2.5)),
        comb=comb,
        fringe=float(rng.uniform(4.0, 8.5)) if rng.random() < fringe else 0.0,
        astray=float(rng.uniform(0.005, 0.05)) if rng.random() < 0.3 else 0.0,
        curtain=float(rng.uniform(-2.0, 5.0)),
        hug={"crop": 0.25, "back": 0.6, "short": float(rng.uniform(0.05, 0.4))}.get(name, 0.0),
    )


class Salon:
    """Grows hairdos on one head model: knows the scalp and the head's outline."""

    def __init__(self, model: FaceModel):
        neutral = model.neutral.cpu().numpy().astype(np.float64)
        names = model.material_names
        outer = np.isin(model.material.cpu().numpy(), [names.index("M_Face"), names.index("M_BackHead")])
        triangles = model.triangles.cpu().numpy()[outer]
        corners = neutral[triangles]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(normal, axis=1)
        middle = corners.mean(1)
        theta = np.arctan2(middle[:, 0], middle[:, 2] - chart.AXIS_Z)
        scalp = middle[:, 1] > skin_map.scalp_height(theta)
        self._corners, self._area = corners[scalp], area[scalp]
        self._normals = normal[scalp] / area[scalp, None].clip(1e-9)
        self._outline = _outline(neutral[np.unique(triangles)])

    def grow(self, rng: np.random.Generator) -> np.ndarray:
        """Grows a hairdo: (POINTS, ATTRIBUTES) float32."""
        style = draw_style(rng)
        per_strand = int(np.clip(style.length * 11, 10, 320))
        count = POINTS // per_strand
        roots, normals = self._roots(rng, count)
        guides = min(count, 420)
        paths = self._comb(rng, style, roots[:guides], normals[:guides])
        nearest = _nearest(roots, roots[:guides])
        along = np.linspace(0, 1, _STEPS)
        # Followers come nearer to their guide towards the tip, and end earlier or later.
        offset = (roots - roots[nearest])[:, None] * (1 - style.clump * along)[None, :, None]
        offset = offset + rng.normal(0, style.frizz, (count, 1, 3)) * along[None, :, None] ** 0.7
        strands = paths[nearest] + offset
        strands = self._resample(strands, per_strand, rng)
        tangent = np.gradient(strands, axis=1)
        tangent /= np.linalg.norm(tangent, axis=2, keepdims=True).clip(1e-6)
        s = np.linspace(0, 1, per_strand)
        tint = 0.6 * rng.normal(0, 1, guides)[nearest] + rng.normal(0, 1, count)
        tint = np.repeat(tint[:, None], per_strand, 1)
        shade = np.broadcast_to(0.55 + 0.45 * s**0.6, tint.shape)
        points = np.concatenate([strands, tangent, shade[..., None], tint[..., None]], 2).reshape(
            -1, ATTRIBUTES
        )
        # Left over: repeats of the first point, which change nothing.
        filled = np.concatenate([points, np.repeat(points[:1], POINTS - len(points), 0)])
        return filled.astype(np.float32)

    def _roots(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        which = rng.choice(len(self._area), count, p=self._area / self._area.sum())
        u, v = np.sqrt(rng.random(count)), rng.random(count)
        weights = np.stack([1 - u, u * (1 - v), u * v], 1)
        return (weights[:, :, None] * self._corners[which]).sum(1), self._normals[which]

    def _comb(
        self, rng: np.random.Generator, style: Style, roots: np.ndarray, normals: np.ndarray
    ) -> np.ndarray:
        """Paths (G, STEPS, 3) of the guides."""
        count = len(roots)
        comb = _direction(style, roots)
        front = (roots[:, 2] > 4.5) & (roots[:, 1] > 8.5) & (np.abs(roots[:, 0]) < 5.5)
        length = style.length * rng.uniform(0.75, 1.1, count)
        fringe = front & (style.fringe > 0) & (rng.random(count) < 0.9)
        comb[fringe] = np.array([0.0, -0.3, 1.0]) + np.c_[0.1 * roots[fringe, 0], np.zeros((fringe.sum(), 2))]
        length[fringe] = style.fringe * rng.uniform(0.8, 1.1, fringe.sum())
        astray = front & (rng.random(count) < style.astray * 4)
        comb = comb - (comb * normals).sum(1, keepdims=True) * normals
        comb /= np.linalg.norm(comb, axis=1, keepdims=True).clip(1e-6)
        heading = normals * style.lift + comb + rng.normal(0, 0.12 + style.frizz, (count, 3))
        step = length[:, None] / (_STEPS - 1)
        layer = rng.random(count) ** 0.7 * style.volume
        phase, turn = rng.uniform(0, 2 * np.pi, (count, 1)), 2 * np.pi / style.pitch
        paths = np.empty((count, _STEPS, 3))
        place = roots.copy()
        down = np.array([0.0, -1.0, 0.0])
        for k in range(_STEPS):
            paths[:, k] = place
            heading /= np.linalg.norm(heading, axis=1, keepdims=True).clip(1e-6)
            pull = style.gravity if k else 0.0
            heading = heading + pull * step * 1.4 * down + 0.25 * style.lift * 0.1 * comb
            wave = style.curl * np.concatenate(
                [np.sin(turn * k * step + phase), np.zeros_like(phase), np.cos(turn * k * step + phase)], 1
            )
            place = place + step * (heading + wave)
            pushed = self._push_out(
                place, 0.3 + layer * min(1.0, 3 * (k + 1) / _STEPS), ~(fringe | astray), step[:, 0], style
            )
            # What the head deflects goes on along the head.
            heading = heading + 0.8 * (pushed - place) / step.clip(1e-3)
            place = pushed
        return paths

    def _push_out(
        self, points: np.ndarray, gap: np.ndarray, off_face: np.ndarray, step: np.ndarray, style: Style
    ) -> np.ndarray:
        offset = points - _CENTRE
        distance = np.linalg.norm(offset, axis=1).clip(1e-6)
        unit = offset / distance[:, None]
        column, row = _angles(unit)
        least = self._outline[row.astype(int), column.astype(int)] + gap
        # Ears and shoulders lift hair bit by bit; what starts below them stays there, hidden.
        least = np.minimum(least, distance + 0.01 + 0.4 * step)
        # Hair that is combed flat comes back to the head.
        distance = distance + style.hug * (np.minimum(distance, least) - distance)
        points = _CENTRE + unit * np.maximum(distance, least)[:, None]
        # The face stays free: hair in front of the ears slides outwards.
        limit = np.interp(points[:, 1], [-12, 0, 6, 9.5, 11], [6.6, 7.2, 6.6, 4.5, 0])
        inside = off_face & (points[:, 2] > 3.0) & (np.abs(points[:, 0]) < limit)
        side = np.where(points[:, 0] >= 0, 1.0, -1.0)
        points[inside, 0] += 0.5 * (side * limit - points[:, 0])[inside]
        ahead = off_face & (points[:, 1] < 6.5) & (points[:, 2] > style.curtain)
        points[ahead, 2] -= 0.35 * (points[ahead, 2] - style.curtain)
        return points

    @staticmethod
    def _resample(strands: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Points spread evenly over strands, each cut at a length of its own."""
        reach = (1 - 0.3 * rng.random(len(strands)) ** 2)[:, None]
        where = np.linspace(0, _STEPS - 1 - 1e-6, count)[None] * reach
        index, part = where.astype(int), (where % 1)[..., None]
        rows = np.arange(len(strands))[:, None]
        return strands[rows, index] * (1 - part) + strands[rows, index + 1] * part


def _direction(style: Style, roots: np.ndarray) -> np.ndarray:
    """Direction in which each root is combed."""
    x = roots[:, :1]
    if style.comb == "crown":
        return roots - _CROWN
    if style.comb == "back":
        return np.tile([0.0, -0.25, -1.0], (len(roots), 1)) + 0.03 * roots * [1, 0, 0]
    if style.comb == "forward":
        return np.tile([0.15 * np.sign(style.part), -0.2, 1.0], (len(roots), 1))
    if style.comb == "up":
        return np.zeros_like(roots)
    side = np.where(x > style.part, 1.0, -1.0)
    return side * np.array([1.0, 0, 0]) + np.array([0, -0.35, -0.25]) + 0.0 * roots


_GRID = (48, 96)


def _angles(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    column = (np.arctan2(unit[:, 0], unit[:, 2]) / (2 * np.pi) + 0.5) * (_GRID[1] - 1e-3)
    row = (np.arccos(unit[:, 1].clip(-1, 1)) / np.pi) * (_GRID[0] - 1e-3)
    return column, row


def _outline(vertices: np.ndarray) -> np.ndarray:
    """Largest distance of the surface from the centre, by direction; gaps take their neighbours'."""
    offset = vertices - _CENTRE
    distance = np.linalg.norm(offset, axis=1)
    column, row = _angles(offset / distance[:, None])
    grid = np.zeros(_GRID)
    np.maximum.at(grid, (row.astype(int), column.astype(int)), distance)
    for _ in range(4):
        spread = np.maximum.reduce(
            [
                np.roll(grid, 1, 1),
                np.roll(grid, -1, 1),
                np.pad(grid, ((1, 0), (0, 0)))[:-1],
                np.pad(grid, ((0, 1), (0, 0)))[1:],
            ]
        )
        grid = np.where(grid > 0, grid, spread)
    return grid


def _nearest(points: np.ndarray, guides: np.ndarray) -> np.ndarray:
    """Index of the nearest guide of every point."""
    distance = (guides**2).sum(1)[None] - 2 * points @ guides.T
    return distance.argmin(1)
