"""Other test contexts, and the best ridge and other penalties, against simulation and against their neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from replica_icl import Laplace, ParameterError, Setting, simulate, solve
from replica_icl.errors import SolveError
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.questions.optimal_penalty import optimal_penalty, optimal_ridge
from replica_icl.numeric.questions.search import least
from replica_icl.numeric.questions.transfer import transfer_error
from replica_icl.ratios import Ratios
from replica_icl.simulator.observables import icl_error
from replica_icl.simulator.realisation import realise

SETTING = Setting(D=10, N=20, P=300, ridge=0.05, noise=0.25)


def test_transfer_to_the_training_contexts_is_the_test_error() -> None:
    solution = solve(SETTING, tolerance=1e-9)
    assert transfer_error(SETTING, solution) == pytest.approx(solution.e_icl, rel=1e-8)


@pytest.mark.parametrize(("N", "noise"), [(20, 0.25), (80, 0.25), (20, 0.0), (5, 1.0)])
def test_transfer_to_other_contexts_agrees_with_simulation(N: int, noise: float) -> None:
    # 60 realisations fix the standard error at about 1 %; 4 of them plus 0.1/D relative.
    solution = solve(SETTING)
    errors = [
        icl_error(
            realise(SETTING, seed=11, realisation=r).ground.W,
            N,
            noise,
            D=len(realise(SETTING, seed=11, realisation=r).ground.W) - 1,
        )
        for r in range(60)
    ]
    sem = np.std(errors, ddof=1) / np.sqrt(len(errors))
    theory = transfer_error(SETTING, solution, N, noise)
    assert abs(np.mean(errors) - theory) < 4 * sem + 0.1 / SETTING.D * theory


def test_longer_test_contexts_help_and_noise_hurts() -> None:
    solution = solve(SETTING)
    assert transfer_error(SETTING, solution, N=200) < transfer_error(SETTING, solution)
    assert transfer_error(SETTING, solution, noise=1.0) > transfer_error(SETTING, solution)


def test_optimal_ridge_beats_its_neighbours() -> None:
    best = optimal_ridge(SETTING)
    assert best.interior
    around = solve([replace(SETTING, ridge=best.value * factor) for factor in (0.8, 1.25)])
    assert np.all(around.e_icl > best.test_error)


def test_optimal_ridge_is_the_limits_at_large_dimension() -> None:
    D, lams = 2000, np.geomspace(0.05, 5, 4001)
    best = optimal_ridge(Setting(D=D, N=2 * D, P=2 * D**2, ridge=1.0, noise=0.25), lowest=1e-6, highest=1e-1)
    limit = solve(Ratios(alpha=2.0, nu=2.0, lam=lams, noise=0.25))
    expected = lams[np.argmin(limit.e_icl)]
    # Corrections are O(1/D) = 5e-4 with a coefficient of order ten: 3 %.
    assert best.value * D == pytest.approx(expected, rel=0.03)
    assert best.test_error == pytest.approx(limit.e_icl.min(), rel=0.01)


def test_a_range_without_the_optimum_is_reported() -> None:
    assert not optimal_ridge(SETTING, lowest=10.0, highest=100.0).interior


@pytest.mark.parametrize(("N", "noise", "name"), [(0, None, "test_N"), (None, -1.0, "test_noise")])
def test_bad_test_contexts_are_named(N: int | None, noise: float | None, name: str) -> None:
    with pytest.raises(ParameterError, match=name):
        transfer_error(SETTING, solve(SETTING), N, noise)


def test_other_test_contexts_need_the_finite_size_level() -> None:
    with pytest.raises(ParameterError, match="finite-size"):
        transfer_error(SETTING, solve(SETTING, level="limit"), 10)


def test_the_estimated_error_has_the_size_of_what_is_seen() -> None:
    """Measured with 1500 realisations at D = 10, N = 20, P = 90, ridge 1e-3: train_error 11 +- 2 % off, e_icl 2 %."""
    solution = solve_finite_size([Setting(D=10, N=20, P=90, ridge=1e-3)]).point(0)
    assert solution.theory_error is not None
    assert 0.05 < solution.theory_error["train_error"] / solution.train_error < 0.3
    assert 0.005 < solution.theory_error["e_icl"] / solution.e_icl < 0.05


def test_the_estimated_error_falls_like_the_inverse_number_of_weights() -> None:
    settings = [Setting(D=D, N=2 * D, P=2 * D**2, ridge=1 / D) for D in (100, 200, 400, 800)]
    solution = solve_finite_size(settings)
    assert solution.theory_error is not None
    for name in ("e_icl", "train_error", "q"):
        relative = solution.theory_error[name] / solution[name]
        ratios = relative[:-1] / relative[1:]
        assert np.all(np.abs(ratios - 4) < 0.6), name
        assert abs(ratios[-1] - 4) < abs(ratios[0] - 4)


def test_the_lowest_of_several_minima_is_found_and_narrowed_down() -> None:
    """Two valleys, the deeper one narrow: the scan must see it, and the sections must end at its bottom."""

    def errors(x: np.ndarray) -> np.ndarray:
        return 1 - 0.5 * np.exp(-((x - 4) ** 2)) - 0.6 * np.exp(-(((x + 3.3) / 0.5) ** 2))

    x, interior = least(errors, -18.0, 7.0)
    assert interior
    assert x == pytest.approx(-3.3, abs=1e-4)
    x, interior = least(lambda x: np.where(x > 0, np.nan, -x), -2.0, 5.0)
    assert (x, interior) == (pytest.approx(0, abs=0.2), True)
    assert least(lambda x: -x, -2.0, 5.0) == (5.0, False)
    assert least(lambda x: np.where(x < 0, 1 - x, 1 - 1e-12 * np.exp(-((x - 2) ** 2))), -2.0, 5.0) == (5.0, False)
    with pytest.raises(SolveError, match="could be solved"):
        least(lambda x: x * np.nan, -2.0, 5.0)


def test_the_best_ridge_of_the_limit_is_where_the_error_is_stationary() -> None:
    point = Ratios(alpha=2.0, nu=2.0, lam=1.0, noise=0.25)
    best = optimal_ridge(point)
    assert (best.parameter, best.interior) == ("lam", True)
    around = solve(replace(point, lam=best.value * np.array([0.99, 1.0, 1.01]))).e_icl
    assert around[1] < around[0]
    assert around[1] < around[2]
    assert best.to_dict()["optimal_lam"] == best.value
    diverse = optimal_ridge(replace(point, kappa=0.7))
    assert np.all(
        solve(replace(point, kappa=0.7, lam=diverse.value * np.array([0.8, 1.25]))).e_icl > diverse.test_error
    )


def test_what_does_not_act_on_the_best_ridge_is_refused() -> None:
    known = {"D": 10, "N": 20, "P": 300, "noise": 0.25}
    for more, options, name in (
        ({"ridge": 0.1}, {}, "ridge"),
        ({"beta": 9.0}, {}, "beta"),
        ({"minimum_norm": True}, {}, "minimum_norm"),
        ({}, {"draws": 3}, "draws"),
        ({}, {"level": "limit", "test_N": 9}, "test_N"),
        ({"N": [20, 30]}, {}, "point"),
    ):
        with pytest.raises(ParameterError) as caught:
            optimal_ridge({**known, **more}, **options)
        assert caught.value.parameter == name
    for bad in (3, None):
        with pytest.raises(ParameterError, match="must be a Setting or Ratios"):
            optimal_ridge(bad)


@pytest.mark.parametrize(
    ("point", "around", "realisations"),
    [
        (Setting(D=8, N=24, P=64, ridge=0.0, noise=0.1, l1=1.0), 2.0, 30),
        pytest.param(Setting(D=20, N=100, P=200, ridge=0.0, l1=1.0), 1.6, 30, marks=pytest.mark.long),
        pytest.param(Setting(D=20, N=40, P=600, ridge=0.002, noise=0.25, l1=1.0), 1.6, 30, marks=pytest.mark.long),
    ],
)
def test_the_best_penalty_is_where_a_scan_of_exact_optima_has_its_least_error(
    point: Setting, around: float, realisations: int
) -> None:
    """Factors `around` apart, the same samples at each: the least is at the best one or beside it, and as predicted.

    Settings, scan, realisations and bounds, 4 standard errors plus 0.3/D, were fixed before anything was run.
    """
    best = optimal_penalty(point, "l1", lowest=1e-4, highest=1.0, tolerance=1e-4)
    assert best.interior
    assert best.parameter == "l1"
    found = [simulate(replace(point, l1=best.value * around**k), realisations, seed=3).e_icl for k in range(-2, 3)]
    least = int(np.argmin([one.mean for one in found]))
    print(f"best {best.value:.4g}, error {best.test_error:.4g}, found {[round(one.mean, 4) for one in found]}")
    assert least in (1, 2, 3)
    assert found[0].mean > found[2].mean < found[4].mean
    middle = found[2]
    assert middle.sem is not None
    assert abs(middle.mean - best.test_error) < 4 * middle.sem + 0.3 / point.D * best.test_error


QUICK: dict[str, Any] = {"lowest": 1e-3, "highest": 1.0, "tolerance": 1e-4}


def test_the_best_penalty_beats_its_neighbours_and_a_family_of_priors_has_the_same() -> None:
    point = Setting(D=10, N=40, P=100, ridge=0.01, noise=0.1)
    best = optimal_penalty(point, "l1", **QUICK)
    near = solve(replace(point, l1=best.value * np.array([0.9, 1.0, 1.1])), tolerance=1e-4).e_icl
    assert near[1] == pytest.approx(best.test_error, rel=1e-6)
    assert near[0] > near[1] < near[2]
    family = optimal_penalty(point, Laplace, **QUICK)
    assert (family.parameter, family.interior) == ("penalty", True)
    assert family.value == pytest.approx(best.value, rel=1e-3)
    assert family.test_error == pytest.approx(best.test_error, rel=1e-6)
    other = optimal_penalty({"D": 10, "N": 40, "P": 100, "noise": 0.1}, "l1", test_noise=1.0, **QUICK)
    assert other.solution.parameters.ridge == 0
    assert other.test_error == other.solution["e_icl_test"] > best.test_error


def test_the_best_penalty_of_the_limit_is_where_the_error_is_stationary() -> None:
    point = Setting(D=20, N=100, P=400, ridge=0.0, noise=0.1, l1=1.0)
    best = optimal_penalty(point, "l1", "limit")
    near = solve(replace(point, l1=best.value * np.array([0.97, 1.0, 1.03])), "limit").e_icl
    assert near[0] > near[1] < near[2]


def test_where_nothing_can_be_learnt_the_largest_penalty_is_an_end_of_the_range() -> None:
    """Without weights the error is 1, the same for all penalties that are large enough."""
    point = Setting(D=20, N=100, P=50, ridge=0.0, l1=1.0)
    best = optimal_penalty(point, "l1", lowest=1e-2, highest=10.0, tolerance=1e-3)
    assert (best.value, best.interior) == (pytest.approx(10.0), False)
    assert best.test_error == pytest.approx(1.0, rel=1e-3)
    assert "an end of the range; no error inside is smaller" in best.table()


def test_the_best_ridge_beside_a_penalty() -> None:
    """At a penalty below the best one some ridge helps; and a prior that is given as an object is the same."""
    point = Setting(D=10, N=40, P=100, ridge=1.0, noise=0.1, l1=0.003)
    best = optimal_ridge(point, **QUICK)
    near = solve(replace(point, ridge=best.value * np.array([0.9, 1.0, 1.1])), tolerance=1e-4).e_icl
    assert near[0] > near[1] < near[2]
    same = optimal_ridge(replace(point, l1=0.0), prior=Laplace(0.003), **QUICK)
    assert same.value == pytest.approx(best.value, rel=1e-3)


def test_bad_penalties_are_refused() -> None:
    point = Setting(D=6, N=12, P=20, ridge=0.1)
    for penalty, named, how in (
        ("l3", "penalty = l3: must be one of ridge, l1", {}),
        ("l1", "lowest = 2.0: must be below highest, 1", {"lowest": 2.0, "highest": 1.0}),
        ("l1", "lowest = -1.0: must be a positive number", {"lowest": -1.0}),
        ("l1", "prior = .*: must not be given at level finite-size with the best l1", {"prior": Laplace(0.1)}),
        (lambda x: x, "penalty = .*: must be a function from an array of penalties to a prior", {}),
    ):
        with pytest.raises(ParameterError, match=named):
            optimal_penalty(point, penalty, **how)
    for penalty in ("l1", Laplace):
        with pytest.raises(ParameterError, match=r"penalty = .*: must be ridge with ratios"):
            optimal_penalty(Ratios(alpha=1.0, nu=2.0, lam=0.1), penalty)
    with pytest.raises(ParameterError, match=r"l1 = 0.1: must not be given: it is what is found"):
        optimal_penalty({"D": 6, "N": 12, "P": 20, "l1": 0.1}, "l1")
    with pytest.raises(ParameterError, match=r"l1 = .*: must be absent at level given-tasks"):
        optimal_penalty(Setting(D=6, N=12, P=20, ridge=0.1, K=3), "l1")
