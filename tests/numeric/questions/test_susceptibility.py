"""Linear response of the fluctuations: against sampled resolvents, against derivatives, and at the transition."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from replica_icl import Ratios, Setting, solve
from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.numeric.averages.prompt_nodes import prompt_nodes
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.questions.susceptibility import susceptibility, susceptibility_peak
from replica_icl.simulator.features import draw_features

Z_MAX = 4.0
RAW_BIAS = 0.4
"""Relative bias times D granted to sums of squared resolvent elements over D^2 weights or more (1/D corrections)."""
BIAS = 0.1
"""Relative bias times D granted to chi_SG, the ratio."""


def sampled(setting: Setting, realisations: int, seed: int = 3) -> tuple[Any, Any]:
    """Means over realisations, and their standard errors, of (1/n) tr G, (1/n) tr G^2 and sums of G_ij^2 by block."""
    rows = []
    tokens = slice(0, setting.D**2)
    last = slice(setting.D**2, None)
    for r in range(realisations):
        hessian = draw_features(setting, np.random.default_rng([seed, r])).gram()
        G = np.linalg.inv(hessian + setting.ridge * np.eye(setting.acting_weights))
        blocks = [np.sum(G[a, b] ** 2) for a, b in ((tokens, tokens), (tokens, last), (last, last))]
        rows.append([np.trace(G) / len(G), np.sum(G**2) / len(G), *blocks])
    return np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / math.sqrt(realisations)


@pytest.mark.parametrize(("D", "realisations"), [(10, 300), (20, 30)])
@pytest.mark.parametrize("filling", [0.5, 1.0, 4.0])
def test_the_susceptibility_is_that_of_sampled_prompts(D: int, realisations: int, filling: float) -> None:
    setting = Setting(D=D, N=2 * D, P=round(filling * D * (D + 1)), ridge=0.1 / D)
    found = susceptibility([setting])
    mean, sem = sampled(setting, realisations)
    assert abs(found.raw[0] - mean[1]) < Z_MAX * sem[1] + RAW_BIAS / D * mean[1]
    assert abs(found.blocks[0, 0, 0] - mean[2]) < Z_MAX * sem[2] + RAW_BIAS / D * mean[2]
    for k, (i, j) in ((3, (0, 1)), (4, (1, 1))):  # the last row has D weights only: corrections of order 1/D are larger
        assert abs(found.blocks[0, i, j] - mean[k]) < Z_MAX * sem[k] + 1.5 / D * mean[k]
    ratio = mean[1] / mean[0] ** 2
    spread = ratio * (sem[1] / mean[1] + 2 * sem[0] / mean[0])
    assert abs(found.chi_SG[0] - ratio) < Z_MAX * spread / 2 + BIAS / D * ratio


def test_the_response_is_the_derivative_of_the_traces() -> None:
    """Finite differences of solved saddle points, block ridge by block ridge, against the inverse Jacobian."""
    setting = Setting(D=10, N=20, P=90, ridge=0.01, beta=90.0)
    step = 1e-5
    scale = np.array([90 * 10, 90])
    for j in (0, 1):
        ridges = np.full((2, 2), 0.01)
        ridges[:, j] *= [1 - step, 1 + step]
        moved = solve_finite_size([setting, setting], tolerance=1e-8, block_ridges=ridges)
        traces = scale[:, None] * np.stack([moved.V, moved.V_u])
        slope = (traces[:, 1] - traces[:, 0]) / (2 * step * 0.01)
        np.testing.assert_allclose(susceptibility([setting]).blocks[0][:, j], -slope, rtol=1e-5)


@pytest.mark.parametrize("P", [30, 900])
def test_the_squared_resolvent_is_symmetric_between_the_blocks(P: int) -> None:
    blocks = susceptibility([Setting(D=10, N=15, P=P, ridge=1e-3, noise=0.25)], tolerance=1e-4).blocks[0]
    assert blocks[0, 1] == pytest.approx(blocks[1, 0], rel=1e-10)
    assert np.all(blocks > 0)


def test_the_smallest_stability_eigenvalue_is_that_of_both_blocks() -> None:
    """Of I - X written out, in the units of its definition; the entry of the tokens alone is far off."""
    D, N, P = 20, 40, 420
    setting = Setting(D=D, N=N, P=P, ridge=1e-6, beta=float(P))
    solution = solve_finite_size([setting]).point(0)
    nodes = prompt_nodes(LINEAR_ATTENTION, D, N, 0.0, 1e-8, 1e4)
    V, V_u = solution.V, solution.V_u

    def integrands(T: Any, omega: Any, g: Any, a: Any, l: Any) -> tuple[Any, ...]:  # noqa: E741
        s = 1 / (1 + T * (V * a + V_u * l**2))
        return ((s**2, ((T * a) ** 2, T**2 * a * l**2, (T * l**2) ** 2)),)

    aa, al, ll = (float(x.item()) for x in nodes.average(integrands))
    X = P * np.array([[V**2 / D**2 * aa, V**2 / D**2 * al], [V_u**2 / D * al, V_u**2 / D * ll]])
    smallest = np.min(np.linalg.eigvals(np.eye(2) - X).real)
    assert solution.replicon == pytest.approx(smallest, rel=1e-4)
    assert solution.replicon == pytest.approx(0.0085, abs=5e-5)
    assert 1 - X[0, 0] == pytest.approx(0.056, abs=5e-4)
    assert susceptibility([setting]).replicon[0] == pytest.approx(solution.replicon, rel=1e-9)


def test_with_one_block_the_susceptibility_is_the_inverse_of_the_replicon() -> None:
    """The last row's share of the weights is 1/(D + 1): the two approach each other, and the limit, like 1/D."""
    limit = 1 / solve(Ratios(alpha=1.5, nu=2.0, lam=0.1)).replicon
    sizes = np.array([20, 80, 320])
    found = susceptibility([Setting(D=int(D), N=2 * int(D), P=round(1.5 * D**2), ridge=0.1 / D) for D in sizes])
    gap = np.abs(found.chi_SG - limit)
    assert np.all(gap[:-1] / gap[1:] > 3)
    assert np.all(np.abs(found.chi_SG * found.replicon - 1) < 1.5 / sizes)
    assert gap[-1] < 0.01 * limit


def test_without_interaction_spins_are_independent() -> None:
    """At a ridge that outweighs the prompts the covariance is the identity over beta lambda_0: chi_SG = 1."""
    found = susceptibility([Setting(D=10, N=20, P=100, ridge=1e6)])
    assert found.chi_SG[0] == pytest.approx(1, abs=1e-9)
    assert found.raw[0] == pytest.approx(1e-12, rel=1e-5)
    assert found.trace[0] == pytest.approx(1e-6, rel=1e-5)


def test_temperature_has_no_influence() -> None:
    setting = Setting(D=10, N=20, P=100, ridge=1e-3)
    cold, warm = susceptibility([setting, replace(setting, beta=50.0)]).chi_SG
    assert cold == warm


def test_zero_modes_below_the_transition_and_none_above() -> None:
    """Far below, a ridge that vanishes sees n - P free spins of equal variance: n tr G^2/(tr G)^2 -> 1/(1 - P/n)."""
    below, above = (Setting(D=10, N=20, P=P, ridge=1e-9) for P in (44, 440))
    found = susceptibility([below, above])
    assert found.chi_SG[0] == pytest.approx(1 / (1 - 0.4), rel=1e-4)
    assert found.raw[0] * 1e-18 == pytest.approx(1 - 0.4, rel=1e-4)
    assert found.raw[1] == pytest.approx(susceptibility([replace(above, ridge=0.0)]).raw[0], rel=1e-4)
    with pytest.raises(ParameterError, match="ridge"):
        susceptibility([Setting(D=10, N=20, P=44, ridge=0.0, minimum_norm=True)])


def test_the_peak_grows_to_that_of_the_limit() -> None:
    limit = np.max(1 / solve(Ratios(alpha=np.linspace(0.8, 1.2, 401), nu=2.0, lam=0.01)).replicon)
    peaks = [susceptibility_peak(D, 2 * D, 0.01 / D) for D in (10, 20, 40)]
    heights = np.array([peak.height for peak in peaks])
    assert np.all(np.diff(heights) > 0)
    gap = limit - heights
    assert np.all(gap[:-1] / gap[1:] > 1.6)  # like 1/D
    assert all(abs(peak.relative - 1) < 0.05 for peak in peaks)
    assert all(peak.relative == peak.P / (D * (D + 1)) for peak, D in zip(peaks, (10, 20, 40), strict=True))


def test_the_peak_is_the_largest_value_and_sharpens_as_the_ridge_vanishes() -> None:
    peak = susceptibility_peak(10, 20, 1e-3)
    grid = [Setting(D=10, N=20, P=P, ridge=1e-3) for P in range(104, 121)]
    values = susceptibility(grid).chi_SG
    assert grid[int(np.argmax(values))].P == peak.P
    assert values.max() == pytest.approx(peak.height, rel=1e-6)
    softer = susceptibility_peak(10, 20, 1e-5)
    assert softer.height > 4 * peak.height
    assert abs(softer.relative - 1) <= abs(peak.relative - 1)
    with pytest.raises(ParameterError, match="ridge"):
        susceptibility_peak(10, 20, 0.0)


def test_a_setting_that_did_not_converge_has_no_values() -> None:
    settings = [Setting(D=10, N=20, P=110, ridge=0.0), Setting(D=10, N=20, P=200, ridge=1e-3)]
    found = susceptibility(settings)
    assert found.status[0] != 0
    assert found.status[1] == 0
    assert np.isnan([found.chi_SG[0], found.raw[0], found.trace[0], found.replicon[0]]).all()
    assert np.isfinite(found.chi_SG[1])
