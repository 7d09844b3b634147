"""Theory against simulation: what counts as agreement, and that the limit is the limit of the simulator."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.meeting.validation import Z_MAX, Comparison, Extrapolation, compare, extrapolate, validate
from replica_icl.numeric.solve import solve
from replica_icl.ratios import Ratios, setting_at
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate

SMALL = Setting(D=6, N=12, P=72, ridge=0.05)


def test_agreement_means_four_standard_errors_either_way() -> None:
    assert Z_MAX == 4.0
    for sign in (1, -1):
        assert Comparison("m", 1.0, 1.0 + sign * 0.39, 0.1).agrees
        assert not Comparison("m", 1.0, 1.0 + sign * 0.41, 0.1).agrees
        assert Comparison("m", 1.0, 1.0 + sign * 0.3, 0.1).z == pytest.approx(sign * 3)


def test_an_allowance_widens_the_band_by_its_own_size() -> None:
    assert Comparison("m", 1.0, 1.44, 0.1, allowance=0.05).agrees
    assert not Comparison("m", 1.0, 1.46, 0.1, allowance=0.05).agrees


@pytest.mark.parametrize("values", [(math.nan, 1.0, 0.1), (1.0, math.nan, 0.1), (1.0, 1.0, math.nan)])
def test_nan_never_agrees(values: tuple[float, float, float]) -> None:
    assert not Comparison("m", *values).agrees


def test_a_simulation_without_spread_agrees_with_its_own_value_only() -> None:
    assert Comparison("train_error", 0.0, 0.0, 0.0).agrees
    other = Comparison("train_error", 0.0, 1.0, 0.0)
    assert not other.agrees
    assert other.z == math.inf


def test_one_realisation_cannot_be_compared() -> None:
    solution = solve(SMALL, level="limit")
    with pytest.raises(ParameterError, match=r"realisations = 1: must be at least 2") as caught:
        compare(solution, simulate(SMALL, 1))
    assert caught.value.parameter == "realisations"
    with pytest.raises(ParameterError, match=r"realisations = 1: must be an integer of at least 2"):
        validate(SMALL, realisations=1)


def test_every_observable_of_both_sides_is_compared_and_no_other() -> None:
    solution, ensemble = solve(SMALL, level="limit"), simulate(SMALL, 3)
    rows = compare(solution, ensemble, relative_bias=0.1)
    assert {row.observable for row in rows} == {"e_icl", "e_idg", "train_error", "m", "q", "contrast"}
    for row in rows:
        assert row.theory == solution.observables()[row.observable]
        assert (row.simulation, row.sem) == (ensemble[row.observable].mean, ensemble[row.observable].sem)
        assert row.allowance == pytest.approx(0.1 * row.theory, rel=1e-8)


def test_rounding_of_an_interpolating_solution_is_no_disagreement() -> None:
    """At ridge 0 below the transition the training error is 0 in theory and rounding noise in a simulation."""
    setting = Setting(D=6, N=12, P=18, ridge=0.0, minimum_norm=True)
    rows = {row.observable: row for row in compare(solve(setting, level="limit"), simulate(setting, 4))}
    assert rows["train_error"].theory == 0
    assert 0 < rows["train_error"].simulation < 1e-20
    assert rows["train_error"].agrees


def test_the_limit_disagrees_at_twenty_dimensions_and_says_so() -> None:
    """Replacing fluctuating prompt norms by their means costs 5-20 % of e_icl at D = 20."""
    result = validate(Setting(D=20, N=40, P=800, ridge=0.01), realisations=40, seed=5, level="limit", workers=1)
    row = next(row for row in result.rows if row.observable == "e_icl")
    assert 0.05 < (row.simulation - row.theory) / row.theory < 0.20
    assert row.z > Z_MAX
    assert not row.agrees
    assert not result.agrees
    (line,) = (line for line in result.table().splitlines() if line.startswith("e_icl"))
    assert line.endswith("disagrees")


def test_a_validation_is_strict_json_with_both_sides_and_the_verdict() -> None:
    setting = Setting(D=4, N=8, P=8, ridge=0.0, minimum_norm=True)
    data = json.loads(
        json.dumps(validate(setting, realisations=2, level="limit", workers=1).to_dict(), allow_nan=False)
    )
    assert set(data) == {"theory", "simulation", "comparison", "agrees"}
    assert isinstance(data["agrees"], bool)
    assert set(data["comparison"]["e_icl"]) == {"z", "agrees"}
    assert set(data["simulation"]["e_icl"]) == {"mean", "sem", "spread", "n"}
    assert data["theory"]["status"] == "converged"


def test_extrapolation_recovers_a_known_expansion_in_inverse_dimension() -> None:
    sizes = [8, 10, 12, 16, 24]
    fit = extrapolate(sizes, [0.7 - 2.0 / D + 5.0 / D**2 for D in sizes], [0.01, 0.02, 0.01, 0.03, 0.02])
    assert fit.value == pytest.approx(0.7, rel=1e-10)
    assert fit.slopes == pytest.approx((-2.0, 5.0), rel=1e-9)
    assert fit.chi2_per_dof == pytest.approx(0.0, abs=1e-18)


def test_the_standard_error_of_an_extrapolation_is_its_scatter_over_repeated_experiments() -> None:
    """Over R = 2000 repeats a standard deviation is known to 1/sqrt(2R), a mean of chi2/dof to sqrt(2/(2 R))."""
    sizes, repeats = [10, 14, 20, 30, 42], 2000
    sems = np.array([0.02, 0.01, 0.015, 0.01, 0.005])
    truth = np.array([1.0 + 3.0 / D for D in sizes])
    rng = np.random.default_rng(11)
    fits = [extrapolate(sizes, truth + sems * rng.standard_normal(5), sems) for _ in range(repeats)]
    values = np.array([fit.value for fit in fits])
    assert np.std(values) / fits[0].sem == pytest.approx(1, abs=4 / math.sqrt(2 * repeats))
    assert abs(values.mean() - 1.0) < 4 * fits[0].sem / math.sqrt(repeats)
    assert np.mean([fit.chi2_per_dof for fit in fits]) == pytest.approx(1, abs=4 / math.sqrt(repeats))


@pytest.mark.parametrize("sizes", [[10, 20, 30], [10, 10, 20, 30], [10] * 6])
def test_three_sizes_cannot_judge_a_fit_with_three_coefficients(sizes: list[int]) -> None:
    with pytest.raises(ParameterError, match="at least 4 different D") as caught:
        extrapolate(sizes, [1.0] * len(sizes), [0.1] * len(sizes))
    assert caught.value.parameter == "sizes"


# The limit is the limit: measured at growing D at fixed ratios, extrapolated to D = infinity by a weighted fit in 1/D
# and 1/D^2, an observable is within Z_MAX of its standard errors of the limit theory.
#
# Number of realisations, fixed beforehand: one realisation scatters in e_icl by at most 1.2/D of its mean (pilot on
# another seed, D = 10 .. 60), so budget / D^2 realisations have a standard error of 1.2 / sqrt(budget) at every D:
# 0.27 % for the long test (budget 2 10^5), 0.7 % for the fast one (3 10^4).

EXTRAPOLATED = ("e_icl", "m", "train_error")


def extrapolated_to_the_limit(
    point: Ratios, sizes: list[int], budget: float, seed: int, workers: int | None
) -> dict[str, Extrapolation]:
    """Simulate `point` at each D and extrapolate; also refuses the premise that there is nothing to extrapolate."""
    theory = solve(point)
    ensembles = [simulate(setting_at(point, D), round(budget / D**2), seed=seed, workers=workers) for D in sizes]
    smallest = {row.observable: row for row in compare(theory, ensembles[0])}
    assert not smallest["e_icl"].agrees
    fits = {}
    print(f"\nalpha = {point.alpha}, nu = {point.nu}, lam = {point.lam}, D = {sizes}, budget {budget:g}, seed {seed}")
    for name in EXTRAPOLATED:
        estimates = [ensemble[name] for ensemble in ensembles]
        fits[name] = fit = extrapolate(sizes, [x.mean for x in estimates], [x.sem or math.nan for x in estimates])
        predicted = theory.observables()[name]
        z = (fit.value - predicted) / fit.sem
        print(
            f"{name:<12} limit {predicted:.6f}  extrapolated {fit.value:.6f} +- {fit.sem:.6f}  z = {z:+.2f}"
            f"  chi2/dof = {fit.chi2_per_dof:.2f}  at D = {sizes[0]}: {estimates[0].mean:.4f}, "
            f"at D = {sizes[-1]}: {estimates[-1].mean:.4f} +- {estimates[-1].sem:.4f}"
        )
    return fits


def test_the_discrepancy_of_the_limit_vanishes_with_growing_dimension() -> None:
    point = Ratios(alpha=2.0, nu=2.0, lam=0.2)
    fits = extrapolated_to_the_limit(point, [8, 10, 12, 16, 20, 24], 3e4, seed=7, workers=1)
    predicted = solve(point).observables()
    for name, fit in fits.items():
        assert abs(fit.value - predicted[name]) < Z_MAX * fit.sem, name


@pytest.mark.long
@pytest.mark.parametrize(("alpha", "lam"), [(0.5, 0.1), (1.0, 0.5), (2.0, 0.2)], ids=["below", "at", "above"])
def test_the_discrepancy_of_the_limit_vanishes_on_both_sides_of_the_transition(alpha: float, lam: float) -> None:
    point = Ratios(alpha=alpha, nu=2.0, lam=lam)
    fits = extrapolated_to_the_limit(point, [10, 14, 20, 30, 42, 60], 2e5, seed=2024, workers=None)
    predicted = solve(point).observables()
    missed = {name: fit for name, fit in fits.items() if not abs(fit.value - predicted[name]) < Z_MAX * fit.sem}
    assert not missed


def test_a_failed_theory_point_never_agrees() -> None:
    setting = Setting(D=6, N=12, P=42, ridge=0.05)
    solution = solve(setting, level="limit")
    failed = replace(solution, values={**solution.values, "e_icl": math.nan})
    rows = {row.observable: row for row in compare(failed, simulate(setting, 3))}
    assert not rows["e_icl"].agrees
