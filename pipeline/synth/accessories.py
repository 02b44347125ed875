"""Things before the face, in the head's own space: clouds of surface points that `strands.splat` draws.

Kinds of things and their shares: `KINDS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.pixels import srgb_to_linear
from pipeline.synth import brush, clothes, skin

POINTS = 60_000
"""Surface points of a thing."""
ATTRIBUTES = 12
"""x, y, z (cm, neutral head space), normal x, y, z, linear r, g, b, opacity, gloss, roughness."""
OWN_SKIN = 1.0
"""Added to the roughness where the colour is a factor of the sample's own skin: its own hands."""


def paint_accessory(rng: np.random.Generator, kind: str | None = None) -> np.ndarray:
    """Makes a thing, of a kind that is drawn if not given: (POINTS, ATTRIBUTES) float32."""
    if kind is None:
        kind = str(rng.choice(list(KINDS), p=[share for share, _ in KINDS.values()]))
    parts = KINDS[kind][1](rng)
    areas = np.array([part.area for part in parts])
    counts = np.floor(areas / areas.sum() * POINTS).astype(int)
    counts[0] += POINTS - counts.sum()
    cloud = np.concatenate([part.sample(rng, n) for part, n in zip(parts, counts, strict=True) if n > 0])
    return cloud.astype(np.float32)


@dataclass(frozen=True)
class _Part:
    """A surface to be covered with points: its area and a function from parameters (n, 2) in 0..1."""

    area: float
    surface: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    colour: np.ndarray
    opacity: float = 1.0
    gloss: float = 1.0
    roughness: float = 0.4
    pattern: float = 0.0

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, ATTRIBUTES)."""
        points, normals = self.surface(rng.random((count, 2)))
        normals = normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-6)
        mottled = 1 + self.pattern * np.sin(points @ np.array([3.1, 2.3, 1.7]) * 2)[:, None]
        rest = np.tile([self.opacity, self.gloss, self.roughness], (count, 1))
        return np.concatenate([points, normals, np.clip(self.colour * mottled, 0, 1), rest], 1)


def _tube(curve: np.ndarray, radius: float, colour: np.ndarray, **look: float) -> _Part:
    """Tube about a curve (n, 3)."""
    steps = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    length = np.concatenate([[0], steps.cumsum()])

    def surface(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        where = uv[:, 0] * length[-1]
        place = np.stack([np.interp(where, length, curve[:, k]) for k in range(3)], 1)
        ahead = np.stack([np.interp(where + 0.05, length, curve[:, k]) for k in range(3)], 1)
        behind = np.stack([np.interp(where - 0.05, length, curve[:, k]) for k in range(3)], 1)
        along = ahead - behind
        along = along / np.linalg.norm(along, axis=1, keepdims=True).clip(1e-6)
        helper = np.where(np.abs(along[:, 2:]) > 0.9, [[0, 1.0, 0]], [[0, 0, 1.0]])
        first = np.cross(along, helper)
        first /= np.linalg.norm(first, axis=1, keepdims=True).clip(1e-6)
        second = np.cross(along, first)
        angle = 2 * np.pi * uv[:, 1:]
        normal = first * np.cos(angle) + second * np.sin(angle)
        return place + radius * normal, normal

    return _Part(max(float(length[-1]) * 2 * np.pi * radius, 1.0), surface, colour, **look)


def _ellipsoid(centre: np.ndarray, axes: np.ndarray, colour: np.ndarray, **look: float) -> _Part:
    """Ellipsoid with orthogonal half axes (3, 3)."""
    size = np.linalg.norm(axes, axis=1)

    def surface(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, angle = 1 - 2 * uv[:, :1], 2 * np.pi * uv[:, 1:]
        flat = np.sqrt(1 - height**2)
        unit = np.concatenate([flat * np.cos(angle), flat * np.sin(angle), height], 1)
        return centre + unit @ axes, (unit / size**2) @ axes

    area = 4 * np.pi * (np.prod(size[[0, 1]]) + np.prod(size[[0, 2]]) + np.prod(size[[1, 2]])) / 3
    return _Part(float(area), surface, colour, **look)


def _plate(corner: np.ndarray, edges: np.ndarray, bend: float, colour: np.ndarray, **look: float) -> _Part:
    """Parallelogram of two edges (2, 3), bent about the second (bend > 0: the middle comes forward)."""
    side, up = edges
    normal = np.cross(side, up)
    normal = normal / np.linalg.norm(normal)

    def surface(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = bend * (1 - (2 * uv[:, :1] - 1) ** 2)
        tilt = normal + bend * 4 * (2 * uv[:, :1] - 1) * side / (side @ side)
        return corner + uv[:, :1] * side + uv[:, 1:] * up + out * normal, tilt

    return _Part(float(np.linalg.norm(np.cross(side, up))), surface, colour, **look)


@dataclass(frozen=True)
class _LensShape:
    """Outline between ellipse (power 1) and rectangle (power 0); half width and height, cm."""

    width: float
    height: float
    power: float

    def outline(self, count: int = 48) -> np.ndarray:
        """Closed curve (count, 2) about the origin."""
        angle = np.linspace(0, 2 * np.pi, count)
        corner = np.stack([np.cos(angle), np.sin(angle)], 1)
        return np.sign(corner) * np.abs(corner) ** self.power * [self.width, self.height]

    def fill(self, uv: np.ndarray) -> np.ndarray:
        """Points (n, 2) inside, from parameters in 0..1."""
        box = 2 * uv - 1
        # Corners of the box that lie outside the outline move onto it.
        radius = (np.abs(box) ** (2 / self.power)).sum(1, keepdims=True) ** (self.power / 2)
        return box / np.maximum(radius, 1) * [self.width, self.height]


def _before_eyes(xy: np.ndarray) -> np.ndarray:
    """Points (n, 3) on the curved surface of glasses."""
    return np.concatenate([xy, 12.0 - 0.055 * xy[:, :1] ** 2], 1)


def _frames(rng: np.random.Generator, dark: bool) -> list[_Part]:
    """Two rims, bridge, arms, and lenses."""
    shape = _LensShape(rng.uniform(2.2, 2.8), rng.uniform(1.3, 2.2), 2 / (2 + rng.uniform(0, 6)))
    radius = float(np.exp(rng.uniform(np.log(0.05), np.log(0.17))))
    colour = clothes.cloth_colour(rng) if rng.random() < 0.35 else srgb_to_linear(rng.uniform(8, 60, 3))
    look = {"gloss": 2.5, "roughness": float(rng.uniform(0.15, 0.4))}
    middle, top = 0.55 + shape.width + rng.uniform(0, 0.3), 3.4 - rng.uniform(0, 0.9)
    tint = srgb_to_linear(rng.uniform(4, 50, 3)) if dark else np.full(3, 0.05, np.float32)
    opacity = float(rng.uniform(0.75, 0.98) if dark else rng.uniform(0.02, 0.10))
    rimless = rng.random() < 0.12
    parts: list[_Part] = []
    for side in (-1.0, 1.0):
        centre = np.array([side * middle, top])
        if not rimless:
            parts.append(_tube(_before_eyes(centre + shape.outline()), radius, colour, **look))
        hinge = _before_eyes(centre[None] + [[side * shape.width, 0.5 * shape.height]])[0]
        arm = np.stack([hinge, hinge + np.array([side * 0.3, 0, -1]), np.array([side * 8.3, 3.9, 0.5])])
        parts.append(_tube(arm, radius * 0.9, colour, **look))
        parts.append(_lens(shape, centre, tint, opacity))
    bridge = np.array([[-0.75, top + 0.25, 11.9], [0, top + 0.55, 12.2], [0.75, top + 0.25, 11.9]])
    parts.append(_tube(brush.smooth_curve(bridge, 12), radius * 0.9, colour, **look))
    return parts


def _lens(shape: _LensShape, centre: np.ndarray, tint: np.ndarray, opacity: float) -> _Part:
    def surface(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = shape.fill(uv)
        place = _before_eyes(centre + flat)
        return place, np.stack([0.11 * place[:, 0], 0.05 * flat[:, 1], np.ones(len(uv))], 1)

    return _Part(4 * shape.width * shape.height, surface, tint, opacity, 4.0, 0.08)


def _cap(rng: np.random.Generator) -> list[_Part]:
    """Cap hugging the head, and its brim."""
    colour = clothes.cloth_colour(rng)
    rim = rng.uniform(8.0, 10.0)
    dome = np.diag([8.9, 15.8 - rim + 0.4, 11.6])
    tilt = rng.uniform(-0.25, 0.35)

    def crown(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, angle = uv[:, :1], 2 * np.pi * uv[:, 1:]
        flat = np.sqrt(1 - height**2)
        unit = np.concatenate([flat * np.sin(angle), height, flat * np.cos(angle)], 1)
        return np.array([0, rim, 0.8]) + unit @ dome, unit / np.diag(dome)

    def brim(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turn, out = (uv[:, 0] - 0.5) * 2.3, uv[:, 1]
        reach = 11.3 + 6.0 * out * np.cos(turn * 0.95)
        x = np.sin(turn) * (8.4 + 1.0 * out)
        z = 1.0 + reach * np.cos(turn * 0.72)
        y = rim + 0.3 - tilt * out * 5 - 0.022 * x**2
        return np.stack([x, y, z], 1), np.stack([0.05 * x, np.ones_like(x), 0.2 + 0 * x], 1)

    look = {"gloss": 0.15, "roughness": 0.7}
    return [_Part(560.0, crown, colour, **look), _Part(200.0, brim, colour * rng.uniform(0.6, 1.1), **look)]


def _hand(rng: np.random.Generator) -> list[_Part]:
    """Four fingers, thumb and palm laid on a cheek, the mouth, an eye or the forehead."""
    own = rng.random() < 0.75
    tone = np.full(3, 0.95) if own else srgb_to_linear(skin.TONES[rng.integers(12)])
    side = float(rng.choice([-1, 1]))
    place = np.array([side * rng.uniform(1.5, 6.5), rng.uniform(-6.5, 5), 0.0])
    place[2] = 12.5 - 0.07 * place[0] ** 2 + rng.uniform(0, 1.5)
    turn = np.radians(rng.uniform(-70, 70)) * side
    out = np.array([place[0] * 0.14, 0, 1.0])
    out /= np.linalg.norm(out)
    flat = np.array([1.0, 0, 0]) - out * out[0]
    flat /= np.linalg.norm(flat)
    raised = np.cross(out, flat)
    along = raised * np.cos(turn) + flat * np.sin(turn)
    across = np.cross(along, out)
    look = {"gloss": 0.5, "roughness": 0.5 + OWN_SKIN * own, "pattern": 0.05}
    palm = np.stack([along * 4.2, across * 3.9, out * 1.3])
    parts = [_ellipsoid(place - along * 5.0 + out * 0.6, palm, tone, **look)]
    for k, length in enumerate((6.6, 7.6, 7.0, 5.4)):
        spread = np.radians((k - 1.5) * rng.uniform(3, 9))
        heading = along * np.cos(spread) + across * np.sin(spread)
        root = place - along * 1.6 + across * (k - 1.5) * 1.85
        curl = rng.uniform(-0.8, 0.4)
        joints = [root, root + heading * length * 0.5 + out * 0.5, root + heading * length + out * curl]
        parts.append(_tube(brush.smooth_curve(np.stack(joints), 14), rng.uniform(0.75, 0.9), tone, **look))
        parts.append(_ellipsoid(joints[2], np.stack([heading, across, out]) * 0.85, tone, **look))
    thumb = place - along * 5 - across * side * 3.6
    bent = np.stack(
        [thumb, thumb + along * 3 - across * side * 1.6, thumb + along * 5.6 - across * side * 1.8]
    )
    parts.append(_tube(brush.smooth_curve(bent, 12), 0.95, tone, **look))
    return parts


def _microphone(rng: np.random.Generator) -> list[_Part]:
    head = np.array([rng.uniform(-4, 4), rng.uniform(-8, -3.5), rng.uniform(14, 19)])
    fall = np.array([rng.uniform(-0.6, 0.6), -1.0, rng.uniform(-0.3, 0.8)])
    fall /= np.linalg.norm(fall)
    dark = srgb_to_linear(rng.uniform(10, 90, 3))
    body = np.stack([head + fall * 2, head + fall * 18])
    return [
        _ellipsoid(head, np.eye(3) * rng.uniform(1.9, 2.8), dark, gloss=1.5, roughness=0.35, pattern=0.3),
        _tube(body, rng.uniform(1.0, 1.5), dark * 0.7, gloss=1.5, roughness=0.3),
    ]


def _card(rng: np.random.Generator) -> list[_Part]:
    size = rng.uniform((4, 5), (9, 16))
    turn = rng.uniform(0, np.pi)
    middle = np.array([rng.uniform(-8, 8), rng.uniform(-9, 7), rng.uniform(13.5, 18)])
    side = np.array([np.cos(turn), np.sin(turn), rng.normal(0, 0.3)]) * size[0]
    up = np.array([-np.sin(turn), np.cos(turn), rng.normal(0, 0.3)]) * size[1]
    corner = middle - (side + up) / 2
    return [
        _plate(
            corner,
            np.stack([side, up]),
            rng.uniform(0, 1),
            clothes.cloth_colour(rng),
            gloss=0.8,
            roughness=0.35,
        )
    ]


def _ball(rng: np.random.Generator) -> list[_Part]:
    middle = np.array([rng.uniform(-7, 7), rng.uniform(-9, 6), rng.uniform(13, 17)])
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(1.5, 4.5, 3)[:, None]
    look = {"gloss": float(rng.uniform(0, 2)), "roughness": float(rng.uniform(0.15, 0.7)), "pattern": 0.2}
    return [_ellipsoid(middle, axes, clothes.cloth_colour(rng), **look)]


KINDS: dict[str, tuple[float, Callable[[np.random.Generator], list[_Part]]]] = {
    "glasses": (0.42, lambda rng: _frames(rng, dark=False)),  # clear lenses
    "sun": (0.14, lambda rng: _frames(rng, dark=True)),
    "cap": (0.1, _cap),  # with a brim
    "hand": (0.14, _hand),  # fingers and palm
    "microphone": (0.06, _microphone),
    "card": (0.08, _card),  # flat object: phone, card, fan
    "ball": (0.06, _ball),  # ball, cup or other round object
}
"""Kind of thing -> its share, and what makes it."""
