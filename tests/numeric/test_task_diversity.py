"""The limit at K = kappa D tasks: numbers, grids, edges."""

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from replica_icl import ParameterError, Ratios, Setting, solve
from replica_icl.numeric.solution import Status

ROWS = tomllib.loads((Path(__file__).parents[1] / "references" / "task_diversity.toml").read_text())["limit"]


def spectral_rule(kappa: float, order: int, chebyshev: bool) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Marchenko-Pastur law with its atom, by two substitutions of its density."""
    low, high = (1 - kappa**-0.5) ** 2, (1 + kappa**-0.5) ** 2
    if chebyshev:  # r = mean + radius cos(theta), the density's square roots become sin^2
        theta = np.pi * np.arange(1, order + 1) / (order + 1)
        x, weight = np.cos(theta), np.pi / (order + 1) * np.sin(theta) ** 2
    else:
        nodes, weights = np.polynomial.legendre.leggauss(order)
        theta = np.pi * (nodes + 1) / 2
        x, weight = np.cos(theta), weights * np.pi / 2 * np.sin(theta) ** 2
    r = (high + low) / 2 + (high - low) / 2 * x
    weight = weight * ((high - low) / 2) ** 2 * kappa / (2 * np.pi * r)
    if kappa < 1:
        return np.append(r, 0.0), np.append(weight, 1 - kappa)
    return r, weight


def by_quadrature(alpha, nu, kappa, lam, noise, chebyshev=True):
    """Section by section as the literature states it: k from its balance by bisection, then integrals over the law."""
    r, p = spectral_rule(kappa, 400, chebyshev)
    B = r + (1 + noise) / nu
    low, high = 1e-14, 1e3
    for _ in range(120):
        k = math.sqrt(low * high)
        low, high = (k, high) if k < lam + k / alpha * np.sum(p * B / (B + k)) else (low, k)
    e_idg = 1 + noise - np.sum(p * r**2 / B) + k**2 * np.sum(p * r**2 / (B * (B + k) ** 2))
    e_idg /= 1 - np.sum(p * B**2 / (B + k) ** 2) / alpha
    m = np.sum(p * r / (B + k))
    q = np.sum(p * r**2 / (B + k) ** 2) + e_idg / alpha * np.sum(p * B / (B + k) ** 2)
    a = 1 + (1 + noise) / nu
    return {
        "e_idg": e_idg,
        "m": m,
        "q": q,
        "e_icl": 1 + noise - 2 * m + a * q,
        "train_error": e_idg * (lam / k) ** 2,
        "replicon": 1 - np.sum(p * B**2 / (B + k) ** 2) / alpha,
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"kappa={row['kappa']}")
def test_reference_values(row: dict) -> None:
    point = {name: row[name] for name in ("alpha", "nu", "kappa", "lam", "noise")}
    found = solve(Ratios(**point))
    for name in ("e_icl", "e_idg"):
        assert getattr(found, name) == pytest.approx(row[name], rel=0, abs=5.1e-9)


@pytest.mark.parametrize("chebyshev", [True, False])
def test_closed_averages_agree_with_integrals_over_the_spectral_density(chebyshev: bool) -> None:
    rng = np.random.default_rng(3)
    for _ in range(12):
        alpha, nu, kappa, lam = np.exp(rng.uniform(np.log([0.2, 0.3, 0.1, 1e-2]), np.log([10, 20, 10, 1])))
        noise = float(rng.choice([0.0, 0.25]))
        if 0.8 < kappa < 1.25:
            continue  # the density is nearly singular at zero: no test of the closed form
        found = solve(Ratios(alpha=alpha, nu=nu, kappa=kappa, lam=lam, noise=noise))
        for name, value in by_quadrature(alpha, nu, kappa, lam, noise, chebyshev).items():
            assert getattr(found, name) == pytest.approx(value, rel=1e-9), name


def test_many_tasks_are_fresh_tasks() -> None:
    controls = {"alpha": np.array([0.4, 2.0]), "nu": 2.0, "lam": 0.1, "noise": 0.2, "beta_tilde": 3.0}
    fresh, many = solve(Ratios(**controls)), solve(Ratios(**controls, kappa=1e8))
    for name in ("e_icl", "e_idg", "train_error", "m", "q", "V", "replicon", "e_gibbs", "train_gibbs"):
        np.testing.assert_allclose(getattr(many, name), getattr(fresh, name), rtol=3e-7)


def test_a_hundred_thousand_points_are_solved_and_admissible() -> None:
    rng = np.random.default_rng(0)
    n = 100_000

    def log_uniform(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), n))

    point = Ratios(
        alpha=log_uniform(0.05, 20),
        nu=log_uniform(0.05, 1e4),
        kappa=log_uniform(0.02, 100),
        lam=log_uniform(1e-10, 10),
        noise=rng.choice([0.0, 0.01, 0.25, 1.0], n),
    )
    grid = solve(point)
    assert np.all(grid.converged)
    assert grid.residual.max() < 1e-14
    assert np.all(grid.q >= grid.m**2)
    assert np.all(grid.replicon > 0)
    assert np.all(grid.e_icl > 0)


def test_ridgeless_points_and_the_divergence_between_them() -> None:
    for kappa in (0.5, 3.0):
        grid = solve(
            Ratios(alpha=[0.5, 0.99, 1.0, 1.01, 2.0], nu=2.0, lam=0.0, kappa=kappa, minimum_norm=True), throw=False
        )
        assert list(grid.status) == [0, 0, Status.SINGULAR, 0, 0]
        for name in ("e_icl", "e_idg"):
            values = getattr(grid, name)
            assert values[1] > 10 * values[0]
            assert values[3] > 10 * values[4]
        small = solve(Ratios(alpha=np.array([0.5, 2.0]), nu=2.0, lam=1e-7, kappa=kappa))
        np.testing.assert_allclose(small.e_icl, grid.e_icl[[0, 4]], rtol=1e-5)


def test_e_icl_is_not_monotone_in_the_context_length_when_tasks_are_few() -> None:
    """Hardly any ridge: with few tasks there is a best context length, with many more context always helps."""
    for kappa, alpha, noise, few in ((0.5, 1.5, 0.01, True), (1.5, 1.1, 0.25, True), (5.0, 0.7, 0.01, False)):
        nu = np.geomspace(0.1, 1000, 200)
        errors = solve(Ratios(alpha=alpha, nu=nu, lam=1e-6, noise=noise, kappa=kappa)).e_icl
        rises = np.diff(errors) > 0
        assert rises.any() == few
        assert not rises.all()


def test_memorising_gives_way_to_learning_in_context() -> None:
    gap = [
        (lambda found: found.e_icl - found.e_idg)(solve(Ratios(alpha=1e4, nu=1e4, lam=1e-8, kappa=kappa)))
        for kappa in (0.25, 0.5, 2.0, 4.0)
    ]
    assert gap == pytest.approx([0.75, 0.5, 0.0, 0.0], abs=2e-3)


def test_a_setting_with_tasks_has_the_ratios_of_its_numbers() -> None:
    setting = Setting(D=20, N=40, P=800, K=10, ridge=0.01, noise=0.1, beta=1e4)
    found = solve(setting, level="limit")
    same = solve(Ratios(alpha=2.0, nu=2.0, kappa=0.5, lam=0.2, noise=0.1, beta_tilde=25.0))
    assert (found.e_icl, found.e_gibbs) == pytest.approx((same.e_icl, same.e_gibbs), rel=1e-14)
    assert np.isfinite(found.log_Z)
    grid = solve([setting, setting], level="limit")
    assert grid.e_idg == pytest.approx([found.e_idg] * 2)
    with pytest.raises(ParameterError, match="every setting") as caught:
        solve([setting, Setting(D=20, N=40, P=800, ridge=0.01)], level="limit")
    assert caught.value.parameter == "K"


def test_log_Z_responds_to_temperature_by_the_gibbs_training_error() -> None:
    """-(2/alpha) d(free entropy)/d(beta) at fixed beta lambda_0 is the training error of a Gibbs sample."""
    base = Setting(D=10**4, N=2 * 10**4, P=2 * 10**8, K=5000, ridge=1e-5, noise=0.1, beta=3e8)

    def free(step: float) -> float:
        beta = base.beta * (1 + step)
        return solve(
            Setting(D=10**4, N=2 * 10**4, P=2 * 10**8, K=5000, ridge=1e-5 / (1 + step), noise=0.1, beta=beta),
            level="limit",
        ).log_Z

    slope = (free(1e-4) - free(-1e-4)) / (2e-4 * base.beta)
    assert -2 * slope == pytest.approx(solve(base, level="limit").train_gibbs, rel=1e-6)
