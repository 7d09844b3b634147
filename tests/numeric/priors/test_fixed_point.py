"""The fixed-point iteration on maps whose solution is known."""

import numpy as np

from replica_icl.numeric.priors.fixed_point import fixed_point


def test_points_converge_each_to_its_own_solution_at_rounding() -> None:
    target = np.linspace(-1, 1, 7)[:, None] * np.array([1.0, -2.0])

    def contract(x: np.ndarray, i: np.ndarray) -> np.ndarray:
        return target[i] + 0.6 * np.sin(x - target[i])

    found = fixed_point(contract, np.zeros((7, 2)), 1e-12, 200)
    assert np.abs(found.x - target).max() < 1e-14
    assert found.residual.max() <= 1e-12
    assert (found.iterations > 0).any()


def test_a_map_that_cycles_undamped_is_solved() -> None:
    """Slope -1.8 at the solution: x -> map(x) runs away, a share of each step does not."""
    found = fixed_point(lambda x, i: 1.0 - 1.8 * np.tanh(x - 1.0), np.array([[1.6]]), 1e-12, 200)
    assert abs(found.x[0, 0] - 1) < 1e-12


def test_a_slow_map_is_finished_by_newton() -> None:
    found = fixed_point(lambda x, i: x - 1e-3 * np.sinh(x), np.array([[0.05]]), 1e-13, 100)
    assert abs(found.x[0, 0]) < 1e-9
    assert found.iterations[0] < 50


def test_what_is_not_solved_says_so() -> None:
    found = fixed_point(lambda x, i: x + 1.0, np.zeros((1, 1)), 1e-12, 30)
    assert found.residual[0] == 1.0
    broken = fixed_point(lambda x, i: np.full_like(x, np.nan), np.zeros((2, 1)), 1e-12, 30)
    assert np.isnan(broken.residual).all()
