"""What the next order adds: consistent with itself as a free energy, of order 1/D^2, and what simulation shows."""

import math
from dataclasses import replace

import numpy as np
import pytest

from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.solution import Solution, Status
from replica_icl.numeric.solve import solve
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate

COLD = [
    Setting(D=10, N=11, P=59, ridge=0.0016, noise=0.25),
    Setting(D=10, N=20, P=110, ridge=1e-3),
    Setting(D=20, N=8, P=900, ridge=0.05, noise=0.1),
    Setting(D=6, N=40, P=20, ridge=0.3),
]


def added(solution: Solution, name: str) -> float:
    assert solution.next_order is not None
    return float(solution.next_order[name])


def energy(solution: Solution, setting: Setting) -> float:
    """What the next order adds to the ground-state energy, from training error and norm."""
    norm = setting.D * added(solution, "q") + added(solution, "u")
    return (added(solution, "train_error") + setting.ridge * norm) / 2


@pytest.mark.parametrize("setting", COLD)
def test_log_z_holds_the_energy_that_the_errors_say(setting: Setting) -> None:
    """log Z = -beta E_0 + entropy at T -> 0: its shared part, a value, and the errors, derivatives of it, agree."""
    beta = 3.0 * setting.P
    solution = solve(replace(setting, beta=beta))
    expected = -beta * energy(solution, setting)
    assert added(solution, "log_Z") - added(solution, "entropy") == pytest.approx(expected, rel=1e-9)
    hotter = solve(replace(setting, beta=beta / 10))
    assert added(hotter, "entropy") == pytest.approx(added(solution, "entropy"), rel=1e-9)
    for name in ("m", "q", "u", "e_icl", "train_error"):
        assert added(hotter, name) == pytest.approx(added(solution, name), rel=1e-9)


@pytest.mark.parametrize("setting", COLD)
def test_equipartition_stays(setting: Setting) -> None:
    """<E> = E_0 + (D^2 + D) / (2 beta) at every order: what training errors gain, the norm loses."""
    solution = solve(replace(setting, beta=2.0 * setting.P))
    training = added(solution, "train_gibbs") - added(solution, "train_error")
    norm = setting.D * added(solution, "V") + added(solution, "V_u")
    assert abs(norm) > 0
    assert training == pytest.approx(-setting.ridge * norm, rel=1e-7)


@pytest.mark.parametrize("setting", COLD)
def test_the_norm_is_the_derivative_of_the_energy(setting: Setting) -> None:
    h = 1e-3
    low, high = (replace(setting, ridge=setting.ridge * factor) for factor in (1 - h, 1 + h))
    slope = (energy(solve(high), high) - energy(solve(low), low)) / (2 * h * setting.ridge)
    middle = solve(setting)
    assert 2 * slope == pytest.approx(setting.D * added(middle, "q") + added(middle, "u"), rel=1e-3)


def test_it_falls_like_the_inverse_number_of_weights() -> None:
    """D^2 times the relative correction tends to a constant, from which it differs like 1/D."""
    sizes = (40, 80, 160, 320)
    solution = solve([Setting(D=D, N=2 * D, P=round(0.7 * D**2), ridge=0.1 / D) for D in sizes])
    assert solution.next_order is not None
    for name in ("train_error", "e_icl", "q"):
        constants = np.square(sizes) * solution.next_order[name] / solution.saddle[name]
        assert 0 < abs(constants[-1] - constants[-2]) < 0.1 * abs(constants[-1]), name
        steps = np.diff(constants)
        assert abs(steps[-2] / steps[-1] - 2) < 0.3, name


def test_without_a_ridge_it_is_the_limit_of_small_ridges() -> None:
    setting = Setting(D=10, N=20, P=50, ridge=0.0, minimum_norm=True)
    at_zero, small = solve(setting), solve(replace(setting, ridge=1e-9, minimum_norm=False))
    for name in ("m", "q", "u", "e_icl", "contrast"):
        assert added(at_zero, name) == pytest.approx(added(small, name), rel=1e-4), name
    assert added(at_zero, "train_error") == at_zero.train_error == 0.0


def test_the_divergence_at_the_transition_is_that_of_inverse_wishart_matrices() -> None:
    """Without a ridge, n = D (D + 1): P / (P - n - 1) for Gaussian features, where the saddle point has P / (P - n)."""
    D = 30
    n = D * (D + 1)
    for P in (n + 20, n + 40):
        solution = solve(Setting(D=D, N=60, P=P, ridge=0.0))
        assert added(solution, "e_icl") / solution.saddle["e_icl"] == pytest.approx(1 / (P - n), rel=0.15)


def test_a_grid_has_what_its_points_have_and_a_failed_point_has_none() -> None:
    settings = [*COLD, Setting(D=10, N=20, P=110, ridge=0.0)]
    grid = solve(settings, throw=False)
    assert grid.next_order is not None
    for i, setting in enumerate(COLD):
        alone = solve(setting)
        for name in ("m", "q", "u", "e_icl", "e_idg", "train_error", "contrast"):
            assert grid.next_order[name][i] == pytest.approx(added(alone, name), rel=1e-6, abs=1e-12)
    assert grid.status[-1] == Status.SINGULAR
    assert all(math.isnan(values[-1]) for values in grid.next_order.values())


def test_values_with_it_and_what_is_left_of_the_estimated_error() -> None:
    bare = solve_finite_size([COLD[0]]).point(0)
    best = solve(COLD[0])
    assert bare.next_order is not None
    assert bare.theory_error is not None
    assert best.theory_error is not None
    assert best.saddle == bare.values == bare.saddle
    assert best.next_order == bare.next_order
    assert best.e_icl == bare.e_icl + bare.next_order["e_icl"]
    assert 0 < best.theory_error["train_error"] < bare.theory_error["train_error"]
    assert best.with_next_order() is best
    assert best.to_dict()["next_order"]["m"] == bare.next_order["m"]
    assert best.to_dict()["saddle"]["m"] == bare.m
    limit = solve(COLD[0], level="limit")
    assert limit.with_next_order() is limit
    assert limit.saddle == limit.values


@pytest.mark.parametrize("P", [90, 110], ids=["below", "at the transition"])
def test_it_is_what_simulation_shows_beside_the_saddle_point(P: int) -> None:
    """2000 realisations, enough to see the saddle point's training error more than 4 standard errors off."""
    setting = Setting(D=10, N=20, P=P, ridge=1e-3)
    corrected, found = solve(setting), simulate(setting, 2000, seed=21, workers=1)
    assert corrected.theory_error is not None
    for name in ("e_icl", "train_error", "m", "q", "u"):
        mean, sem = found[name].mean, found[name].sem
        assert sem is not None
        assert abs(mean - getattr(corrected, name)) < 4 * sem + corrected.theory_error.get(name, 0.0), name
    error = found["train_error"]
    assert error.sem is not None
    assert error.mean - corrected.saddle["train_error"] > 4 * error.sem


@pytest.mark.parametrize("ridge", [1e-8, 1e-20])
def test_a_next_order_larger_than_its_value_is_absent_and_never_added(ridge: float) -> None:
    """Few prompts at a tiny ridge: the expansion is rounding noise there, the saddle point is not."""
    solution = solve(Setting(D=20, N=100, P=3, noise=0.25, ridge=ridge))
    assert solution.next_order is not None
    assert solution.theory_error is not None
    assert all(math.isnan(value) for value in solution.next_order.values())
    assert solution.values == solution.saddle
    assert solution.e_icl == pytest.approx(1.3139, abs=2e-4)
    assert solution.theory_error["e_icl"] > 0.1
    assert "absent" in solution.table()
    assert solution.to_dict()["next_order"]["e_icl"] is None
