"""Langevin dynamics leaves the Boltzmann measure alone: the exact Gaussian, and a measure with no closed form."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import Setting
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.gibbs import gibbs_samples
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.hamiltonian import energy, gradient, hamiltonian
from replica_icl.simulator.langevin import TARGET_ACCEPTANCE, langevin

D, RIDGE, BETA, Z_MAX = 3, 0.2, 7.0, 4.0
ACTING = D * (D + 1)
FEATURES = draw_features(Setting(D=D, N=5, P=8, ridge=0.1, noise=0.3), np.random.default_rng(0))
GROUND = ground_state(FEATURES, RIDGE)
SPIN_GLASS = hamiltonian(FEATURES, RIDGE)
HESSIAN = np.diag(SPIN_GLASS.lam) - SPIN_GLASS.J


def quadratic(states: np.ndarray) -> np.ndarray:
    return 0.5 * np.einsum("ci,ij,cj->c", states, HESSIAN, states) - states @ SPIN_GLASS.h


def slope(states: np.ndarray) -> np.ndarray:
    return states @ HESSIAN - SPIN_GLASS.h


def assert_gaussian(states: np.ndarray) -> None:
    """Independent states have the mean and covariance of the Boltzmann measure, within four standard errors."""
    n, covariance = len(states), np.linalg.inv(HESSIAN) / BETA
    shifts, scale = states - GROUND.W[:, :D].ravel(), np.diag(covariance)
    assert np.all(np.abs(shifts.mean(axis=0)) < Z_MAX * np.sqrt(scale / n))
    spread = np.sqrt((np.outer(scale, scale) + covariance**2) / n)
    assert np.all(np.abs(shifts.T @ shifts / n - covariance) < Z_MAX * spread)


def test_the_exact_gaussian_is_stationary_at_a_step_that_rejects_often() -> None:
    """Chains started from exact samples stay exact ones: a wrong acceptance would move them in 30 steps."""
    start = gibbs_samples(GROUND, BETA, 6000, np.random.default_rng(1))[:, :, :D].reshape(-1, ACTING)
    metric = np.repeat([1.0, 1.0, 1.0, 0.3], D)
    chains = langevin(
        quadratic, slope, start, BETA, step=0.5, n_steps=30, rng=np.random.default_rng(2), metric=metric, thin=30
    )
    assert chains.states.shape == (1, 6000, ACTING)
    assert 0.2 < chains.acceptance.mean() < 0.8
    assert np.mean(np.abs(chains.states[0] - start)) > 0.2
    assert_gaussian(chains.states[0])
    np.testing.assert_allclose(chains.energies[0], quadratic(chains.states[0]), rtol=1e-12)


def test_chains_forget_where_they_started() -> None:
    chains = langevin(
        quadratic,
        slope,
        np.full((3000, ACTING), 3.0),
        BETA,
        step=0.05,
        n_steps=1,
        rng=np.random.default_rng(3),
        warm_up=250,
    )
    assert abs(chains.acceptance.mean() - TARGET_ACCEPTANCE) < 0.08
    assert_gaussian(chains.states[0])


def test_quartic_energy_in_one_dimension_against_quadrature() -> None:
    """E = W^4/4 - W: <W>, <W^2> and <E> by integration; forbidden below -1."""

    def quartic(states: np.ndarray) -> np.ndarray:
        return np.where(states[:, 0] > -1, states[:, 0] ** 4 / 4 - states[:, 0], np.inf)

    chains = langevin(
        quartic,
        lambda states: states**3 - 1,
        np.zeros((20_000, 1)),
        1.3,
        step=0.5,
        n_steps=1,
        rng=np.random.default_rng(4),
        warm_up=60,
    )
    final = chains.states[0, :, 0]
    assert final.min() > -1

    def moment(f: object) -> float:
        return quad(lambda w: f(w) * math.exp(-1.3 * (w**4 / 4 - w)), -1, 6)[0]  # type: ignore[operator]

    norm = moment(lambda w: 1.0)
    for values, f in ((final, lambda w: w), (final**2, lambda w: w**2), (chains.energies[0], lambda w: w**4 / 4 - w)):
        assert abs(values.mean() - moment(f) / norm) < Z_MAX * values.std() / math.sqrt(len(values))


def test_gradient_is_the_derivative_of_the_energy() -> None:
    W = np.random.default_rng(5).standard_normal((D + 1, D + 1))
    by_hand = np.zeros_like(W)
    for index in np.ndindex(W.shape):
        shift = np.zeros_like(W)
        shift[index] = 1e-5
        by_hand[index] = (energy(FEATURES, W + shift, RIDGE) - energy(FEATURES, W - shift, RIDGE)) / 2e-5
    np.testing.assert_allclose(gradient(FEATURES, W, RIDGE), by_hand, rtol=0, atol=1e-8)
    np.testing.assert_allclose(gradient(FEATURES, GROUND.W, RIDGE), 0, atol=1e-13)


def test_bad_input_is_named() -> None:
    start, rng = np.zeros((2, ACTING)), np.random.default_rng(0)
    for options, name in (
        ({"beta": math.inf}, "beta"),
        ({"step": 0.0}, "step"),
        ({"n_steps": 0}, "n_steps"),
        ({"start": np.zeros(3)}, "start"),
        ({"start": np.full((2, ACTING), np.nan)}, "start"),
        ({"metric": -1.0}, "metric"),
        ({"gradient": lambda states: states[0]}, "gradient"),
    ):
        arguments = {"energy": quadratic, "gradient": slope, "start": start, "beta": 1.0, "step": 0.1, "n_steps": 1}
        with pytest.raises(ParameterError) as caught:
            langevin(**{**arguments, **options}, rng=rng)  # type: ignore[arg-type]
        assert caught.value.parameter == name


def test_an_energy_that_breaks_down_is_an_error_and_no_sample() -> None:
    start, rng = np.zeros((2, 1)), np.random.default_rng(0)

    def broken(states: np.ndarray) -> np.ndarray:
        return np.where(states[:, 0] == 0, 0.0, np.nan)

    with pytest.raises(SolveError, match="energy of a Langevin proposal is not a number"):
        langevin(broken, lambda states: states, start, 1.0, step=0.1, n_steps=1, rng=rng)
    with pytest.raises(SolveError, match="gradient"):
        langevin(lambda s: s[:, 0] ** 2, lambda s: np.full_like(s, np.nan), start, 1.0, step=0.1, n_steps=1, rng=rng)
