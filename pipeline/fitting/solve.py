"""Gauss-Newton steps within bounds, with damping, accept and reject. Knows nothing of faces."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

Point = TypeVar("Point")


@dataclass(frozen=True)
class Quadratic(Generic[Point]):
    """The cost about a state: cost + gradient d + d hessian d / 2 for a change d.

    Attributes:
        hessian: (K, K) float64, positive semi-definite.
        gradient: (K,) float64.
        cost: The cost at the state.
        lower: (K,) lowest allowed change; equal to `upper` for what shall not change.
        upper: (K,) highest allowed change.
        move: Makes the state that a change leads to.
        evaluate: The true cost of another state, on the same footing as `cost`.
    """

    hessian: np.ndarray
    gradient: np.ndarray
    cost: float
    lower: np.ndarray
    upper: np.ndarray
    move: Callable[[np.ndarray], Point]
    evaluate: Callable[[Point], float]


def minimise(
    linearise: Callable[[Point], Quadratic[Point]],
    state: Point,
    steps: int,
    damping: float = 1e-4,
    tolerance: float = 1e-4,
) -> tuple[Point, list[float]]:
    """Lowers a cost by Levenberg-Marquardt steps.

    A step that does not lower the true cost is tried again with more damping; when five in a row fail, the
    state stays.

    Args:
        linearise: The cost about a state.
        state: Where to start.
        steps: Most steps.
        damping: Share of the Hessian's diagonal that is added at first.
        tolerance: Stop when a step lowers the cost by less than this share.

    Returns:
        The best state, and the cost before the first and after every accepted step. What the cost measures
        (which points are visible, say) may change from step to step, so they need not fall.
    """
    costs: list[float] = []
    for _ in range(steps):
        model = linearise(state)
        costs = costs or [model.cost]
        for _ in range(5):
            damped = model.hessian + np.diag(damping * np.diag(model.hessian) + 1e-9)
            change = bounded_minimum(damped, model.gradient, model.lower, model.upper)
            candidate = model.move(change)
            cost = model.evaluate(candidate)
            if cost < model.cost:
                break
            damping *= 10
        else:
            return state, costs
        damping = max(damping / 5, 1e-6)
        state = candidate
        costs.append(cost)
        if model.cost - cost < tolerance * model.cost:
            break
    return state, costs


def bounded_minimum(
    hessian: np.ndarray, gradient: np.ndarray, lower: np.ndarray, upper: np.ndarray, rounds: int = 30
) -> np.ndarray:
    """Minimises gradient x + x hessian x / 2 over lower <= x <= upper.

    By exchange of the active set: solve for the free variables; those that leave the box are fixed at its
    border, those at the border whose gradient points inwards are freed. Should the exchange cycle, the last
    point is returned, which lies within the box.

    Args:
        hessian: (K, K) float64, positive definite.
        gradient: (K,).
        lower: (K,), not above `upper`.
        upper: (K,).
        rounds: Most exchanges.
    """
    x = np.clip(np.zeros(len(gradient)), lower, upper)
    fixed = lower >= upper
    for _ in range(rounds):
        free = np.nonzero(~fixed)[0]
        held = np.nonzero(fixed)[0]
        if len(free):
            right = -gradient[free] - hessian[np.ix_(free, held)] @ x[held]
            x[free] = np.linalg.solve(hessian[np.ix_(free, free)], right)
        outside = (x < lower) | (x > upper)
        x = np.clip(x, lower, upper)
        slope = hessian @ x + gradient
        inwards = (
            fixed & (lower < upper) & (((x <= lower) & (slope < -1e-12)) | ((x >= upper) & (slope > 1e-12)))
        )
        if not outside.any() and not inwards.any():
            break
        fixed = (fixed | outside) & ~inwards
    return x
