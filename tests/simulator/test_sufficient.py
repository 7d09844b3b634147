"""Prompts from sufficient statistics have the law of prompts token by token."""

import numpy as np
import pytest
import sympy as sp
from scipy.stats import ks_2samp

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.features import Features, draw_features
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.observables import Estimate, icl_error, idg_error
from replica_icl.simulator.sufficient import draw_contexts, draw_statistics
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.moments import context_moment, scalar_moment

Z_MAX = 4.0
KS_MAX = 1.95
"""Two-sample Kolmogorov-Smirnov distance in units of sqrt(2/n) that equal laws exceed once in a thousand times."""
SUFFICIENT = PromptLaw.of("sufficient")
FOURTH_ORDER = [
    (a, n, c) for a in range(5) for n in range(3) for c in range(5) if 0 < a + 2 * n + c <= 4
]  # order in the entries of c~


@pytest.mark.parametrize(("D", "N", "noise"), [(5, 2, 0.0), (3, 7, 0.4)])
def test_joint_moments_to_fourth_order_are_the_symbolic_ones(D: int, N: int, noise: float) -> None:
    rng, n = np.random.default_rng(0), 400_000
    tasks = rng.standard_normal((n, D))
    context = draw_contexts(tasks, N, noise, rng)
    aligned = np.einsum("ij,ij->i", context[:, :D], tasks) / np.sqrt(D)
    norm, corner = np.sum(context[:, :D] ** 2, axis=1), context[:, D]
    numbers = {s.D: D, s.N: N, s.noise: sp.Rational(str(noise))}
    for powers in FOURTH_ORDER:
        values = aligned ** powers[0] * norm ** powers[1] * corner ** powers[2]
        measured, exact = Estimate.of(values), float(context_moment(*powers).subs(numbers))
        assert measured.sem is not None
        assert abs(measured.mean - exact) < Z_MAX * measured.sem, powers
    weighted = Estimate.of(np.sum(tasks**2, axis=1) / D * aligned * corner)
    assert weighted.sem is not None
    exact = float(scalar_moment(s.task_norm, s.aligned, s.corner).subs(numbers))
    assert abs(weighted.mean - exact) < Z_MAX * weighted.sem


def scalars(features: Features) -> dict[str, np.ndarray]:
    """Rotation-invariant functions of a prompt, single entries, and products across its three parts."""
    c, x, y = features.context[:, :-1], features.query, features.target
    overlap = np.sum(c * x, axis=1)
    return {
        "|c|^2": np.sum(c**2, axis=1),
        "l": features.context[:, -1],
        "c_1": c[:, 0],
        "c_1 c_2": c[:, 0] * c[:, 1],
        "|c|^2/l": np.sum(c**2, axis=1) / features.context[:, -1],
        "c.x": overlap,
        "y": y,
        "y c.x": y * overlap,
        "y l": y * features.context[:, -1],
        "c_1 x_1 y": c[:, 0] * x[:, 0] * y,
    }


@pytest.mark.parametrize(("D", "N", "noise", "K"), [(4, 2, 0.0, None), (6, 9, 0.5, None), (5, 4, 0.3, 2)])
def test_two_samples_cannot_be_told_apart(D: int, N: int, noise: float, K: int | None) -> None:
    n = 20_000
    setting = Setting(D=D, N=N, P=n, ridge=0.1, noise=noise, K=K)
    tasks = None if K is None else np.random.default_rng(9).standard_normal((K, D))
    tokens = scalars(draw_features(setting, np.random.default_rng(1), tasks))
    fast = scalars(draw_features(setting, np.random.default_rng(2), tasks, law=SUFFICIENT))
    for name, values in tokens.items():
        assert ks_2samp(values, fast[name]).statistic < KS_MAX * np.sqrt(2 / n), name


def test_two_samples_of_slightly_different_laws_can_be_told_apart() -> None:
    """The power of the test above: one token more, or a little more noise."""
    n = 20_000
    base = scalars(draw_features(Setting(D=6, N=9, P=n, ridge=0.1, noise=0.5), np.random.default_rng(1)))
    for other in (Setting(D=6, N=10, P=n, ridge=0.1, noise=0.5), Setting(D=6, N=9, P=n, ridge=0.1, noise=0.55)):
        fast = scalars(draw_features(other, np.random.default_rng(2), law=SUFFICIENT))
        assert max(ks_2samp(base[name], fast[name]).statistic for name in base) > KS_MAX * np.sqrt(2 / n)


@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_moments_given_a_task_are_exact(noise: float) -> None:
    """Mean and second moments of c~ for one task, not of typical norm, against the Wick formulas written out."""
    D, N, n = 3, 4, 300_000
    w = np.array([2.0, -1.0, 0.5])
    context = draw_contexts(np.tile(w, (n, 1)), N, noise, np.random.default_rng(3))
    v = w / np.sqrt(D)
    variance = v @ v + noise
    second = np.zeros((D + 1, D + 1))
    second[:D, :D] = (1 + 1 / N) * np.outer(v, v) + variance / N * np.eye(D)
    second[D, :D] = second[:D, D] = variance * (1 + 2 / N) * v
    second[D, D] = variance**2 * (1 + 2 / N)
    assert np.all(np.abs(context.mean(axis=0) - np.append(v, variance)) < Z_MAX * context.std(axis=0) / np.sqrt(n))
    for i in range(D + 1):
        for j in range(i + 1):
            values = context[:, i] * context[:, j]
            assert abs(values.mean() - second[i, j]) < Z_MAX * values.std() / np.sqrt(n)


def test_zero_tasks_and_very_long_contexts() -> None:
    rng, zero = np.random.default_rng(4), np.zeros((5000, 3))
    np.testing.assert_array_equal(draw_contexts(zero, 4, 0.0, rng), 0.0)
    context = draw_contexts(zero, 4, 0.5, rng)
    assert abs(context[:, 3].mean() - 0.5) < Z_MAX * context[:, 3].std() / np.sqrt(5000)
    second = context[:, :3] ** 2
    assert np.all(np.abs(second.mean(axis=0) - 0.25 / 4 * 2) < Z_MAX * second.std(axis=0) / np.sqrt(5000))
    tasks = rng.standard_normal((10, 3))
    endless = draw_contexts(tasks, 10**12, 0.3, rng)
    np.testing.assert_allclose(endless[:, :3], tasks / np.sqrt(3), atol=1e-4)
    np.testing.assert_allclose(endless[:, 3], np.sum(tasks**2, axis=1) / 3 + 0.3, atol=1e-4)


@pytest.mark.parametrize("K", [None, 3])
def test_test_errors_of_any_weights_are_the_exact_ones(K: int | None) -> None:
    W = 0.4 * np.random.default_rng(5).standard_normal((5, 5)) + 0.5 * np.eye(5)
    tasks = None if K is None else np.random.default_rng(6).standard_normal((K, 4))
    setting = Setting(D=4, N=3, P=100_000, ridge=0.1, noise=0.2, K=K)
    features = draw_features(setting, np.random.default_rng(7), tasks, law=SUFFICIENT)
    measured = Estimate.of((features.target - features.predict(W)) ** 2)
    exact = icl_error(W, 3, 0.2, D=len(W) - 1) if tasks is None else idg_error(W, tasks, 3, 0.2)
    assert measured.sem is not None
    assert measured.sem < 0.02 * exact
    assert abs(measured.mean - exact) < Z_MAX * measured.sem


@pytest.mark.parametrize("K", [None, 3])
def test_observables_of_trained_transformers_agree(K: int | None) -> None:
    setting = Setting(D=6, N=5, P=60, ridge=1e-2, noise=0.2, K=K, beta=100.0)
    tokens, fast = (simulate(setting, 150, seed=8, workers=1, prompts=name) for name in ("tokens", "sufficient"))
    assert fast.provenance.law == SUFFICIENT
    for name in tokens.values:
        one, other = tokens[name], fast[name]
        assert one.sem is not None
        assert other.sem is not None
        assert one.mean != other.mean
        assert abs(one.mean - other.mean) < Z_MAX * np.hypot(one.sem, other.sem), name


def test_tasks_may_have_any_law_but_tokens_not() -> None:
    setting = Setting(D=4, N=3, P=10, ridge=0.1)
    signs = PromptLaw.of("sufficient", "gaussian", "rademacher")
    _, query, target = draw_statistics(setting, 50, np.random.default_rng(0), None, signs)
    patterns = np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T
    assert np.all(np.min(np.abs(query @ patterns.T / 2 - target[:, None]), axis=1) < 1e-14)
    with pytest.raises(ParameterError, match="law = uniform"):
        draw_statistics(setting, 5, np.random.default_rng(0), None, PromptLaw.of(law="uniform"))
