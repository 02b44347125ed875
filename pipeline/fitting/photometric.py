"""The photometric term: a point of the skin looks alike in two photos of the person.

What is compared is the log colour of the photo at points of the skin, less its mean over the neighbourhood
*on the surface*, over its deviation there: a correlation on the surface, to which smooth light and the slant
of the surface make no difference.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import cv2
import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from pipeline.fitting import terms
from pipeline.fitting.head import IDENTITY, FitHead
from pipeline.fitting.observe import normals_of_quads
from pipeline.fitting.views import Picture, ViewState
from pipeline.geometry.visibility import DepthBuffer
from pipeline.pixels import scale_points

SCALES = ((0.4, 1.0), (0.25, 0.8), (0.16, 0.6))
"""Coarse to fine: cm of the face to which photos are blurred, and radius of the neighbourhood in cm."""

MOST_PAIRS = 8
"""Pairs of photos that are compared: those that see most of the same skin."""

_EVERY = 2
"""Every second vertex of the skin is a point: they are 2.5 mm apart."""

_BEST_CORRELATION = 0.8
"""Correlations above it say no more."""

_FACING = 0.3
"""Cosine between surface and line of sight below which a point is not compared."""

_CHANNELS = np.array([1.0, 0.5, 0.5], np.float32)
"""Weights of grey and of the two chroma channels."""

_DARK = 0.03
"""Added to colours of 0..1: below it, and below deviations of the same size, there is but noise."""


@dataclass(frozen=True, eq=False)
class Sight:
    """What a photo shows of the points of the skin, at a state of the fit.

    Attributes:
        colour: (H, W, 3) float32: log colour, blurred, its channels weighted.
        origin: (2,) of its window in pixels of the photo.
        scale: Pixels of `colour` per pixel of the photo.
        cosine: (P,) of the slant of each point, 0 where it is not seen.
        mean: (P, 3) of the colour about each point.
        gain: (P, 3) one over its deviation.
    """

    colour: np.ndarray
    origin: np.ndarray
    scale: float
    cosine: np.ndarray
    mean: np.ndarray
    gain: np.ndarray

    def sample(self, pixels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Normalised colours (N, 3) of points (N,) that lie at pixels (N, 2) of the photo."""
        return (_sample(self.colour, self._place(pixels)) - self.mean[chosen]) * self.gain[chosen]

    def slope(self, pixels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Their derivatives (N, 3, 2) by the pixels."""
        place, steps = self._place(pixels), np.eye(2, dtype=np.float32)
        by_place = [_sample(self.colour, place + step) - _sample(self.colour, place - step) for step in steps]
        return np.stack(by_place, 2) * (self.gain[chosen] * np.float32(self.scale / 2))[..., None]

    def _place(self, pixels: np.ndarray) -> np.ndarray:
        return scale_points(pixels - self.origin, self.scale).astype(np.float32)


@dataclass(frozen=True, eq=False)
class PairTerm:
    """The same points of the skin look alike in two photos.

    Attributes:
        pair: Numbers of the photos.
        sights: Of both.
        chosen: (N,) which points.
        weight: (N,).
        robust: Scale of the cost.
        head: The head.
    """

    pair: tuple[int, int]
    sights: tuple[Sight, Sight]
    chosen: np.ndarray
    weight: np.ndarray
    robust: float
    head: FitHead

    def residuals(self, identity: np.ndarray, views: tuple[ViewState, ...]) -> np.ndarray:
        """Residuals (N, 3)."""
        first, second = self.colours(identity, views)
        return first - second

    def colours(self, identity: np.ndarray, views: tuple[ViewState, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Normalised colours (N, 3) of the points in both photos."""
        first, second = (
            sight.sample(self._pixels(identity, views[k]), self.chosen)
            for k, sight in zip(self.pair, self.sights, strict=True)
        )
        return first, second

    def cost(self, identity: np.ndarray, views: tuple[ViewState, ...]) -> float:
        """Cost of a state."""
        return terms.cost(self, self.residuals(identity, views))

    def normal_equations(
        self, identity: np.ndarray, views: tuple[ViewState, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Hessian (K, K), gradient (K,), and (K,) which of all unknowns they are about."""
        residuals = self.residuals(identity, views)
        root = np.sqrt(self.weight / (1 + (residuals**2).sum(1) / self.robust**2)).astype(np.float32)
        vertices = skin_points(self.head)[self.chosen]
        first, second = (
            sight.slope(self._pixels(identity, views[k]), self.chosen)
            @ terms.pixels_by_unknowns(self.head, vertices, identity, views[k])
            * root[:, None, None]
            for k, sight in zip(self.pair, self.sights, strict=True)
        )
        shared, own = slice(0, IDENTITY), slice(IDENTITY, None)
        rows = np.concatenate(
            [first[..., shared] - second[..., shared], first[..., own], -second[..., own]], 2
        )
        rows = rows.reshape(-1, rows.shape[2])
        scaled = (residuals * root[:, None]).ravel().astype(np.float32)
        columns = [terms.columns(self.pair[0]), terms.columns(self.pair[1])[IDENTITY:]]
        return (rows.T @ rows).astype(float), (rows.T @ scaled).astype(float), np.concatenate(columns)

    def _pixels(self, identity: np.ndarray, view: ViewState) -> np.ndarray:
        vertices = skin_points(self.head)[self.chosen]
        return view.project(terms.vertices_camera(self.head, vertices, identity, view))


def choose_pairs(
    pictures: list[Picture | None], identity: np.ndarray, views: tuple[ViewState, ...], head: FitHead
) -> dict[tuple[int, int], float]:
    """Chooses the pairs of photos that see most of the same skin, and says how far to rely on each.

    Returns:
        Numbers of two photos -> c / (1 - c) by the correlation c of what they show, which is the information
        in it; of photos that differ too much in light or expression it is small. The mean over the pairs is
        taken for each photo but the first, since no more than that is told by three pairs of three photos.
    """
    sights = _looks(pictures, identity, views, head, SCALES[-1])
    shared = {
        (i, j): np.minimum(sights[i].cosine, sights[j].cosine).sum() for i, j in combinations(sights, 2)
    }
    best = sorted(shared, key=lambda pair: -shared[pair])[:MOST_PAIRS]
    trust = {}
    for i, j in best:
        term = _term((i, j), sights, head, 1.0, 1.0)
        first, second = term.colours(identity, views)
        lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
        correlation = min(float((first * second).sum()) / max(lengths, 1e-9), _BEST_CORRELATION)
        if correlation > 0:
            trust[i, j] = correlation / (1 - correlation) * (len(sights) - 1) / len(best)
    return trust


def pair_terms(
    pictures: list[Picture | None],
    identity: np.ndarray,
    views: tuple[ViewState, ...],
    head: FitHead,
    *,
    pairs: dict[tuple[int, int], float],
    scale: tuple[float, float],
    weight: float,
    robust: float,
) -> list[PairTerm]:
    """Terms of pairs of photos.

    Args:
        pictures: Of the photos; those without are not compared.
        identity: (100,).
        views: Their states.
        head: The head.
        pairs: Which photos are compared, and the weight of each pair.
        scale: One of `SCALES`.
        weight: Independent points that the skin of a whole face is worth.
        robust: Scale of the cost.
    """
    sights = _looks(pictures, identity, views, head, scale)
    return [_term(pair, sights, head, weight * trust, robust) for pair, trust in pairs.items()]


def _looks(
    pictures: list[Picture | None],
    identity: np.ndarray,
    views: tuple[ViewState, ...],
    head: FitHead,
    scale: tuple[float, float],
) -> dict[int, Sight]:
    return {
        k: look(picture, identity, views[k], head, scale)
        for k, picture in enumerate(pictures)
        if picture is not None
    }


def _term(
    pair: tuple[int, int], sights: dict[int, Sight], head: FitHead, weight: float, robust: float
) -> PairTerm:
    first, second = sights[pair[0]], sights[pair[1]]
    shared = np.minimum(first.cosine, second.cosine)
    chosen = np.nonzero(shared)[0]
    return PairTerm(pair, (first, second), chosen, shared[chosen] * weight / len(shared), robust, head)


def look(
    picture: Picture, identity: np.ndarray, view: ViewState, head: FitHead, scale: tuple[float, float]
) -> Sight:
    """Looks at the skin in a photo."""
    blur, radius = scale
    vertices = head.vertices(identity, view.expression)
    vertices_camera = view.to_camera(vertices)
    points = skin_points(head)
    pixels = view.project(vertices_camera)
    sight = -vertices_camera[points] / np.linalg.norm(vertices_camera[points], axis=1, keepdims=True)
    cosine = (normals_of_quads(vertices_camera, head.quads)[points] * sight).sum(1)
    depth = -vertices_camera[:, 2]
    buffer = DepthBuffer.of(pixels, depth, head.triangles)
    visible = (cosine > _FACING) & buffer.shows(pixels[points], depth[points])
    per_cm = view.focal / -view.position[2]
    colour, zoom = _log_colour(picture, blur * per_cm)
    seen_there = Sight(
        colour, np.array([picture.left, picture.top]), zoom, cosine, np.zeros(()), np.zeros(())
    )
    place = seen_there._place(pixels[points])
    visible &= ((place >= 0) & (place <= len(colour) - 1)).all(1)
    value = _sample(colour, place)
    near = _neighbourhood(head, radius)
    count = np.maximum(near @ visible.astype(np.float32), 1e-6)[:, None]
    mean = near @ (value * visible[:, None]) / count
    deviation = np.sqrt(np.maximum(near @ (value**2 * visible[:, None]) / count - mean**2, 0))
    return Sight(
        colour,
        seen_there.origin,
        zoom,
        np.where(visible, cosine, 0.0),
        mean,
        (_CHANNELS / (deviation + _DARK)).astype(np.float32),
    )


def skin_points(head: FitHead) -> np.ndarray:
    """(P,) int64 vertices that are compared."""
    return np.nonzero(head.skin)[0][::_EVERY]


@lru_cache(maxsize=8)
def _neighbourhood(head: FitHead, radius: float) -> csr_matrix:
    """(P, P) float32 weights of the points about each."""
    tree = cKDTree(head.neutral[skin_points(head)])
    near = tree.sparse_distance_matrix(tree, radius, output_type="coo_matrix")
    weight = (1 - (near.data / radius) ** 2).astype(np.float32)
    return csr_matrix((weight, (near.row, near.col)), shape=near.shape)


def _log_colour(picture: Picture, blur: float) -> tuple[np.ndarray, float]:
    """Grey and chroma (H, H, 3), blurred by so many of the photo's pixels; and pixels per pixel of it."""
    side = len(picture.pixels)
    scale = min(side / picture.size, 1.5 / blur)
    small = max(round(picture.size * scale), 8)
    pixels = cv2.resize(picture.pixels, (small, small), interpolation=cv2.INTER_AREA)
    scale = small / picture.size
    red, green, blue = np.moveaxis(np.log(pixels.astype(np.float32) / 255 + _DARK), 2, 0)
    colour = np.stack([(red + green + blue) / 3, red - green, blue - (red + green) / 2], 2)
    return cv2.GaussianBlur(colour, (0, 0), max(blur * scale, 0.5)), scale


def _sample(image: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Bilinear values (N, C) at places (N, 2) float32; beyond the border those of the border."""
    found = cv2.remap(image, place[:, :1], place[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(len(place), -1)
