"""Terms of one view, made at a state of the fit: what is visible, what corresponds, what the normals say."""

from dataclasses import replace

import numpy as np
from pydantic import Field

from pipeline.config import Section
from pipeline.fitting import terms
from pipeline.fitting.head import FitHead
from pipeline.fitting.views import NormalMap, View, ViewState
from pipeline.geometry.mesh import dots, face_normals, squares
from pipeline.geometry.visibility import DepthBuffer

LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
"""Pairs of landmarks whose difference is the opening of the eyes."""

LIPS = ((61, 67), (62, 66), (63, 65))
"""Pairs of landmarks whose difference is the opening of the lips."""

_GRAZING = 0.2
"""Cosine between surface and line of sight below which the surface is at its contour."""

_FACING = 0.15
"""Cosine below which a normal of the surface does not count."""


class TermConfig(Section):
    """How much each term of the fit counts."""

    points: float = Field(default=0.3, ge=0, description="weight of points: errors of neighbours go together")
    points_robust: float = Field(
        default=3.0,
        gt=0,
        description="standard deviations that count half; twice the median at least",
    )
    openings: float = Field(default=1.0, ge=0, description="weight of the openings of lids and lips")
    openings_sigma: float = Field(default=0.01, gt=0, description="their standard deviation, of the face")
    normals: float = Field(default=150.0, ge=0, description="independent normals that a whole face is worth")
    normals_robust: float = Field(default=0.35, gt=0, description="sine of the angle that counts half")
    compared: float = Field(
        default=0.3, ge=0, description="what is left of points and normals when photos are compared"
    )
    photometric: float = Field(
        default=1000.0, ge=0, description="points that the skin of a face is worth where photos agree"
    )
    photometric_robust: float = Field(
        default=0.7, gt=0, description="difference of normalised colours that counts half"
    )


def point_terms(
    head: FitHead, view: View, identity: np.ndarray, state: ViewState, *, config: TermConfig, size: float
) -> list[terms.Term]:
    """Terms of the points of a view.

    Args:
        head: The head.
        view: The view.
        identity: (100,).
        state: The state of the view.
        config: Weights.
        size: Size of the face in pixels of the photo.
    """
    points = view.points
    known = np.isfinite(points.sigma) & np.isfinite(points.photo).all(1)
    contour = np.zeros(len(known), bool) if points.contour is None else points.contour & known
    plain = known & ~contour
    vertices, photo, sigma = points.vertices[plain], points.photo[plain], points.sigma[plain]
    counts = {"weight": config.points, "robust": config.points_robust}
    term = terms.point_term(head, vertices, photo, sigma, **counts)
    # Far from the solution nearly all points are far off, and none of them shall be taken for an outlier.
    typical = float(np.median(np.linalg.norm(term.residuals(identity, state), axis=1)))
    found: list[terms.Term] = [replace(term, robust=max(config.points_robust, 2 * typical))]
    if contour.any():
        found += _contours(head, view, identity, state, config=config, contour=contour)
    place = {int(vertex): k for k, vertex in enumerate(points.vertices) if plain[k]}
    pairs = head.landmarks[np.array(LIDS + LIPS)]
    pairs = pairs[[a in place and b in place for a, b in pairs.tolist()]]
    if config.openings and len(pairs):
        first, second = np.array([[place[a], place[b]] for a, b in pairs.tolist()]).T
        sigma = np.full(len(pairs), config.openings_sigma * size)
        opening = points.photo[first] - points.photo[second]
        found.append(
            terms.difference_term(
                head, pairs, opening, sigma, weight=config.openings, robust=config.points_robust
            )
        )
    return found


def _contours(
    head: FitHead,
    view: View,
    identity: np.ndarray,
    state: ViewState,
    *,
    config: TermConfig,
    contour: np.ndarray,
) -> list[terms.Term]:
    """Contour points to the nearest vertices about the jaw where the surface turns away from the camera."""
    points_camera = state.to_camera(head.vertices(identity, state.expression))
    normals = normals_of_quads(points_camera, head.quads)
    sight = points_camera[head.jaw] / np.linalg.norm(points_camera[head.jaw], axis=1, keepdims=True)
    rim = head.jaw[np.abs((normals[head.jaw] * sight).sum(1)) < _GRAZING]
    if len(rim) < 2:
        return []
    pixels, photo = state.project(points_camera[rim]), view.points.photo[contour]
    nearest = np.linalg.norm(photo[:, None] - pixels[None], axis=2).argmin(1)
    across = normals[rim[nearest], :2] * [1, -1]
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    sigma = view.points.sigma[contour]
    counts = {"weight": config.points, "robust": config.points_robust}
    return [terms.contour_term(head, rim[nearest], photo, across, sigma=sigma, **counts)]


def normal_term(
    head: FitHead, normals: NormalMap, identity: np.ndarray, state: ViewState, config: TermConfig
) -> terms.NormalTerm | None:
    """Term of the normals of a view, or None where they say nothing.

    A patch weighs by its area in the photo and the confidence there. All weights together are those of
    `config.normals` independent normals where the whole visible face has an answer, and less where not:
    the errors of neighbouring pixels go together.

    Args:
        head: The head.
        normals: The map, smoothed to the size of the patches.
        identity: (100,).
        state: The state of the view.
        config: Weights.
    """
    points_camera = state.to_camera(head.vertices(identity, state.expression))
    middle = points_camera[head.patches].mean(1)
    facing = face_normals(points_camera, head.patches)
    area = np.sqrt(squares(facing))
    cosine = -dots(facing, middle) / np.maximum(area * np.sqrt(squares(middle)), 1e-12)
    pixels = state.project(middle)
    buffer = DepthBuffer.of(state.project(points_camera), -points_camera[:, 2], head.triangles)
    visible = (cosine > _FACING) & buffer.shows(pixels, -middle[:, 2])
    area = np.where(visible, area * cosine, 0.0)
    found, confidence = normals.sample(pixels)
    weight = area * confidence
    use = np.nonzero(weight > 1e-9)[0]
    if not len(use):
        return None
    return terms.NormalTerm(
        patches=use,
        normals=found[use],
        to_camera=normals.to_camera(state.focal, state.centre),
        weight=weight[use] * config.normals / area.sum(),
        robust=config.normals_robust,
        head=head,
    )


def normals_of_quads(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Unit normals (N, 3) of vertices (N, 3), area-weighted over their quads (Q, 4)."""
    facing = face_normals(vertices, quads)
    normals = np.stack(
        [np.bincount(quads.ravel(), np.repeat(facing[:, k], 4), len(vertices)) for k in range(3)], 1
    )
    return normals / np.maximum(np.sqrt(squares(normals)), 1e-12)[:, None]
