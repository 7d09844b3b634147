"""What the next order adds: consistent with itself as a free energy, of order 1/D^2, and what simulation shows."""

import math
from dataclasses import replace

import numpy as np
import pytest

from replica_icl.numeric.corrections import VALUES, corrections
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.solution import NextOrderStatus, Solution, Status
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


def test_what_temperature_adds_to_the_test_error_goes_with_the_fluctuations() -> None:
    """e_gibbs - e_icl = < T |c|^2 > V + < T l^2 > V_u at every order, with the same averages: found from two ridges."""
    settings = [Setting(D=8, N=20, P=60, ridge=ridge, noise=0.3, beta=60.0) for ridge in (1e-3, 0.1, 0.02)]
    first, second, third = (solve(setting) for setting in settings)
    systems = [[x.saddle["V"], x.saddle["V_u"]] for x in (first, second)]
    a, b = np.linalg.solve(systems, [x.saddle["e_gibbs"] - x.saddle["e_icl"] for x in (first, second)])
    thermal = added(third, "e_gibbs") - added(third, "e_icl")
    assert thermal == pytest.approx(a * added(third, "V") + b * added(third, "V_u"), rel=1e-6)
    assert abs(thermal) > 1e-4


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
def test_few_prompts_at_a_tiny_ridge(ridge: float) -> None:
    """It stays a small and accurate correction, whatever the tolerance and the ridge, and is seen in simulation."""
    setting = Setting(D=20, N=100, P=3, noise=0.25, ridge=ridge)
    solution = solve(setting)
    assert solution.next_order_status == NextOrderStatus.ADDED
    for name in ("e_icl", "m", "q", "u", "contrast"):
        assert abs(added(solution, name)) < 0.1 * solution.saddle[name], name
        for other in (solve(setting, tolerance=1e-9), solve(replace(setting, ridge=1e-12))):
            assert added(other, name) == pytest.approx(added(solution, name), rel=1e-3), name
    found = simulate(replace(setting, ridge=1e-8), 1500, seed=64, workers=1)
    for name in ("e_icl", "m", "q", "u", "contrast"):
        assert abs(found[name].mean - getattr(solution, name)) < 4 * found[name].sem + 2e-4, name


def test_many_labels_and_much_noise() -> None:
    """The next order of q used to change from 256 to 37 with the tolerance here."""
    setting = Setting(D=24, N=4234, P=7, noise=4.64, ridge=6e-10)
    coarse, fine = solve(setting, tolerance=1e-6), solve(setting, tolerance=1e-9)
    for name in ("e_icl", "m", "q", "u"):
        assert added(coarse, name) == pytest.approx(added(fine, name), rel=1e-3), name
        assert abs(added(fine, name)) < 0.05 * fine.saddle[name], name


@pytest.mark.parametrize(
    "setting",
    [
        Setting(D=6, N=12, P=42, ridge=1e-5),
        Setting(D=6, N=12, P=42, ridge=1.5e-7),
        Setting(D=6, N=12, P=43, ridge=1e-6),
        Setting(D=10, N=20, P=110, ridge=1e-6),
    ],
    ids=str,
)
def test_the_hard_edge_is_what_simulation_shows(setting: Setting) -> None:
    """At P = D (D + 1) and beside it e_icl is far above the saddle point, at every D."""
    solution, found = solve(setting), simulate(setting, 3000, seed=61, workers=1)
    assert solution.theory_error is not None
    for name in ("e_icl", "train_error", "m", "q"):
        mean, sem = found[name].mean, found[name].sem
        assert sem is not None
        assert abs(mean - getattr(solution, name)) < 4 * sem + solution.theory_error[name], name
    seen, sem = found["e_icl"].mean, found["e_icl"].sem
    assert sem is not None
    assert abs(seen - solution.e_icl) < 4 * sem
    assert seen > solution.saddle["e_icl"] + 4 * sem


@pytest.mark.parametrize("D", [12, 24, 40])
def test_a_square_matrix_without_a_ridge_has_pi_over_two_times_the_saddle_points_energy(D: int) -> None:
    """Smallest eigenvalue of square Wishart matrices; what is left of the 57 % falls with the number of weights."""
    setting = Setting(D=D, N=2 * D, P=D * (D + 1), ridge=1e-11 / D**2)
    solution = solve(setting)
    gained = energy(solution, setting)
    saddle = (solution.saddle["train_error"] + setting.ridge * (D * solution.saddle["q"] + solution.saddle["u"])) / 2
    assert gained / saddle == pytest.approx(math.pi / 2 - 1, abs=2.5 / D**2)


@pytest.mark.parametrize("D", [4, 6, 8, 20])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_large_ridge_is_exact(D: int, noise: float) -> None:
    """W = (1 / P lambda_0) sum of t c (outer) x: m and q by moments of one prompt and of two, at every D and P."""
    N, P = 2 * D, 3 * D
    solution = solve(Setting(D=D, N=N, P=P, noise=noise, ridge=1e7))
    squares, fourth = 1.0, 1 + 2 / D  # of |w|^2 / D
    # E of ((D + 2) omega + rho D) |c|^2 given the task, and |c|^2 = ((D + 2) omega + rho D) / N + (1 - 1/N) omega.
    one = ((D + 2) ** 2 * fourth + 2 * (D + 2) * D * noise * squares + (noise * D) ** 2) / N
    one += (1 - 1 / N) * ((D + 2) * fourth + noise * D * squares)
    ratio = D * one / P + 1 - 1 / P
    assert solution.q / solution.m**2 == pytest.approx(ratio, rel=1e-5)
    assert abs(solution.saddle["q"] / solution.saddle["m"] ** 2 / ratio - 1) > 5e-4


def test_the_contrast_is_a_mean_over_samples() -> None:
    """The mean of ratios is not the ratio of means: 5 % here."""
    setting = Setting(D=8, N=101, P=4, ridge=4.8e-4)
    solution, found = solve(setting), simulate(setting, 4000, seed=63, workers=1)["contrast"]
    assert found.sem is not None
    assert abs(found.mean - solution.contrast) < 4 * found.sem
    assert abs(found.mean - solution.saddle["contrast"]) > 6 * found.sem


def test_without_a_mean_over_samples_there_is_none_to_add() -> None:
    """Square matrices and their neighbours have no mean inverse; a little further the next order is of no use."""
    for P, status in ((109, NextOrderStatus.NO_MEAN), (111, NextOrderStatus.NO_MEAN), (300, NextOrderStatus.ADDED)):
        solution = solve(Setting(D=10, N=20, P=P, ridge=0.0, minimum_norm=P < 110))
        assert solution.next_order_status == status
        assert solution.next_order is not None
        assert math.isnan(added(solution, "e_icl")) == (status != NextOrderStatus.ADDED)
        assert solution.theory_error is not None
        assert math.isinf(solution.theory_error["e_icl"]) == (status != NextOrderStatus.ADDED)


def test_a_next_order_larger_than_its_value_is_absent_and_never_added() -> None:
    solution = solve(Setting(D=18, N=88, P=337, ridge=3.5e-12))
    assert solution.next_order_status == NextOrderStatus.NO_USE
    assert solution.next_order is not None
    assert solution.theory_error is not None
    lost = [name for name in ("e_icl", "train_error", "m", "q") if math.isnan(solution.next_order[name])]
    assert lost
    for name in lost:
        assert solution[name] == solution.saddle[name]
        assert solution.theory_error[name] > solution.saddle[name]
    assert "no use" in solution.table()
    assert solution.to_dict()["next_order_status"] == "no_use"


def corrected(found: float, judged: float) -> dict[str, np.ndarray]:
    """`corrections` at one point of values 1 (0.1 for the training error), whose next order two rules have found."""
    saddle = dict.fromkeys(VALUES, np.ones(1)) | {"train_error": np.array([0.1])}
    names = ("thermal", "shared", "thermal_test", *VALUES)
    of = [dict.fromkeys(names, np.array([x])) | {"train_error": np.array([0.002])} for x in (found, judged)]
    return corrections([Setting(D=10, N=20, P=50, ridge=0.1, beta=50.0)], np.full((1, 2), 0.1), saddle, *of, 1e-7)


def test_two_rules_that_disagree_leave_none() -> None:
    assert corrected(0.1, 0.1004)["next_order_status"][0] == NextOrderStatus.ADDED
    differing = corrected(0.1, 0.2)
    assert differing["next_order_status"][0] == NextOrderStatus.INACCURATE
    assert np.isnan(differing["next_e_icl"][0])
    assert corrected(0.1, np.nan)["next_order_status"][0] == NextOrderStatus.NO_MEAN
    # Of two that disagree the larger one estimates the error: 0.2 + 0.2 (0.2 + 4/10).
    assert differing["error_e_icl"][0] == pytest.approx(0.32)


def test_the_estimated_error_is_the_next_order_and_what_follows_it() -> None:
    """e_icl: 0.1 + 0.1 (0.1 + 4/10); the training error by its own correction: 0.1 (0.02 + 0.02 (0.02 + 0.4))."""
    found = corrected(0.1, 0.1)
    assert found["error_e_icl"][0] == pytest.approx(0.15)
    assert found["error_train_error"][0] == pytest.approx(0.1 * 0.0284)


def test_a_temperature_beyond_what_numbers_hold_is_not_converged() -> None:
    solution = solve(Setting(D=10, N=20, P=100, ridge=1e-3, beta=1e-305), throw=False)
    assert solution.status == Status.NON_FINITE
    assert solution.next_order_status == NextOrderStatus.NO_MEAN
    assert math.isnan(solution.e_icl)
    assert solve(Setting(D=10, N=20, P=100, ridge=1e-3, beta=1e-200)).status == Status.CONVERGED
