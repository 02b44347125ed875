"""Distributions of light: soft surroundings of broad lobes, and lamps.

Surroundings are up to three lobes (direction, sharpness, colour) over a constant; lamps are parallel light.
`shading.py` and `shadows.py` put them to use. Kinds and their shares: `KINDS`.

A camera meters: each face is scaled to a mean luminance near 0.22, log-normal by 0.3 stops, of which dark and
light skin keep a part of their difference. Nothing of the light depends on the head or its pose.
"""

from dataclasses import dataclass

import numpy as np

LOBES, LAMPS = 3, 3


@dataclass(frozen=True)
class Light:
    """The light of one sample; camera space, linear colours.

    Attributes:
        kind: One of `KINDS`.
        constant: (3,) radiance from everywhere.
        directions: (LOBES, 3) unit vectors towards the lobes.
        sharpness: (LOBES,) of spherical Gaussians; 1 is half the sky, 30 a window.
        flux: (LOBES, 3) total flux of each lobe; zero when there is none.
        lamps: (LAMPS, 3) unit vectors towards the lamps.
        power: (LAMPS, 3) irradiance of each lamp at normal incidence; zero when there is none.
        penumbra: (LAMPS,) blur of the shadow's edge, cm.
        exposure: Mean luminance of the face aimed at.
        wrap: Strength of subsurface bleeding.
    """

    kind: str
    constant: np.ndarray
    directions: np.ndarray
    sharpness: np.ndarray
    flux: np.ndarray
    lamps: np.ndarray
    power: np.ndarray
    penumbra: np.ndarray
    exposure: float
    wrap: float


def direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector: azimuth in degrees from the viewer (z) towards image right (x), elevation up."""
    a, e = np.radians([azimuth, elevation])
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], np.float32)


def temperature(rng: np.random.Generator, spread: float = 0.12) -> np.ndarray:
    """Random white: (3,) linear colour between candle and shade, mean 1."""
    warm, green = rng.normal(0.03, spread), rng.normal(0, spread / 5)
    colour = np.exp(np.array([warm, green, -warm * 1.3]))
    return (colour / colour.mean()).astype(np.float32)


def draw_light(rng: np.random.Generator, portrait: bool = False) -> Light:
    """Draws the light of one sample; portraits have soft frontal light, window or overcast."""
    shares = {kind: share for kind, (share, _) in KINDS.items()}
    if portrait:
        shares = {"soft": 0.6, "window": 0.2, "overcast": 0.2}
    weights = np.array(list(shares.values()))
    kind = str(rng.choice(list(shares), p=weights / weights.sum()))
    side = float(rng.choice([-1, 1]))
    sources = KINDS[kind][1](rng, side)
    lobes = [s for s in sources if s[2] is not None][:LOBES]
    lamps = [s for s in sources if s[2] is None][:LAMPS]
    white = temperature(rng, 0.05 if portrait else 0.08)
    constant = rng.uniform(0.03, 0.3) if portrait else rng.uniform(0.01, 0.2)
    directions = np.tile(np.array([0, 0, 1], np.float32), (LOBES, 1))
    sharpness, flux = np.ones(LOBES, np.float32), np.zeros((LOBES, 3), np.float32)
    for k, (where, colour, sharp) in enumerate(lobes):
        directions[k], flux[k], sharpness[k] = where, colour * white, sharp
    places = np.tile(np.array([0, 0, 1], np.float32), (LAMPS, 1))
    power, penumbra = np.zeros((LAMPS, 3), np.float32), np.full(LAMPS, 0.5, np.float32)
    for k, (where, colour, _) in enumerate(lamps):
        places[k], power[k] = where, colour * white
        penumbra[k] = np.exp(rng.uniform(np.log(0.12), np.log(1.3)))
    return Light(
        kind=kind,
        constant=(constant * temperature(rng, 0.1)).astype(np.float32),
        directions=directions,
        sharpness=sharpness,
        flux=flux,
        lamps=places,
        power=power,
        penumbra=penumbra,
        exposure=float(0.24 * np.exp(rng.normal(0, 0.12 if portrait else 0.25))),
        wrap=float(rng.uniform(0.6, 1.2)),
    )


_Source = tuple[np.ndarray, np.ndarray, "float | None"]
"""Direction, colour times strength, sharpness of a lobe or None for a lamp."""


def _fill(rng: np.random.Generator, strength: float) -> _Source:
    where = direction(rng.uniform(-180, 180), rng.uniform(-60, 80))
    return where, strength * temperature(rng, 0.15), float(rng.uniform(0.8, 3))


def _soft(rng: np.random.Generator, side: float) -> list[_Source]:
    key = direction(side * abs(rng.normal(0, 28)), rng.uniform(0, 50))
    rim = direction(side * -rng.uniform(90, 150), rng.uniform(0, 50))
    return [
        (key, 3.0 * temperature(rng, 0.05), float(np.exp(rng.uniform(0.7, 2.8)))),
        _fill(rng, rng.uniform(0.3, 1.8)),
        (rim, rng.uniform(0, 1.2) * temperature(rng), 6.0),
    ]


def _window(rng: np.random.Generator, side: float) -> list[_Source]:
    key = direction(side * rng.uniform(35, 95), rng.uniform(-5, 45))
    return [
        (key, 3.2 * temperature(rng, 0.08), float(np.exp(rng.uniform(1.5, 3.6)))),
        _fill(rng, rng.uniform(0.1, 1.0)),
        (direction(-side * rng.uniform(30, 100), 10), rng.uniform(0.1, 1.0) * temperature(rng, 0.15), 2.0),
    ]


def _overcast(rng: np.random.Generator, side: float) -> list[_Source]:
    ground = np.clip(temperature(rng, 0.2) + rng.normal(0, 0.1, 3), 0.2, 2)
    return [
        (direction(side * rng.uniform(0, 60), rng.uniform(50, 85)), 3.2 * temperature(rng, 0.06), 1.6),
        (direction(0, -80), rng.uniform(0.2, 1.2) * ground, 1.2),
        (direction(rng.uniform(-50, 50), 20), rng.uniform(0.5, 1.6) * temperature(rng, 0.06), 2.0),
    ]


def _lamp(rng: np.random.Generator, side: float) -> list[_Source]:
    lamps: list[_Source] = [
        (direction(side * rng.uniform(0, 75), rng.uniform(-10, 65)), 2.6 * temperature(rng), None)
    ]
    for _ in range(int(rng.random() < 0.2) + int(rng.random() < 0.1)):
        where = direction(rng.uniform(-150, 150), rng.uniform(-20, 60))
        lamps.append((where, rng.uniform(0.3, 1.5) * temperature(rng, 0.2), None))
    return [*lamps, _fill(rng, rng.uniform(0.4, 1.6)), _fill(rng, rng.uniform(0.1, 0.8))]


def _side(rng: np.random.Generator, side: float) -> list[_Source]:
    low = rng.random() < 0.25
    where = direction(side * rng.uniform(0, 60), -rng.uniform(20, 60)) if low else None
    if where is None:
        where = direction(side * rng.uniform(60, 110), rng.uniform(-15, 45))
    return [(where, 3.0 * temperature(rng, 0.15), None), _fill(rng, rng.uniform(0.15, 0.9))]


def _back(rng: np.random.Generator, side: float) -> list[_Source]:
    return [
        (direction(side * rng.uniform(110, 170), rng.uniform(5, 50)), 3.0 * temperature(rng, 0.12), None),
        _fill(rng, rng.uniform(0.6, 1.4)),
        (direction(rng.uniform(-60, 60), rng.uniform(-20, 50)), rng.uniform(0.8, 2) * temperature(rng), 2.5),
    ]


def _coloured(rng: np.random.Generator, side: float) -> list[_Source]:
    sources: list[_Source] = []
    for turn in (side, -side):
        colour = rng.uniform(0.08, 1.0, 3) ** 1.2
        where = direction(turn * rng.uniform(10, 100), rng.uniform(-25, 60))
        hard = None if rng.random() < 0.3 else float(np.exp(rng.uniform(0.5, 3)))
        sources.append((where, 2.6 * colour / colour.mean(), hard))
    return [*sources, _fill(rng, rng.uniform(0.3, 1.0))]


def _sun(rng: np.random.Generator, side: float) -> list[_Source]:
    where = direction(side * rng.uniform(0, 120), rng.uniform(20, 70))
    sky = np.array([0.75, 0.95, 1.3])
    return [
        (where, 3.0 * np.array([1.1, 1.0, 0.84]), None),
        (direction(0, 80), rng.uniform(0.8, 2.0) * sky, 1.0),
        (direction(rng.uniform(-90, 90), -60), rng.uniform(0.2, 1.2) * temperature(rng, 0.15), 1.2),
    ]


KINDS = {
    "soft": (0.26, _soft),  # large frontal source, fill from all sides; also every portrait
    "window": (0.2, _window),  # one large source from the side, dim rest
    "overcast": (0.14, _overcast),  # sky from above, coloured bounce from below
    "lamp": (0.16, _lamp),  # one lamp from anywhere in front, weak surroundings
    "side": (0.08, _side),  # hard light from the side or from below
    "back": (0.06, _back),  # light from behind, dim front
    "coloured": (0.07, _coloured),  # two saturated sources
    "sun": (0.13, _sun),  # sun and blue sky
}
"""Kind of light -> its share, normalised when drawn, and what draws its sources."""
