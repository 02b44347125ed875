"""The solver: quadratics within bounds, and steps that must lower the cost."""

import numpy as np

from pipeline.fitting.solve import Quadratic, bounded_minimum, minimise


def test_minimum_within_bounds_satisfies_the_optimality_conditions():
    rng = np.random.default_rng(1)
    for _ in range(20):
        a = rng.normal(size=(40, 25))
        hessian, gradient = a.T @ a + 0.1 * np.eye(25), rng.normal(size=25) * 10
        lower, upper = -rng.random(25), rng.random(25)
        lower[:3] = upper[:3] = 0
        x = bounded_minimum(hessian, gradient, lower, upper)
        assert ((x >= lower) & (x <= upper)).all()
        slope = hessian @ x + gradient
        free = (x > lower) & (x < upper)
        np.testing.assert_allclose(slope[free], 0, atol=1e-8)
        assert (slope[(x == lower) & (lower < upper)] >= -1e-8).all()
        assert (slope[(x == upper) & (lower < upper)] <= 1e-8).all()


def test_without_bounds_it_is_the_plain_minimum():
    hessian, gradient = np.diag([1.0, 4.0]), np.array([1.0, -2.0])
    unbounded = np.full(2, np.inf)
    np.testing.assert_allclose(bounded_minimum(hessian, gradient, -unbounded, unbounded), [-1, 0.5])


def rosenbrock(x):
    """Quadratic model of Rosenbrock's valley by Gauss-Newton, x[0] at most 0.8."""

    def residuals(y):
        return np.array([1 - y[0], 10 * (y[1] - y[0] ** 2)])

    jacobian = np.array([[-1.0, 0.0], [-20 * x[0], 10.0]])
    r = residuals(x)
    return Quadratic(
        jacobian.T @ jacobian,
        jacobian.T @ r,
        float(r @ r) / 2,
        np.array([-np.inf, -np.inf]),
        np.array([0.8 - x[0], np.inf]),
        lambda change: x + change,
        lambda y: float(residuals(y) @ residuals(y)) / 2,
    )


def test_every_accepted_step_lowers_the_cost_and_the_bound_holds():
    x, costs = minimise(rosenbrock, np.array([-1.2, 1.0]), 60, tolerance=0)
    np.testing.assert_allclose(x, [0.8, 0.64], atol=1e-3)
    assert (np.diff(costs) < 0).all()


def test_where_no_step_helps_the_state_stays():
    start = np.array([0.8, 0.64])
    x, costs = minimise(rosenbrock, start, 5)
    np.testing.assert_allclose(x, start, atol=1e-9)
    assert len(costs) <= 2
