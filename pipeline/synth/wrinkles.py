"""Relief of the skin: painted wrinkles and folds, 3-D grain, and the normals they make.

The relief is a height above the smooth surface in centimetres of the neutral head. The perturbed normal is
normalize(n - s), s the tangential part of the height's gradient in camera space: what is shaded and what is
the truth. A bump lit from above is bright on its upper side.

Painted (`paint_relief`, strength by age 0..1): forehead lines, frown lines, crow's feet, eye bags, nasolabial
and marionette folds, fine lip lines, chin fold, neck lines, light cross-hatching of old cheeks. A line is a
groove of Gaussian profile with raised shoulders. Grain (`Grain`): band-pass noise with wavelengths of 2.5, 1,
0.45 and 0.22 cm from a periodic volume made by FFT, each with its exact gradient.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pipeline.synth import brush, chart

WAVELENGTHS = (2.5, 1.0, 0.45, 0.22)
"""Wavelengths of the grain's bands, cm."""


@dataclass(frozen=True)
class Relief:
    """A painted relief: height (MAP_HEIGHT, MAP_WIDTH) in cm, and darkness of its grooves 0..1."""

    height: np.ndarray
    crease: np.ndarray


def slopes(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of a height map (cm): by theta in cm per radian, by y in cm per cm. Central differences."""
    by_row, by_column = np.gradient(height)
    rate = chart.columns_per_radian(chart.column_angles()).astype(np.float32)
    return by_column * rate, -by_row * chart.ROWS_PER_CM


class _Strokes:
    """Lines gathered by width before they are drawn all at once."""

    WIDTHS = ("fine", "mid", "broad")

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.curves: dict[str, list[np.ndarray]] = {width: [] for width in self.WIDTHS}
        self.values: dict[str, list[float]] = {width: [] for width in self.WIDTHS}

    def add(self, width: str, points: np.ndarray, strength: float, jitter: float = 0.8) -> None:
        """Adds a curve through control points (n, 2) that are moved a little."""
        points = points + self.rng.normal(0, jitter, points.shape)
        self.curves[width].append(brush.smooth_curve(points, 20))
        self.values[width].append(strength)

    def draw(self, shape: tuple[int, int], width: str, sigma: float) -> np.ndarray:
        """Grooves that taper at both ends; the peak of a profile is its strength."""
        pieces: list[np.ndarray] = []
        strengths: list[float] = []
        for curve, value in zip(self.curves[width], self.values[width], strict=True):
            starts = range(0, len(curve) - 1, 2)
            taper = np.sin(np.linspace(0.3, np.pi - 0.3, len(starts)))
            pieces += [curve[i : i + 3] for i in starts]
            strengths += list(value * taper)
        drawn = brush.lines(shape, pieces, strengths, 2)
        # A line of width 2 covers some 2.6 texels.
        return brush.blur(drawn, sigma) * np.float32(sigma * np.sqrt(2 * np.pi) / 2.6)


def paint_relief(marks: np.ndarray, age: float, lips: np.ndarray, rng: np.random.Generator) -> Relief:
    """Paints the relief of a face.

    Args:
        marks: (68, 2), landmarks in texels.
        age: 0 young, 1 very old.
        lips: (MAP_HEIGHT, MAP_WIDTH) coverage of the lips.
        rng: Decides everything.
    """
    shape = (lips.shape[0], lips.shape[1])
    old = age**1.3
    strokes = _Strokes(rng)
    _forehead(strokes, marks, age)
    _around_eyes(strokes, marks, age)
    _lower_face(strokes, marks, age)
    height, groove = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for width, sigma, depth in (
        ("fine", 1.15, 0.05 + 0.08 * old),
        ("mid", 2.0, 0.07 + 0.15 * old),
        ("broad", 4.5, 0.08 + 0.2 * old),
    ):
        if strokes.curves[width]:
            cut = strokes.draw(shape, width, sigma) * np.float32(depth)
            height += 0.72 * brush.blur(cut, sigma * 1.8) - cut  # raised shoulders
            groove += cut
    if old > 0.25:
        hatch = np.minimum(brush.noise(rng, shape, 1.1, 3.0), brush.noise(rng, shape, 3.0, 1.1))
        height += 0.012 * old * hatch * np.clip(0.6 + 0.6 * brush.noise(rng, shape, 14), 0, 1)
    if rng.random() < 0.25:  # pimples, scars, uneven skin
        height += rng.uniform(0.01, 0.05) * brush.smoothstep(1.9, 3.2, brush.noise(rng, shape, 2.0))
    height += lips * (0.006 + 0.012 * age) * brush.noise(rng, shape, 1.0, 5.0)
    height += 0.012 * age * brush.noise(rng, shape, 7)
    return Relief(height, np.clip(groove * 5, 0, 1))


def _forehead(strokes: _Strokes, marks: np.ndarray, age: float) -> None:
    """Forehead lines and frown lines between the brows."""
    rng = strokes.rng
    left, right = marks[17], marks[26]
    top = marks[19:25, 1].mean()
    middle = (left[0] + right[0]) / 2
    if rng.random() < 0.35 + 0.6 * age:
        count = int(rng.integers(2, 7))
        arch, strength = rng.normal(0, 7), rng.uniform(0.2, 0.5) + 0.6 * age
        rows = top - 16 - np.cumsum(rng.uniform(8, 17, count))
        for row in rows:
            half = rng.uniform(0.5, 1.0) * (right[0] - left[0]) * 0.5
            x = np.linspace(-1, 1, 7)
            points = np.stack([middle + half * x + rng.normal(0, 6), row + arch * x**2 + 0 * x], 1)
            gap = rng.random() < 0.35  # broken in the middle
            for part in (points[:4], points[3:]) if gap else (points,):
                strokes.add(
                    "mid" if rng.random() < 0.7 else "fine", part, strength * rng.uniform(0.4, 1.1), 1.3
                )
    if rng.random() < 0.3 + 0.5 * age:
        brow = (marks[21] + marks[22]) / 2
        for side in rng.permutation([-1, 1])[: int(rng.integers(1, 3))]:
            x = brow[0] + side * rng.uniform(5, 10)
            y = brow[1] + np.array([12, 2, -8, -rng.uniform(14, 26)])
            points = np.stack([x + side * np.array([0, 0.5, 1.5, 3]), y], 1)
            strokes.add("mid", points, rng.uniform(0.3, 0.6) + 0.6 * age)


def _around_eyes(strokes: _Strokes, marks: np.ndarray, age: float) -> None:
    """Crow's feet, bags and fine lines under the eyes, lid crease."""
    rng = strokes.rng
    feet, bag = rng.uniform(0, 0.5) + 0.7 * age, rng.uniform(0, 0.6) + 0.6 * age
    count, bags, lines = int(rng.integers(2, 6)), rng.random() < 0.4 + 0.5 * age, int(rng.integers(0, 4))
    for outer, inner, low_out, low_in, side in ((36, 39, 41, 40, -1), (45, 42, 46, 47, 1)):
        corner = marks[outer]
        if feet > 0.35:
            for k, angle in enumerate(np.linspace(-35, 40, count)):
                turn = np.radians(angle + rng.normal(0, 5))
                start, length = rng.uniform(7, 11), rng.uniform(12, 26) * min(1.0, 0.4 + feet)
                step = np.linspace(start, start + length, 4)
                points = corner + np.stack([side * step * np.cos(turn), step * np.sin(turn)], 1)
                points[:, 1] += 0.01 * (k - count / 2) * step**2 * 0.5
                strokes.add(
                    "fine" if rng.random() < 0.7 else "mid", points, feet * rng.uniform(0.4, 1.0), 0.5
                )
        if bags:
            under = np.stack([marks[inner], marks[low_in], marks[low_out], corner])
            drop = np.array([[side * -1, 8], [0, 15], [0, 16], [side * 2, 9]]) * rng.uniform(0.8, 1.15)
            strokes.add("mid", under + drop, bag)
            strokes.add("broad", under + drop + (0, 3), 0.5 * bag)
        for _ in range(lines):
            under = np.stack([marks[low_in], marks[low_out], corner])
            drop = np.array([[0, 4.5], [0, 5.5], [side * 3, 5]]) * rng.uniform(0.7, 2.2)
            strokes.add("fine", under + drop, (0.15 + 0.5 * age) * rng.uniform(0.5, 1.2), 0.5)


def _lower_face(strokes: _Strokes, marks: np.ndarray, age: float) -> None:
    """Nasolabial and marionette folds, lines around the lips, chin fold, neck lines."""
    rng = strokes.rng
    fold, marionette = rng.uniform(0.05, 0.6) + 0.7 * age, rng.uniform(0, 0.3) + 0.9 * age**1.5
    bracket, reach = rng.random() < 0.4 * age, rng.uniform(0.0, 1.0)
    for wing, lip, jaw, side in ((31, 48, 5, -1), (35, 54, 11, 1)):
        start = marks[wing] + (side * 5, -6)
        turn = marks[lip] + (side * 13, -5)
        end = marks[lip] + (side * 15, 4 + 12 * reach)
        points = np.stack([start, start * 0.55 + turn * 0.45 + (side * 4, -2), turn, end])
        strokes.add("broad", points, fold * rng.uniform(0.8, 1.1), 1.0)
        strokes.add("mid", points, 0.6 * fold * rng.uniform(0.6, 1.1), 1.0)
        if marionette > 0.35:
            low = np.stack(
                [
                    marks[lip] + (side * 3, 3),
                    marks[lip] + (side * 6, 14),
                    marks[jaw] * 0.35 + marks[lip] * 0.65 + (side * 4, 10),
                ]
            )
            strokes.add("mid", low, marionette * rng.uniform(0.5, 1.0))
            strokes.add("broad", low, 0.5 * marionette)
        if bracket:
            line = points + np.array([side * 13, 4])
            strokes.add("mid", line, 0.6 * age)
    if rng.random() < age:  # smoker's lines
        for x in np.linspace(marks[49][0], marks[53][0], int(rng.integers(4, 10))):
            base = np.interp(x, marks[48:55, 0], marks[48:55, 1])
            points = np.stack(
                [np.full(3, x + rng.normal(0, 2)), base - np.array([1, 6, rng.uniform(9, 15)])], 1
            )
            strokes.add("fine", points, age * rng.uniform(0.2, 0.8), 0.5)
    chin = (marks[57] * 0.62 + marks[8] * 0.38) if rng.random() < 0.6 else None
    if chin is not None:
        x = np.linspace(-1, 1, 5)
        points = np.stack([chin[0] + 22 * x, chin[1] + rng.uniform(3, 7) * x**2], 1)
        strokes.add("broad", points, rng.uniform(0.2, 0.5) + 0.4 * age)
    for _ in range(int(rng.integers(0, 2 + round(4 * age)))):
        row = marks[8][1] + rng.uniform(22, 90)
        x = np.linspace(-1, 1, 6)
        points = np.stack([marks[8][0] + rng.uniform(50, 110) * x, row + 8 * (1 - x**2)], 1)
        strokes.add("mid", points, rng.uniform(0.2, 0.6) + 0.4 * age, 2.0)


class Grain:
    """Band-pass noise in space: unit-variance values and exact gradients of the bands of `WAVELENGTHS`.

    One periodic volume holds value and gradient of all bands, so that a point costs one trilinear look-up.
    Its period of 4.4 cm shows on the coarsest band alone, which is faint.
    """

    SIZE = 80
    VOXEL = 0.055
    """cm: the finest wavelength has four voxels."""

    def __init__(self, device: str | torch.device = "cpu"):
        self.volume = torch.from_numpy(_volume(self.SIZE, self.VOXEL)).half().to(device)
        side = self.SIZE + 1
        self._corners = torch.tensor(
            [x + side * (y + side * z) for z in (0, 1) for y in (0, 1) for x in (0, 1)],
            dtype=torch.int32,
            device=device,
        )

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values (N, 4) and gradients (N, 4, 3) per cm at points (N, 3) cm."""
        side = self.SIZE + 1
        where = torch.remainder(points / (self.VOXEL * self.SIZE), 1.0) * self.SIZE
        corner = where.int().clamp(max=self.SIZE - 1)
        x, y, z = (where - corner).unbind(1)
        base = (corner[:, 2] * side + corner[:, 1]) * side + corner[:, 0]
        plane = torch.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], 1)
        weights = torch.cat([plane * (1 - z)[:, None], plane * z[:, None]], 1)
        bands = chart.weighted_rows(self.volume, base[:, None] + self._corners, weights)
        bands = bands.reshape(-1, len(WAVELENGTHS), 4)
        return bands[..., 0], bands[..., 1:]


@lru_cache(maxsize=1)
def _volume(size: int, voxel: float) -> np.ndarray:
    """(n * n * n, 4 per band) float32, n = size + 1: value and gradient by x, y, z; rows run z, y, x."""
    rng = np.random.default_rng(61)
    spectrum = np.fft.rfftn(rng.standard_normal((size, size, size)))
    k = 2 * np.pi * np.fft.fftfreq(size, voxel)
    kz, ky, kx = np.meshgrid(k, k, 2 * np.pi * np.fft.rfftfreq(size, voxel), indexing="ij")
    magnitude = np.sqrt(kx**2 + ky**2 + kz**2)
    result = []
    for wavelength in WAVELENGTHS:
        octaves = np.log2(np.maximum(magnitude, 1e-9) * wavelength / (2 * np.pi))
        band = spectrum * np.exp(-0.5 * (octaves / 0.3) ** 2)
        value = np.fft.irfftn(band, (size,) * 3, axes=(0, 1, 2))
        scale = 1 / value.std()
        result.append(value * scale)
        for axis in (kx, ky, kz):
            result.append(np.fft.irfftn(1j * axis * band, (size,) * 3, axes=(0, 1, 2)) * scale)
    wrapped = np.pad(np.stack(result, -1), ((0, 1), (0, 1), (0, 1), (0, 0)), mode="wrap")
    return np.ascontiguousarray(wrapped.reshape(-1, len(result)), np.float32)


def grain_gradient(gradients: Tensor, slopes: Tensor) -> Tensor:
    """Gradient (N, 3) of the grain's height with a root-mean-square slope per band.

    Args:
        gradients: (N, 4, 3) of unit-variance bands.
        slopes: (N, 4) or (4,), rms slope that each band shall have.
    """
    # A unit-variance isotropic field of wavenumber k has an rms gradient of k.
    rate = slopes.new_tensor([2 * np.pi / wavelength for wavelength in WAVELENGTHS])
    return ((slopes / rate)[..., None] * gradients).sum(1)


def perturb_normals(normal: Tensor, gradient: Tensor, rotation: Tensor, limit: float = 1.2) -> Tensor:
    """Normals of a surface with relief.

    Args:
        normal: (N, 3), unit, smooth, camera space.
        gradient: (N, 3), gradient of the height in head space.
        rotation: (N, 3, 3) or (3, 3), head to camera space.
        limit: Steepest slope; 1.2 is 50 degrees.

    Returns:
        (N, 3), unit.
    """
    turned = (rotation @ gradient[..., None]).squeeze(-1)
    tangential = turned - (turned * normal).sum(-1, keepdim=True) * normal
    steep = torch.linalg.vector_norm(tangential, dim=-1, keepdim=True)
    tangential = tangential * (limit * torch.tanh(steep / limit) / steep.clamp(min=1e-9))
    return torch.nn.functional.normalize(normal - tangential, dim=-1)
