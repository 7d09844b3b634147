"""A status beside every value: each status is forced once, and only a converged point has values."""

import json
import math
from typing import Any

import numpy as np
import pytest
from models import changed_model

from replica_icl.errors import SolveError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.limit import TOLERANCE, classify, imbalance, solve_limit
from replica_icl.numeric.solution import Solution, Status
from replica_icl.numeric.solve import solve
from replica_icl.ratios import Ratios

POINT = Ratios(alpha=2.0, nu=2.0, lam=0.1)


def with_solution(change: Any) -> Model:
    """A model with a modified closed form of the limit."""

    def solution(xp: Any, **controls: Any) -> Any:
        found = LINEAR_ATTENTION.fresh_tasks_limit.solution(xp, **controls)
        return found._replace(**change(found._asdict(), **controls))

    return changed_model("fresh_tasks_limit", solution=solution)


def assert_has_no_values(solution: Solution) -> None:
    observables = solution.observables()
    assert {"e_icl", "m", "q", "train_error", "replicon"} <= set(observables)
    assert all(math.isnan(value) for value in observables.values())
    assert not solution.converged


def test_a_good_point_is_converged_and_says_how_well() -> None:
    solution = solve_limit(POINT)
    assert solution.status is Status.CONVERGED
    assert solution.converged
    assert solution.residual < 1e-14
    assert solution.iterations == 0
    assert all(map(math.isfinite, solution.observables().values()))


def test_the_ridgeless_transition_is_singular() -> None:
    solution = solve_limit(Ratios(alpha=1.0, nu=2.0, lam=0.0))
    assert solution.status is Status.SINGULAR
    assert_has_no_values(solution)


def test_an_overflow_is_non_finite() -> None:
    solution = solve_limit(Ratios(alpha=1e-200, nu=2.0, lam=0.1))
    assert solution.status is Status.NON_FINITE
    assert_has_no_values(solution)


def test_a_start_of_nan_is_non_finite_and_never_converged() -> None:
    for name in ("m", "q", "k", "e_icl"):
        model = with_solution(lambda values, name=name, **_: {name: values[name] * math.nan})
        solution = solve_limit(POINT, model=model)
        assert solution.status is Status.NON_FINITE, name
        assert_has_no_values(solution)


def other_branch(values: dict[str, Any], alpha: Any, nu: Any, lam: Any, rho: Any) -> dict[str, Any]:
    """The negative root of the quadratic for k: an exact solution of the saddle-point equations with V < 0."""
    a = 1 + (1 + rho) / nu
    k = -a * lam / values["k"]
    s = lam / k
    e = (1 + rho - 1 / a + k**2 / (a * (a + k) ** 2)) / (1 - a**2 / (alpha * (a + k) ** 2))
    m = 1 / (a + k)
    q = m**2 + a * e / (alpha * (a + k) ** 2)
    return {"k": k, "s": s, "m": m, "q": q, "v": 1 / (s * (a + k)), "e_icl": e, "train_error": e * s**2}


def test_a_root_with_negative_fluctuation_is_inadmissible_however_small_its_residual() -> None:
    solution = solve_limit(POINT, model=with_solution(other_branch))
    assert solution.residual < 1e-13
    assert solution.status is Status.INADMISSIBLE
    assert_has_no_values(solution)


@pytest.mark.parametrize(("name", "value"), [("v", -1.0), ("v", 0.0), ("q", 0.2499), ("replicon", 0.0)])
def test_each_condition_of_admissibility_counts(name: str, value: float) -> None:
    good = {"v": 1.0, "q": 0.25, "m": 0.5, "replicon": 0.1, "e_icl": 1.0, "train_error": 1.0}
    assert classify(good, 0.0, False, TOLERANCE) == Status.CONVERGED
    assert classify({**good, name: value}, 0.0, False, TOLERANCE) == Status.INADMISSIBLE


@pytest.mark.parametrize("name", ["m", "q", "k", "s"])
def test_a_value_off_the_saddle_is_out_of_iterations_and_not_a_value(name: str) -> None:
    model = with_solution(lambda values, **_: {name: values[name] * (1 + 1e-7)})
    solution = solve_limit(POINT, model=model)
    assert solution.status is Status.MAX_ITERATIONS
    assert 1e-9 < solution.residual < 1e-6
    assert_has_no_values(solution)


def test_the_residual_is_the_worst_relative_imbalance_and_keeps_nan() -> None:
    balances = (
        (np.array([1.0, 0.0, np.nan]), np.array([4.0, 0.0, 1.0])),
        (np.array([-1.0, 0.0, 0.0]), np.array([2.0, 0.0, 1.0])),
    )
    np.testing.assert_array_equal(imbalance(balances), [0.5, 0.0, np.nan])


def test_a_grid_keeps_its_failures_as_rows_of_nan() -> None:
    grid = solve(Ratios(alpha=np.array([2.0, 1.0, 1e-200]), nu=2.0, lam=np.array([0.0, 0.0, 0.1])), throw=False)
    assert grid.status.tolist() == [Status.CONVERGED, Status.SINGULAR, Status.NON_FINITE]
    assert grid.converged.tolist() == [True, False, False]
    for value in grid.observables().values():
        assert np.isfinite(value).tolist() == [True, False, False]
    assert grid.e_icl[0] == solve(Ratios(alpha=2.0, nu=2.0, lam=0.0)).e_icl


def test_throw_names_the_status_and_how_many_points_failed() -> None:
    with pytest.raises(SolveError, match=r"^the limit solve ended with status singular$"):
        solve(Ratios(alpha=1.0, nu=2.0, lam=0.0))
    grid = Ratios(alpha=np.array([[2.0, 1e-200], [1.0, 1.0]]), nu=2.0, lam=np.array([[0.1, 0.1], [0.0, 0.1]]))
    with pytest.raises(SolveError, match=r"status non_finite \(2 of 4 points\)"):
        solve(grid)
    assert solve(POINT).or_raise().converged


def test_a_solution_is_strict_json_with_null_for_what_failed() -> None:
    point = json.loads(json.dumps(solve(POINT).to_dict(), allow_nan=False))
    assert point["status"] == "converged"
    assert point["e_icl"] == solve(POINT).e_icl
    failed = json.loads(json.dumps(solve(Ratios(alpha=1.0, nu=2.0, lam=0.0), throw=False).to_dict(), allow_nan=False))
    assert failed["status"] == "singular"
    assert failed["e_icl"] is failed["replicon"] is None
    assert set(failed) == set(point)


def test_a_grid_is_strict_json_whose_lists_nest_like_the_grid() -> None:
    point = Ratios(alpha=np.array([[1.0], [2.0]]), nu=2.0, lam=np.array([0.0, 0.1, 0.2]))
    data = json.loads(json.dumps(solve(point, throw=False).to_dict(), allow_nan=False))
    converged = ["converged"] * 3
    assert data["status"] == [["singular", *converged[1:]], converged]
    for name in ("residual", "iterations", "e_icl", "m"):
        assert np.shape(data[name]) == (2, 3)
    assert data["e_icl"][0][0] is None
    assert data["e_icl"][1][2] == solve(Ratios(alpha=2.0, nu=2.0, lam=0.2)).e_icl
