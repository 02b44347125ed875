"""The fit of the ICT head to one or more photos of one person: identity shared, the rest photo by photo.

Stages: pose by the points with the mean face; everything by the points; everything by points and normals;
with several photos then everything by what they show of the same skin, too, from coarse to fine.
With one photo this is the fit of `facet details`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from pydantic import Field

from pipeline.config import Section
from pipeline.fitting import terms
from pipeline.fitting.expressions import ExpressionPrior, expression_prior
from pipeline.fitting.head import EXPRESSION, IDENTITY, PIVOT, FitHead
from pipeline.fitting.observe import TermConfig, normal_term, point_terms
from pipeline.fitting.photometric import SCALES, PairTerm, choose_pairs, pair_terms
from pipeline.fitting.solve import Quadratic, minimise
from pipeline.fitting.views import NormalMap, View, ViewState

_WITH_NORMALS = ("normals", "photometric")
"""Stages in which the normals count."""

_PATCH = 0.3
"""Size of a patch of the head, cm: normals are smoothed to it."""


class FitConfig(Section):
    """How a head is fitted."""

    terms: TermConfig = Field(default_factory=TermConfig)
    identity_prior: float = Field(default=0.5, gt=0, description="weight of the prior of the identity")
    expression_sigma: float = Field(default=0.3, gt=0, description="spread of expression weights beforehand")
    tilt_sigma: float = Field(default=4.0, gt=0, description="degrees by which all normals may be turned")
    focal: float = Field(default=5.0, gt=0, description="focal length, in sizes of the face times 1.2")
    focal_sigma: float = Field(default=0.4, gt=0, description="spread of its logarithm")
    disagreement: float = Field(
        default=13.0, gt=0, description="degrees between the points' face and the normals that raise the flag"
    )
    pose_steps: int = Field(default=4, ge=1, le=100)
    point_steps: int = Field(default=8, ge=0, le=100)
    normal_steps: int = Field(default=6, ge=0, le=100)
    photometric_steps: int = Field(default=2, ge=0, le=100, description="at each scale")


@dataclass(frozen=True, eq=False)
class State:
    """Identity (100,) and the state of every view."""

    identity: np.ndarray
    views: tuple[ViewState, ...]


@dataclass(frozen=True, eq=False)
class ViewQuality:
    """How well a view is explained.

    Attributes:
        points: Root mean square of the distances of the points, in their standard deviations (1 is as good
            as the points say they are), outliers included.
        points_share: Median distance of the points as a share of the size of the face.
        normals: Mean angle in degrees between the face and the normals, the tilt corrected; NaN without.
        disagreement: The same for the face that the points alone gave, the best tilt corrected; NaN without.
        tilt: Degrees by which the normals were turned.
        covered: Share of the visible face on which the normals say something.
        disagree: Points and normals contradict each other: the fit follows the normals, and is doubtful.
    """

    points: float
    points_share: float
    normals: float
    disagreement: float
    tilt: float
    covered: float
    disagree: bool


@dataclass(frozen=True, eq=False)
class Fit:
    """What was found.

    Attributes:
        identity: (100,) coefficients.
        views: One state per photo.
        quality: One per photo.
        stages: The states after each stage: "mean" (mean face, pose alone), "points", "normals", and where it
            was tried "photometric", whether it was taken or not.
        costs: Stage -> cost before it and after each of its steps; of "photometric" before and after all.
        refused: Why the photometric stage was not taken; None where it was or there was none.
    """

    identity: np.ndarray
    views: tuple[ViewState, ...]
    quality: tuple[ViewQuality, ...]
    stages: dict[str, State]
    costs: dict[str, list[float]]
    refused: str | None = None


class FitError(ValueError):
    """The points of a view do not allow a fit."""


def fit_views(views: list[View], head: FitHead, config: FitConfig | None = None) -> Fit:
    """Fits one head to photos of one person.

    Args:
        views: The photos; at least one.
        head: The head model.
        config: Settings.

    Raises:
        FitError: A view has less than six known points, or no pose fits them.
    """
    problem = _Problem(views, head, config or FitConfig())
    state = State(np.zeros(IDENTITY), tuple(problem.first_pose(k) for k in range(len(views))))
    stages: dict[str, State] = {}
    costs: dict[str, list[float]] = {}
    settings = problem.config
    disagreements = [float("nan")] * len(views)
    for name, steps in (
        ("mean", settings.pose_steps),
        ("points", settings.point_steps),
        ("normals", settings.normal_steps),
    ):
        if name == "normals":
            problem.smooth_normals(state)
            disagreements = [problem.normal_angle(state, k, align=True)[0] for k in range(len(views))]
            problem.doubted = [value > settings.disagreement for value in disagreements]
        problem.stage = name
        state, costs[name] = minimise(problem.linearise, state, steps)
        stages[name] = state
    refused = None
    if settings.photometric_steps and sum(view.picture is not None for view in views) > 1:
        found, (before, after) = problem.compare_photos(state)
        stages["photometric"], costs["photometric"] = found, [before, after]
        if after < before:
            state = found
        else:
            refused = f"the photos do not agree better: the cost went from {before:.1f} to {after:.1f}"
    quality = tuple(problem.quality(state, k, disagreements[k]) for k in range(len(views)))
    return Fit(state.identity, state.views, quality, stages, costs, refused)


@dataclass(frozen=True, eq=False)
class _Frozen:
    """The cost of states beside the one at which its terms were frozen."""

    problem: _Problem
    terms: list[list[terms.Term]]
    pairs: list[PairTerm]

    def cost(self, state: State) -> float:
        """Cost of a state."""
        return (
            self.problem.prior_cost(state)
            + sum(pair.cost(state.identity, state.views) for pair in self.pairs)
            + sum(
                terms.cost(term, term.residuals(state.identity, view))
                for view, of_view in zip(state.views, self.terms, strict=True)
                for term in of_view
            )
        )


class _Problem:
    """The cost of a state of all views, and its quadratic models."""

    def __init__(self, views: list[View], head: FitHead, config: FitConfig):
        self.views, self.head, self.config = views, head, config
        self.stage = "mean"
        self.doubted = [False] * len(views)
        self.sizes = [_face_size(view) for view in views]
        usual = [config.focal * size * 1.2 for size in self.sizes]
        self.focals = [view.focal or usual[k] for k, view in enumerate(views)]
        self.focal_sigmas = [0.02 if view.focal else config.focal_sigma for view in views]
        self.priors: list[ExpressionPrior] = [
            expression_prior(head.expression_names, view.actions, sigma=config.expression_sigma)
            for view in views
        ]
        self.normals: list[NormalMap | None] = [view.normals for view in views]
        self.compared: dict[tuple[int, int], float] = {}
        self.scale = SCALES[0]

    def first_pose(self, k: int) -> ViewState:
        """Pose of the mean face by the better half of the points."""
        view, focal = self.views[k], self.focals[k]
        points = view.points
        known = np.nonzero(np.isfinite(points.sigma) & np.isfinite(points.photo).all(1))[0]
        if points.contour is not None:
            known = known[~points.contour[known]]
        if len(known) < 6:
            raise FitError(f"only {len(known)} points are known")
        best = known[points.sigma[known] <= np.median(points.sigma[known])]
        rest = self.head.neutral[points.vertices[best if len(best) >= 6 else known]] - PIVOT
        photo = points.photo[best if len(best) >= 6 else known]
        matrix = np.array([[focal, 0, view.centre[0]], [0, focal, view.centre[1]], [0, 0, 1.0]])
        found, turn, shift = cv2.solvePnP(
            rest.astype(float), photo.astype(float), matrix, None, flags=cv2.SOLVEPNP_SQPNP
        )
        flip = np.diag([1.0, -1.0, -1.0])  # OpenCV's y points down and its z forward
        rotation, position = flip @ cv2.Rodrigues(turn)[0], flip @ shift.ravel()
        if not found or not np.isfinite(position).all() or position[2] > -5:
            raise FitError("no pose fits the points")
        return ViewState(
            np.clip(self.priors[k].mean, 0, 1), rotation, position, focal, view.centre, np.eye(3)
        )

    def smooth_normals(self, state: State) -> None:
        """Smooths the normals to the size of the patches."""
        for k, (view, seen) in enumerate(zip(self.views, state.views, strict=True)):
            if view.normals is not None:
                pixels = _PATCH * seen.focal / -seen.position[2] * view.normals.scale
                self.normals[k] = view.normals.smoothed(pixels / 2)

    def terms(self, state: State, k: int) -> list[terms.Term]:
        """Terms of a view, frozen at a state."""
        weights = self.config.terms
        if self.doubted[k]:
            weights = weights.model_copy(update={"points": weights.points / 20})
        if self.stage == "photometric":
            left = {name: getattr(weights, name) * weights.compared for name in ("points", "normals")}
            weights = weights.model_copy(update=left)
        found = point_terms(
            self.head, self.views[k], state.identity, state.views[k], config=weights, size=self.sizes[k]
        )
        normals = self.normals[k]
        if self.stage in _WITH_NORMALS and normals is not None:
            term = normal_term(self.head, normals, state.identity, state.views[k], weights)
            found += [term] if term else []
        return found

    def pairs(self, state: State) -> list[PairTerm]:
        """Terms of pairs of photos, frozen at a state; none before their stage."""
        if not self.compared:
            return []
        weights = self.config.terms
        return pair_terms(
            [view.picture for view in self.views],
            state.identity,
            state.views,
            self.head,
            pairs=self.compared,
            scale=self.scale,
            weight=weights.photometric,
            robust=weights.photometric_robust,
        )

    def compare_photos(self, state: State) -> tuple[State, tuple[float, float]]:
        """Fits by what photos show of the same skin; returns the finest scale's cost before and after."""
        self.stage = "photometric"
        start, pictures = state, [view.picture for view in self.views]
        self.compared = choose_pairs(pictures, state.identity, state.views, self.head)
        for self.scale in SCALES:
            state, _ = minimise(self.linearise, state, self.config.photometric_steps)
        return state, (self.freeze(start).cost(start), self.freeze(state).cost(state))

    def freeze(self, state: State) -> _Frozen:
        """All terms, frozen at a state."""
        return _Frozen(self, [self.terms(state, k) for k in range(len(self.views))], self.pairs(state))

    def linearise(self, state: State) -> Quadratic[State]:
        """The cost about a state."""
        count = IDENTITY + len(self.views) * (terms.LOCAL - IDENTITY)
        hessian, gradient = np.zeros((count, count)), np.zeros(count)
        lower, upper = np.full(count, -np.inf), np.full(count, np.inf)
        frozen = self.freeze(state)
        for k, view in enumerate(state.views):
            place = terms.columns(k)
            for term in frozen.terms[k]:
                h, g = terms.normal_equations(term, state.identity, view)
                hessian[np.ix_(place, place)] += h
                gradient[place] += g
            self._view_priors(k, view, place, hessian, gradient)
            lower[place], upper[place] = self._bounds(state.identity, k, view)
        for pair in frozen.pairs:
            h, g, place = pair.normal_equations(state.identity, state.views)
            hessian[np.ix_(place, place)] += h
            gradient[place] += g
        identity = slice(0, IDENTITY)
        hessian[identity, identity] += self.config.identity_prior * np.eye(IDENTITY)
        gradient[identity] += self.config.identity_prior * state.identity
        return Quadratic(
            hessian=hessian,
            gradient=gradient,
            cost=frozen.cost(state),
            lower=lower,
            upper=upper,
            move=lambda change: _move(state, change),
            evaluate=frozen.cost,
        )

    def _view_priors(
        self, k: int, view: ViewState, place: np.ndarray, hessian: np.ndarray, gradient: np.ndarray
    ) -> None:
        expression = place[IDENTITY : IDENTITY + EXPRESSION]
        prior = self.priors[k]
        hessian[np.ix_(expression, expression)] += prior.precision
        gradient[expression] += prior.precision @ (view.expression - prior.mean)
        focal = place[terms.FOCAL]
        hessian[focal, focal] += 1 / self.focal_sigmas[k] ** 2
        gradient[focal] += np.log(view.focal / self.focals[k]) / self.focal_sigmas[k] ** 2
        tilt = place[terms.TILT]
        variance = np.radians(self.config.tilt_sigma) ** 2
        hessian[tilt, tilt] += 1 / variance
        gradient[tilt] += _turn_of(view.tilt) / variance

    def prior_cost(self, state: State) -> float:
        """Cost of what is known beforehand."""
        total = self.config.identity_prior * float(state.identity @ state.identity) / 2
        for k, view in enumerate(state.views):
            off = view.expression - self.priors[k].mean
            total += float(off @ self.priors[k].precision @ off) / 2
            total += (np.log(view.focal / self.focals[k]) / self.focal_sigmas[k]) ** 2 / 2
            tilt = _turn_of(view.tilt) / np.radians(self.config.tilt_sigma)
            total += float(tilt @ tilt) / 2
        return total

    def _bounds(self, identity: np.ndarray, k: int, view: ViewState) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the changes of a view's unknowns (LOCAL,): the model's, and what the stage leaves out."""
        lower, upper = np.full(terms.LOCAL, -np.inf), np.full(terms.LOCAL, np.inf)
        lower[:IDENTITY], upper[:IDENTITY] = -3.5 - identity, 3.5 - identity
        shape = slice(IDENTITY, IDENTITY + EXPRESSION)
        lower[shape], upper[shape] = -view.expression, 1 - view.expression
        lower[terms.ROTATION], upper[terms.ROTATION] = -0.4, 0.4
        off = np.log(view.focal / self.focals[k])
        width = min(3 * self.focal_sigmas[k], 1.2)
        lower[terms.FOCAL], upper[terms.FOCAL] = -width - off, width - off
        if self.stage == "mean":
            lower[: terms.SHAPE] = upper[: terms.SHAPE] = 0
            lower[terms.FOCAL] = upper[terms.FOCAL] = 0
        if self.stage not in _WITH_NORMALS:
            lower[terms.TILT] = upper[terms.TILT] = 0
        return lower, upper

    def normal_angle(self, state: State, k: int, align: bool = False) -> tuple[float, float]:
        """Mean angle in degrees between face and normals, and the share of the face they cover.

        Args:
            state: The state.
            k: Number of the view.
            align: Turn the normals by the one rotation that fits best.
        """
        normals, view = self.normals[k], state.views[k]
        term = normals and normal_term(self.head, normals, state.identity, view, self.config.terms)
        if not normals or not term:
            return float("nan"), 0.0
        raw = self.head.patch_tangents(self.head.vertices(state.identity, view.expression), term.patches)
        surface = np.cross(raw[..., 0], raw[..., 1]) @ view.rotation.T
        surface /= np.linalg.norm(surface, axis=1, keepdims=True)
        weight = term.weight / normals.sample(view.project(self._middles(state, k)[term.patches]))[1]
        found = term.normals @ view.normal_to_camera(normals).T
        if align:
            u, _, vt = np.linalg.svd((surface * weight[:, None]).T @ found)
            found = found @ (u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt).T
        angle = np.degrees(np.arccos(np.clip((surface * found).sum(1), -1, 1)))
        return float(angle @ weight / weight.sum()), float(weight.sum() / self.config.terms.normals)

    def _middles(self, state: State, k: int) -> np.ndarray:
        view = state.views[k]
        return view.to_camera(self.head.vertices(state.identity, view.expression))[self.head.patches].mean(1)

    def quality(self, state: State, k: int, disagreement: float) -> ViewQuality:
        """Quality numbers of a view."""
        view, points = state.views[k], self.views[k].points
        known = np.isfinite(points.sigma)
        vertices = view.to_camera(self.head.vertices(state.identity, view.expression))
        off = np.linalg.norm(view.project(vertices[points.vertices[known]]) - points.photo[known], axis=1)
        angle, covered = self.normal_angle(state, k)
        return ViewQuality(
            points=float(np.sqrt((off**2 / points.sigma[known] ** 2).mean() / 2)),
            points_share=float(np.median(off) / self.sizes[k]),
            normals=angle,
            disagreement=disagreement,
            tilt=float(np.degrees(np.linalg.norm(_turn_of(view.tilt)))),
            covered=covered,
            disagree=self.doubted[k],
        )


def _move(state: State, change: np.ndarray) -> State:
    views = []
    for k, view in enumerate(state.views):
        local = change[terms.columns(k)]
        zoom = float(np.exp(local[terms.FOCAL]))
        views.append(
            replace(
                view,
                expression=np.clip(view.expression + local[IDENTITY : IDENTITY + EXPRESSION], 0, 1),
                rotation=_turn(local[terms.ROTATION]) @ view.rotation,
                position=view.position * zoom + local[terms.POSITION],
                focal=view.focal * zoom,
                tilt=_turn(local[terms.TILT]) @ view.tilt,
            )
        )
    return State(state.identity + change[:IDENTITY], tuple(views))


def _turn(vector: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.Rodrigues(np.asarray(vector, float))[0])


def _turn_of(rotation: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.Rodrigues(rotation)[0]).ravel()


def _face_size(view: View) -> float:
    """Longer side of the box of the known points, pixels."""
    photo = view.points.photo[np.isfinite(view.points.sigma)]
    return float(np.ptp(photo, axis=0).max()) if len(photo) else 1.0
