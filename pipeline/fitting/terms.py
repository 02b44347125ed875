"""The terms of the fit: what photos say about a head, as residuals with derivatives.

Every term belongs to one view and is frozen at the state it was made at: what is visible, which points
correspond and what the normal map says there do not change while a step is tried. Derivatives are with
respect to the view's local unknowns, in the order of the slices below: identity and expression, a turn of
the head about its pivot (left of the rotation, camera space), its position, the log of the focal length,
which takes the head away in proportion so that its picture keeps its size, and a tilt of the normals (left of
theirs).

A residual is a vector of D numbers in units of its standard deviation, or weighted by the inverse variance;
its cost is that of Cauchy, weight s^2 / 2 log(1 + |r|^2 / s^2).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.fitting.head import IDENTITY, PIVOT, SHAPE, FitHead
from pipeline.fitting.views import ViewState

ROTATION = slice(SHAPE, SHAPE + 3)
POSITION = slice(SHAPE + 3, SHAPE + 6)
FOCAL = SHAPE + 6
TILT = slice(SHAPE + 7, SHAPE + 10)

LOCAL = SHAPE + 10
"""Unknowns of one view, the shared identity included."""


class Weighted(Protocol):
    """Residuals with weights."""

    @property
    def weight(self) -> np.ndarray:
        """(N,) weight of each residual."""
        ...

    @property
    def robust(self) -> float:
        """Scale s of the cost of Cauchy."""
        ...


class Term(Weighted, Protocol):
    """Residuals of one view."""

    def residuals(self, identity: np.ndarray, view: ViewState) -> np.ndarray:
        """Residuals (N, D)."""
        ...

    def derivatives(self, identity: np.ndarray, view: ViewState) -> np.ndarray:
        """Their derivatives (N, D, LOCAL) float32."""
        ...


def cost(term: Weighted, residuals: np.ndarray) -> float:
    """Cost of residuals (N, D)."""
    squares = (residuals**2).sum(1) / term.robust**2
    return float(term.weight @ np.log1p(squares)) * term.robust**2 / 2


def normal_equations(term: Term, identity: np.ndarray, view: ViewState) -> tuple[np.ndarray, np.ndarray]:
    """Hessian (LOCAL, LOCAL) and gradient (LOCAL,) of a term."""
    residuals = term.residuals(identity, view)
    weight = term.weight / (1 + (residuals**2).sum(1) / term.robust**2)
    root = np.sqrt(weight)[:, None].astype(np.float32)
    rows = (term.derivatives(identity, view) * root[..., None]).reshape(-1, LOCAL)
    scaled = (residuals * root).reshape(-1).astype(np.float32)
    return (rows.T @ rows).astype(float), (rows.T @ scaled).astype(float)


def pixels_by_unknowns(
    head: FitHead, vertices: np.ndarray, identity: np.ndarray, view: ViewState
) -> np.ndarray:
    """Derivatives (M, 2, LOCAL) float32 of the pixels of vertices (M,)."""
    points_camera = vertices_camera(head, vertices, identity, view)
    x, y, depth = points_camera[:, 0], points_camera[:, 1], -points_camera[:, 2]
    by_position = np.zeros((len(depth), 2, 3))
    by_position[:, 0, 0], by_position[:, 1, 1] = 1 / depth, -1 / depth
    by_position[:, 0, 2], by_position[:, 1, 2] = x / depth**2, -y / depth**2
    by_position *= view.focal
    pixels = np.zeros((len(depth), 2, LOCAL), np.float32)
    pixels[..., :SHAPE] = (by_position @ view.rotation).astype(np.float32) @ head.basis[vertices]
    pixels[..., ROTATION] = _by_rotation(by_position, points_camera - view.position)
    pixels[..., POSITION] = by_position
    pixels[..., FOCAL] = view.project(points_camera) - view.centre + by_position @ view.position
    return pixels


def vertices_camera(head: FitHead, vertices: np.ndarray, identity: np.ndarray, view: ViewState) -> np.ndarray:
    """Vertices (M,) of a view as points (M, 3) in camera space, cm."""
    shape = np.concatenate([identity, view.expression]).astype(np.float32)
    points = head.neutral[vertices] + head.basis[vertices] @ shape
    return (points - PIVOT) @ view.rotation.T + view.position


@dataclass(frozen=True, eq=False)
class PixelTerm:
    """Linear combinations of projected vertices: points, differences of points, contours.

    Attributes:
        vertices: (M,) int64 vertex ids that are projected.
        rows: (N, D, S, 2) float64: residual = sum over S points and x, y of rows x pixels - target.
        points: (N, S) int64, which of the M vertices each residual takes.
        target: (N, D).
        weight: (N,).
        robust: Scale of the cost.
        head: The head.
    """

    vertices: np.ndarray
    rows: np.ndarray
    points: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    robust: float
    head: FitHead

    def residuals(self, identity: np.ndarray, view: ViewState) -> np.ndarray:
        """Residuals (N, D)."""
        pixels = view.project(vertices_camera(self.head, self.vertices, identity, view))
        return np.einsum("ndsx,nsx->nd", self.rows, pixels[self.points]) - self.target

    def derivatives(self, identity: np.ndarray, view: ViewState) -> np.ndarray:
        """Their derivatives (N, D, LOCAL) float32."""
        pixels = pixels_by_unknowns(self.head, self.vertices, identity, view)
        return np.einsum("ndsx,nsxk->ndk", self.rows.astype(np.float32), pixels[self.points], optimize=True)


def point_term(
    head: FitHead,
    vertices: np.ndarray,
    pixels: np.ndarray,
    sigma: np.ndarray,
    *,
    weight: float,
    robust: float,
) -> PixelTerm:
    """Vertices (N,) lie at pixels (N, 2) with standard deviations sigma (N,)."""
    count = len(vertices)
    rows = (np.eye(2)[None, :, None] / sigma[:, None, None, None]).astype(float)
    points = np.arange(count)[:, None]
    return PixelTerm(vertices, rows, points, pixels / sigma[:, None], np.full(count, weight), robust, head)


def difference_term(
    head: FitHead, pairs: np.ndarray, pixels: np.ndarray, sigma: np.ndarray, *, weight: float, robust: float
) -> PixelTerm:
    """The first less the second vertex of pairs (N, 2) are pixels (N, 2) with sigma (N,): open lids, lips."""
    count = len(pairs)
    rows = np.eye(2)[None, :, None] * np.array([1.0, -1.0])[:, None] / sigma[:, None, None, None]
    points = np.arange(2 * count).reshape(-1, 2)
    return PixelTerm(
        pairs.ravel(), rows, points, pixels / sigma[:, None], np.full(count, weight), robust, head
    )


def contour_term(
    head: FitHead,
    vertices: np.ndarray,
    pixels: np.ndarray,
    across: np.ndarray,
    *,
    sigma: np.ndarray,
    weight: float,
    robust: float,
    along: float = 0.1,
) -> PixelTerm:
    """Vertices (N,) lie on contours through pixels (N, 2) whose unit normals are `across` (N, 2).

    Distances along the contour count by the share `along`.
    """
    tangent = np.stack([-across[:, 1], across[:, 0]], 1) * along
    rows = np.stack([across, tangent], 1)[:, :, None] / sigma[:, None, None, None]
    target = np.einsum("ndsx,nx->nd", rows, pixels)
    points = np.arange(len(vertices))[:, None]
    return PixelTerm(vertices, rows, points, target, np.full(len(vertices), weight), robust, head)


@dataclass(frozen=True, eq=False)
class NormalTerm:
    """Tangents of the surface are perpendicular to the normals of the map.

    The residual of a tangent t is n . t / |t|, the sine of the angle between surface and normal.

    Attributes:
        patches: (N,) int64, patches of the head.
        normals: (N, 3) unit normals in the space of the map (see `ViewState.normal_to_camera`).
        to_camera: (3, 3) rotation from the space of the map to camera space, without the tilt.
        weight: (N,).
        robust: Scale of the cost.
        head: The head.
    """

    patches: np.ndarray
    normals: np.ndarray
    to_camera: np.ndarray
    weight: np.ndarray
    robust: float
    head: FitHead

    def residuals(self, identity: np.ndarray, view: ViewState) -> np.ndarray:
        """Residuals (N, 2)."""
        tangents = self.head.patch_tangents(self.head.vertices(identity, view.expression), self.patches)
        normals = self._seen(view) @ view.rotation.astype(np.float32)
        sines = np.einsum("nc,nct->nt", normals, tangents)
        return sines / np.sqrt(np.einsum("nct,nct->nt", tangents, tangents))

    def derivatives(self, identity: np.ndarray, view: ViewState) -> np.ndarray:
        """Their derivatives (N, 2, LOCAL) float32, the tangents' lengths taken as constant."""
        tangents = self.head.patch_tangents(self.head.vertices(identity, view.expression), self.patches)
        length = np.sqrt(np.einsum("nct,nct->nt", tangents, tangents))[..., None]
        normals, rotation = self._seen(view), view.rotation.astype(np.float32)
        change = self.head.tangents[self.patches].reshape(-1, 3, 2 * SHAPE)
        rows = np.zeros((len(self.patches), 2, LOCAL), np.float32)
        rows[..., :SHAPE] = ((normals @ rotation)[:, None] @ change).reshape(-1, 2, SHAPE) / length
        turned = np.cross((rotation @ tangents).transpose(0, 2, 1), normals[:, None])
        rows[..., ROTATION] = turned / length
        rows[..., TILT] = -rows[..., ROTATION]
        return rows

    def _seen(self, view: ViewState) -> np.ndarray:
        return self.normals @ (view.tilt @ self.to_camera).T.astype(np.float32)


def _by_rotation(by_position: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """Derivatives (N, 2, 3) by a turn w, since the point moves by w x arm: p . (w x arm) = w . (arm x p)."""
    return np.cross(arm[:, None], by_position)


def columns(view: int) -> np.ndarray:
    """(LOCAL,) int64: where the local unknowns of a view stand among all: identity, then view after view."""
    own = LOCAL - IDENTITY
    return np.concatenate([np.arange(IDENTITY), IDENTITY + view * own + np.arange(own)])
