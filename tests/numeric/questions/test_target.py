"""The smallest size that reaches an error, against a scan of every integer in range."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replica_icl import ParameterError, Ratios, Setting, solve
from replica_icl.errors import SolveError
from replica_icl.numeric.questions.crossing import Axis
from replica_icl.numeric.questions.target import smallest_value
from replica_icl.numeric.solution import Solution, Status, solution_of

FRESH = Setting(D=20, N=40, P=300, ridge=0.05, noise=0.1)
PEAKED = replace(FRESH, N=200, ridge=1e-6)  # e_icl over P falls, peaks near P = D^2 (in the limit) and falls again
DIVERSE = Setting(D=20, N=40, P=600, ridge=1e-3, noise=0.1, K=12)


@cache
def every(
    setting: Setting, parameter: str, least: int, largest: int, level: str, tolerance: float | None = None
) -> np.ndarray:
    """e_icl at every integer of a range."""
    points = replace(setting, **{parameter: np.arange(least, largest + 1)})
    return np.asarray(solve(points, level=level, tolerance=tolerance).e_icl)


def first_of_all(errors: np.ndarray, least: int, target: float) -> int:
    return least + int(np.argmax(errors <= target))


@pytest.mark.parametrize("position", [0.03, 0.3, 0.8])
def test_the_smallest_P_is_that_of_a_scan_of_every_integer(position: float) -> None:
    errors = every(FRESH, "P", 1, 400, "finite-size")
    target = float(errors.min() + position * (errors.max() - errors.min()))
    found = smallest_value(FRESH, target, "P")
    assert found.value == first_of_all(errors, 1, target)
    assert found.solution.e_icl <= target
    assert found.solution.level == "finite-size"


def test_the_smallest_N_is_that_of_a_scan_of_every_integer() -> None:
    target = 1.05
    errors = every(replace(FRESH, ridge=0.5), "N", 2, 30, "finite-size", 1e-4)
    assert errors.min() < 1.04
    found = smallest_value(replace(FRESH, ridge=0.5), target, "N", tolerance=1e-4)
    assert found.value == first_of_all(errors, 2, target)


@settings(max_examples=25, deadline=None)
@given(position=st.floats(0.0, 1.0))
def test_a_target_on_a_curve_with_a_peak_is_reached_at_the_first_size_of_all(position: float) -> None:
    errors = every(PEAKED, "P", 1, 2000, "limit")
    target = float(errors.min() + position * (errors[:2000].max() - errors.min()))
    assert smallest_value(PEAKED, target, "P", level="limit").value == first_of_all(errors, 1, target)


def test_a_dip_before_the_peak_is_found_although_larger_sizes_miss_the_target() -> None:
    """A bisection between the ends of the range would answer with a size behind the peak."""
    errors = every(PEAKED, "P", 1, 2000, "limit")
    dip = int(np.argmin(errors[:390])) + 1
    target = float(errors[dip - 1])  # reached at one single size before the peak
    assert 1 < dip < 390
    assert errors[399] > 2 * target
    assert smallest_value(PEAKED, target, "P", level="limit").value == dip
    assert smallest_value(PEAKED, float(np.nextafter(target, 0)), "P", level="limit").value > 400


@settings(max_examples=20, deadline=None)
@given(position=st.floats(0.001, 1.2), K=st.integers(1, 60), parameter=st.sampled_from(["P", "N", "K"]))
def test_the_smallest_size_with_few_tasks_is_that_of_a_scan(position: float, K: int, parameter: str) -> None:
    setting = replace(DIVERSE, K=None if parameter == "K" else K)
    least, largest = {"P": (K, 2000), "N": (2, 2000), "K": (1, 600)}[parameter]
    errors = every(setting, parameter, least, largest, "limit")
    target = float(errors.min() + position * (errors.max() - errors.min()))
    found = smallest_value(setting, target, parameter)
    assert found.value == first_of_all(errors, least, target)
    assert found.solution.level == "limit"
    assert found.floor <= errors.min() * (1 + 1e-12)


def test_few_tasks_make_a_longer_context_worse_and_the_floor_is_inside() -> None:
    setting = replace(DIVERSE, P=200, K=10, ridge=5e-4, noise=0.5)
    errors = every(setting, "N", 2, 2000, "limit")
    best = int(np.argmin(errors)) + 2
    assert 10 < best < 200
    assert errors[-1] > 1.05 * errors.min()
    with pytest.raises(ParameterError, match=f"floor {float(errors.min())!r}.*at N = {best}"):
        smallest_value(setting, float(errors.min()) * (1 - 1e-9), "N")
    assert smallest_value(setting, float(errors.min()), "N").value == best


@pytest.mark.parametrize("parameter", ["P", "N"])
def test_a_target_below_the_floor_names_it(parameter: str) -> None:
    setting = replace(FRESH, ridge=0.5)
    end = solve(replace(setting, **{parameter: 10**15}), level="limit").e_icl
    with pytest.raises(ParameterError, match=f"{end!r}.*approached as {parameter} grows") as caught:
        smallest_value(setting, end * (1 - 1e-6), parameter, level="limit")
    assert caught.value.parameter == "target_error"
    # e_icl - floor falls like 1/P or 1/N: a hundred times nearer takes a hundred times more.
    sizes = [smallest_value(setting, end * (1 + x), parameter, level="limit").value for x in (1e-3, 1e-5)]
    assert sizes[1] / sizes[0] == pytest.approx(100, rel=0.02)


def test_the_floor_at_finite_size_is_the_ridge_solution_of_the_exact_average_energy() -> None:
    """Many prompts: W_ii = 1 / (G + lambda_0 D), with G = D E c_i^2, and E c_i w_i / sqrt(D) = 1/D."""
    D, N, rho, ridge = FRESH.D, FRESH.N, FRESH.noise, FRESH.ridge
    G = 1 + (D + 1 + rho * D) / N
    m = 1 / (G + ridge * D)
    with pytest.raises(ParameterError) as caught:
        smallest_value(FRESH, 0.1, "P")
    floor = float(caught.value.allowed.split("floor ")[1].split(",")[0])
    assert floor == pytest.approx(1 + rho - 2 * m + G * m**2, rel=1e-6)


def test_the_floor_of_many_tasks_is_that_of_one_task_per_prompt() -> None:
    setting = Setting(D=20, N=40, P=600, ridge=1e-3, noise=0.1)
    end = solve(replace(setting, K=600), level="limit").e_icl
    with pytest.raises(ParameterError, match=f"{end!r}.*at K = 600"):
        smallest_value(setting, 0.5, "K")


def test_a_target_that_every_size_reaches_is_answered_by_the_smallest() -> None:
    assert smallest_value(FRESH, 1e3, "P").value == 1
    assert smallest_value(FRESH, 1e3, "N", level="limit").value == 2
    assert smallest_value(DIVERSE, 1e3, "P").value == DIVERSE.K
    assert smallest_value(FRESH, 1e3, "P", level="limit").value == 1


def test_without_a_ridge_P_starts_where_the_ground_state_is_unique() -> None:
    bare = replace(FRESH, ridge=0.0, P=500)
    assert smallest_value(bare, 1e9, "P", level="limit").value == 421
    assert smallest_value(replace(bare, minimum_norm=True), 1e9, "P", level="limit").value == 1


@pytest.mark.parametrize("target", [0.6, 1.0, 1.3])
@pytest.mark.parametrize("parameter", ["alpha", "nu", "kappa"])
@pytest.mark.parametrize("point", [Ratios(1.5, 2.0, 0.1, 0.1), Ratios(0.8, 2.0, 1e-4, 0.1, kappa=3.0)])
def test_ratios_reach_the_target_where_a_fine_scan_does(point: Ratios, parameter: str, target: float) -> None:
    values = np.geomspace(1e-3, 1e4, 200_001)
    errors = solve(replace(point, **{parameter: values})).e_icl
    if errors.min() > target:
        with pytest.raises(ParameterError, match="floor"):
            smallest_value(point, target, parameter)
        return
    found = smallest_value(point, target, parameter)
    first = int(np.argmax(errors <= target))
    assert found.solution.e_icl <= target
    if first == 0:
        assert found.value <= values[0]
    else:
        assert values[first - 1] < found.value <= values[first]
        below = solve(replace(point, **{parameter: found.value * (1 - 1e-11)})).e_icl
        assert below > target


def test_ratios_of_the_closed_form_without_ridge() -> None:
    """lam = 0, alpha > 1: e_icl = (1 + rho - 1/a) alpha / (alpha - 1) at fresh tasks."""
    a = 1 + 1.1 / 2.0
    bare = 1.1 - 1 / a
    found = smallest_value(Ratios(alpha=7.0, nu=2.0, lam=0.0, noise=0.1), 2 * bare, "alpha")
    assert found.value == pytest.approx(2.0, rel=1e-10)
    assert found.floor == pytest.approx(bare, rel=1e-11)


def test_the_answer_carries_the_solution_at_it() -> None:
    found = smallest_value(FRESH, 0.9, "P", level="limit")
    assert found.solution == solve(replace(FRESH, P=found.value), level="limit")
    head = {"P": found.value, "target_error": 0.9, "floor": found.floor}
    assert found.to_dict() == head | found.solution.to_dict()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"target_error": 0.0}, "target_error = 0.0: must be a positive number"),
        ({"target_error": -1.0}, "target_error = -1.0"),
        ({"target_error": float("nan")}, "target_error = nan"),
        ({"sought": "D"}, "for = D: must be P, N, K with raw numbers"),
        ({"sought": "alpha"}, "for = alpha: must be P, N, K with raw numbers"),
        ({"level": "given-tasks"}, "level = given-tasks: must be finite-size or limit"),
        ({"level": "finite-size", "sought": "K"}, "level = finite-size: must be limit"),
        ({"level": "finite-size", "point": DIVERSE}, "level = finite-size: must be limit"),
    ],
)
def test_bad_questions_are_named(change: dict[str, object], named: str) -> None:
    question = {"point": FRESH, "target_error": 1.0, "sought": "P"} | change
    with pytest.raises(ParameterError, match=named):
        smallest_value(**question)


@pytest.mark.parametrize(
    ("point", "parameter", "named"),
    [
        (Ratios(1.0, 2.0, 0.1), "P", "for = P: must be alpha, nu, kappa with ratios"),
        (Ratios(np.ones(2), 2.0, 0.1), "nu", "must be one point"),
    ],
)
def test_bad_questions_about_ratios_are_named(point: Ratios, parameter: str, named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        smallest_value(point, 1.0, parameter)


def _axis_of(errors: np.ndarray, grid: list[float]) -> Axis:
    """An axis of integers 1, 2, ... with prescribed errors; NaN ones have no solution."""

    def solved(values: np.ndarray, _: float) -> Solution:
        e = errors[values.astype(int) - 1]
        status = np.where(np.isfinite(e), Status.CONVERGED, Status.SINGULAR)
        names = ("e_icl", "train_error", "m", "q", "contrast", "replicon")
        return solution_of("limit", status, 0.0, 0, dict.fromkeys(names, e), e.shape)

    return Axis(np.array(grid), solved, integer=True, sections=3)


def test_a_minimum_between_grid_points_is_seen_and_a_point_without_solution_is_no_answer() -> None:
    n = np.arange(1, 101)
    errors = 1 + (np.log(n / 30.0)) ** 2
    axis = _axis_of(errors, [1.0, 10.0, 20.0, 50.0, 100.0])
    assert axis.floor() == (errors[29], 30.0)
    assert axis.first(1.001) == 30.0
    assert axis.first(float(errors[26])) == 27.0
    assert axis.first(0.9) is None
    errors[28:31] = np.nan
    assert _axis_of(errors, [1.0, 10.0, 20.0, 50.0, 100.0]).first(1.05) == 24.0


def test_nothing_solved_is_an_error_and_no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "replica_icl.numeric.questions.target.Errors.of_point",
        lambda self, points, level, **_: _axis_of(np.full(10**4, np.nan), []).solved(np.ones(points.shape), 0.0),
    )
    with pytest.raises(SolveError, match="singular"):
        smallest_value(FRESH, 1.0, "P")
