"""Eigenvalue densities against sampled matrices, and against what the resolvent has to satisfy exactly."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import sympy as sp
from models import changed_model, times_nan
from numpy.typing import NDArray

from replica_icl import Setting
from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.narration.checks import agree
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.questions import spectrum
from replica_icl.numeric.questions.spectrum import hessian_cdf, hessian_density, token_density
from replica_icl.numeric.solution import Status
from replica_icl.simulator.features import draw_features
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import concentrate
from replica_icl.theory.fresh_tasks import derive_fresh_tasks, field, in_response_units, last_row_field, unit
from replica_icl.theory.hessian_spectrum import trace_log

Array = NDArray[np.floating[Any]]

KS_MAX = 0.3
"""Bound on the Kolmogorov-Smirnov distance times D, fixed beforehand: 0.03 at D = 10, 0.015 at D = 20."""


def sampled(setting: Setting, realisations: int, seed: int) -> Array:
    """Nonzero eigenvalues of S over realisations of token-level prompts, sorted."""
    found = []
    for r in range(realisations):
        features = draw_features(setting, np.random.default_rng([seed, r]))
        dual = setting.P < setting.acting_weights
        found.append(np.linalg.eigvalsh(features.kernel() / setting.P if dual else features.gram()))
    return np.sort(np.concatenate(found))


def distance(values: Array, cdf: Array) -> float:
    """Kolmogorov-Smirnov distance of sorted values from a law with `cdf` at them."""
    steps = np.arange(len(values) + 1) / len(values)
    return float(max(np.max(steps[1:] - cdf), np.max(cdf - steps[:-1])))


def hessian_distance(setting: Setting, values: Array) -> float:
    """Distance of sampled nonzero eigenvalues from the theory's law of nonzero eigenvalues."""
    x = np.geomspace(values[0] / 1.2, values[-1] * 1.2, 120)
    found = hessian_density(setting, x)
    assert np.all(found.status == Status.CONVERGED)
    cdf = np.interp(np.log(values), np.log(x), found.cdf)
    return distance(values, (cdf - found.zero_weight) / (1 - found.zero_weight))


@pytest.mark.parametrize(("D", "realisations"), [(10, 60), (20, 10)])
@pytest.mark.parametrize(("filling", "noise"), [(0.4, 0.25), (1.0, 0.0), (4.0, 0.0)])
def test_the_hessian_has_the_eigenvalues_of_the_theory(D: int, realisations: int, filling: float, noise: float) -> None:
    setting = Setting(D=D, N=2 * D, P=round(filling * D * (D + 1)), ridge=1.0, noise=noise)
    assert hessian_distance(setting, sampled(setting, realisations, seed=1)) < KS_MAX / D


def test_the_distance_tells_another_number_of_prompts() -> None:
    setting = Setting(D=10, N=20, P=110, ridge=1.0)
    values = sampled(Setting(D=10, N=20, P=140, ridge=1.0), 40, seed=1)
    assert hessian_distance(setting, values) > KS_MAX / 10


def test_the_last_row_holds_the_large_eigenvalues() -> None:
    """Eigenvectors' weight on the last row, sampled, against the last row's share of the resolvent."""
    setting = Setting(D=20, N=80, P=1680, ridge=1.0)
    last = np.arange(setting.acting_weights) >= setting.D**2
    values, shares = [], []
    for r in range(6):
        found, vectors = np.linalg.eigh(draw_features(setting, np.random.default_rng([2, r])).gram())
        values.append(found)
        shares.append(np.sum(vectors[last] ** 2, axis=0))
    edges = np.array([1e-3, 0.05, 0.3, 0.6, 1.0, 1.6])
    counted, _ = np.histogram(np.concatenate(values), edges, weights=np.concatenate(shares))
    predicted = []
    for low, high in pairwise(edges):
        x = np.linspace(low, high, 41)
        predicted.append(np.trapezoid(hessian_density(setting, x).last_row_density, x) * setting.acting_weights)
    assert sum(predicted) == pytest.approx(setting.D, rel=0.05)  # D modes, most of them in these bins
    np.testing.assert_allclose(counted / 6, predicted, atol=0.03 * setting.D)
    assert sum(predicted[2:]) > 0.9 * setting.D  # and far above the bulk, which ends near 0.3
    assert 1 - hessian_cdf(setting, [0.3])[0] == pytest.approx(1 / (setting.D + 1), rel=0.15)


@pytest.mark.parametrize(("P", "noise"), [(15, 0.0), (60, 0.25), (109, 0.0)])
def test_zero_modes_have_their_exact_weight(P: int, noise: float) -> None:
    """The weight is a theorem of linear algebra; the free entropy at complex ridge finds it by itself."""
    found = hessian_density(Setting(D=10, N=20, P=P, ridge=1.0, noise=noise), [1e-7])
    assert found.zero_weight == 1 - P / 110
    assert found.cdf[0] == pytest.approx(found.zero_weight, abs=1e-5)
    assert hessian_density(Setting(D=10, N=20, P=110, ridge=1.0), [1.0]).zero_weight == 0


def test_the_density_is_the_derivative_of_the_counting_function() -> None:
    """Both from one saddle point, one by the resolvent and one by the free entropy: no code in common."""
    for P in (60, 300):
        x = np.geomspace(0.02, 3, 12)
        step = 1e-3 * x
        setting = Setting(D=10, N=15, P=P, ridge=1.0, noise=0.25)
        slope = (hessian_cdf(setting, x + step) - hessian_cdf(setting, x - step)) / (2 * step)
        np.testing.assert_allclose(hessian_density(setting, x).density, slope, rtol=1e-4, atol=1e-6)


def test_the_density_reproduces_the_traces() -> None:
    """(1/n) tr S = (D a + D <l^2>) / n per prompt, exactly, with the moments of the prompt law written out."""
    D, N = 10, 20
    setting = Setting(D=D, N=N, P=200, ridge=1.0)
    x = np.geomspace(1e-5, 20, 400)
    found = hessian_density(setting, x)
    mean = np.trapezoid(found.density * x * x, np.log(x))
    exact = (1 + (D + 1) / N + (1 + 2 / N) * (1 + 2 / D)) / (D + 1)
    assert mean == pytest.approx(exact, rel=1e-3)
    assert np.trapezoid(found.density * x, np.log(x)) == pytest.approx(1, abs=1e-4)


def test_the_answer_does_not_depend_on_the_contour(monkeypatch: pytest.MonkeyPatch) -> None:
    setting, x = Setting(D=10, N=20, P=60, ridge=1.0), np.geomspace(0.01, 5, 15)
    found = hessian_density(setting, x)
    monkeypatch.setattr(spectrum, "_angle", lambda D: 0.55)
    np.testing.assert_allclose(hessian_density(setting, x).density, found.density, rtol=1e-4)


def test_off_the_axis_it_is_the_resolvent_of_the_sampled_matrix() -> None:
    """A Lorentzian average of the sampled spectrum, zero modes included, and the same eta in theory."""
    setting, eta = Setting(D=10, N=20, P=60, ridge=1.0), 0.05
    n, x = setting.acting_weights, np.array([0.01, 0.1, 0.3, 1.0])
    traces = []
    for r in range(200):
        values = sampled(setting, 1, seed=100 + r)
        zeros = (n - len(values)) / (0 - x - 1j * eta)
        traces.append((np.sum(1 / (values - x[:, None] - 1j * eta), axis=1) + zeros).imag / (np.pi * n))
    mean, sem = np.mean(traces, axis=0), np.std(traces, axis=0, ddof=1) / math.sqrt(200)
    found = hessian_density(setting, x, eta=eta)
    assert found.eta == eta
    assert np.all(np.abs(found.density - mean) < 4 * sem + 0.1 / setting.D * mean)


def test_at_a_ridge_the_counting_function_is_the_determinant() -> None:
    """tr log(S + lambda_0) from the lowered free entropy, against token-level prompts."""
    setting = Setting(D=10, N=20, P=150, ridge=0.02)
    solution = solve_finite_size([Setting(D=10, N=20, P=150, ridge=0.02, beta=150.0)])
    average = spectrum.ray_nodes(LINEAR_ATTENTION, 10, 20, 0.0, 0.7).average
    V, V_u = (np.full((1, 1), value[0]) for value in (solution.V, solution.V_u))
    found = LINEAR_ATTENTION.hessian_spectrum.log_determinant(
        spectrum.NUMPY, average, V=V, V_u=V_u, D=10.0, P=150.0, field=0.02
    ).trace_log.item()
    assert abs(found.imag) < 1e-3
    exact = [
        np.linalg.slogdet(draw_features(setting, np.random.default_rng([4, r])).gram() + 0.02 * np.eye(110))[1]
        for r in range(200)
    ]
    assert abs(found.real - np.mean(exact)) < 4 * np.std(exact, ddof=1) / math.sqrt(200) + 0.01 * 100


def test_the_determinant_is_stationary_at_the_saddle_point_of_the_full_theory() -> None:
    volume = trace_log()
    equations = in_response_units(derive_fresh_tasks()).saddle.equations
    one_ridge = {unit: sp.S.One, last_row_field: field}
    for fluctuation, conjugate in ((s.V, s.q), (s.V_u, s.u)):
        assert agree(volume.diff(fluctuation), -2 * equations[conjugate].subs(one_ridge))
    # Without features, V = V_u = D / (P lambda_0) and S + lambda_0 is lambda_0 times the identity.
    resting = volume.subs({s.V: s.D / (s.P * field), s.V_u: s.D / (s.P * field)})
    assert agree(concentrate(resting, {x: sp.S.Zero for x in s.SCALARS}), s.D * (s.D + 1) * sp.log(field))


def test_every_status_but_convergence_has_no_values() -> None:
    setting, x = Setting(D=10, N=20, P=60, ridge=1.0), [0.1, 0.5]

    def broken(change: Any) -> Model:
        def fluctuations(xp: Any, average: Any, **arguments: Any) -> Any:
            return change(LINEAR_ATTENTION.fresh_tasks.fluctuations(xp, average, **arguments))

        return changed_model("fresh_tasks", fluctuations=fluctuations)

    def never_balanced(out: Any) -> Any:
        """Off the real axis only, so that the start from the real one is good."""
        tokens, last_row = out.left
        return out._replace(left=(0 * tokens + 1e-3, last_row)) if np.iscomplexobj(tokens) else out

    for change, status in ((times_nan, Status.NON_FINITE), (never_balanced, Status.MAX_ITERATIONS)):
        found = hessian_density(setting, x, model=broken(change))
        assert np.all(found.status == status)
        assert np.all(np.isnan(found.density))
        assert np.all(np.isnan(found.cdf))


def test_a_negative_density_is_inadmissible() -> None:
    above, below = np.array([[0.5j, 1.0j]]), np.array([[0.5j, -0.1j]])
    assert spectrum._admissible(above, 1e-5).tolist() == [True]
    assert spectrum._admissible(below, 1e-5).tolist() == [False]


def test_bad_points_are_refused() -> None:
    setting = Setting(D=10, N=20, P=60, ridge=1.0)
    for x in ([0.0], [-1.0], [math.nan], [[1.0]]):
        with pytest.raises(ParameterError, match=r"^x = .* must be positive"):
            hessian_density(setting, x)
    with pytest.raises(ParameterError, match="eta"):
        hessian_density(setting, [1.0], eta=-0.1)
    with pytest.raises(ParameterError, match="K"):
        hessian_density(Setting(D=10, N=20, P=60, ridge=1.0, K=5), [1.0])


@pytest.mark.parametrize(("D", "N"), [(20, 60), (20, 20), (20, 10)])
def test_tokens_of_a_prompt_follow_marchenko_and_pastur(D: int, N: int) -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        X = rng.standard_normal((D, N))
        found.append(np.linalg.eigvalsh(X.T @ X if N < D else X @ X.T) / N)
    values = np.sort(np.concatenate(found))
    law = token_density(D, N, values)
    assert distance(values, (law.cdf - law.zero_weight) / (1 - law.zero_weight)) < 0.6 / D


@pytest.mark.parametrize(("D", "N"), [(20, 60), (20, 20), (20, 10), (1, 1000)])
def test_the_token_law_is_normalised_and_its_cdf_is_its_integral(D: int, N: int) -> None:
    law = token_density(D, N, [0.5])
    low, high = law.edges
    # Substituting the middle of the support plus its half-width times a cosine takes the edges' roots away.
    angle = np.linspace(0, np.pi, 20001)[1:-1]
    x = (low + high) / 2 - (high - low) / 2 * np.cos(angle)
    density = token_density(D, N, x).density * np.sin(angle) * (high - low) / 2
    assert np.sum(density) * np.pi / 20000 == pytest.approx(1 - law.zero_weight, rel=1e-3)
    assert law.zero_weight == max(0.0, 1 - N / D)
    x = np.linspace(low + 0.2 * (high - low), high - 0.1 * (high - low), 9)
    step = 1e-6 * (high - low)
    slope = (token_density(D, N, x + step).cdf - token_density(D, N, x - step).cdf) / (2 * step)
    np.testing.assert_allclose(token_density(D, N, x).density, slope, rtol=1e-6)
    outside = token_density(D, N, [-1.0, high + 1])
    assert outside.density.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(outside.cdf, [0.0, 1.0], atol=1e-14)
    with pytest.raises(ParameterError, match="N"):
        token_density(D, 0, [1.0])
