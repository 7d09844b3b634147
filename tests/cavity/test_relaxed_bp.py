"""Relaxed belief propagation as published: equations, fixed point, the reaction that it drops, failure as a status."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from replica_icl.cavity.relaxed_bp import (
    Beliefs,
    extreme_eigenvalues,
    reduced_stiffness,
    relaxed_belief_propagation,
    spectral_radius,
)
from replica_icl.errors import ParameterError
from replica_icl.numeric.missing_onsager import effective_ridges
from replica_icl.setting import Setting
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.hamiltonian import Hamiltonian, hamiltonian
from replica_icl.status import Status

Array = NDArray[np.float64]
BETA = 100.0


def glass(D: int = 10, N: int = 40, P: int = 1500, ridge: float = 0.1, seed: int = 0, **how: Any) -> Hamiltonian:
    setting = Setting(D=D, N=N, P=P, ridge=ridge)
    return hamiltonian(draw_features(setting, np.random.default_rng([seed, D, N, P])), ridge, **how)


def settled(spins: Hamiltonian, **how: Any) -> Beliefs:
    found = relaxed_belief_propagation(spins, **{"damping": 0.3, "max_iterations": 3000, "tolerance": 1e-15, **how})
    assert found.status == Status.CONVERGED
    return found


def test_three_steps_are_the_published_loop_over_weights() -> None:
    """The published loop, weight by weight, with start, damping and inverse temperature as there."""
    spins, theta = glass(D=4, N=10, P=200, all_weights=True), 0.9
    rng = np.random.default_rng(3)
    n = len(spins.h)
    m, v = rng.standard_normal(n), rng.standard_normal(n)
    found = relaxed_belief_propagation(spins, max_iterations=3, rng=np.random.default_rng(3))
    for _ in range(3):
        new_m, new_v = np.zeros(n), np.zeros(n)
        for i in range(n):
            others = [j for j in range(n) if j != i]
            M = BETA * sum(spins.J[i, j] * m[j] for j in others)
            V = BETA**2 * sum(spins.J[i, j] ** 2 * v[j] for j in others)
            new_m[i] = (BETA * spins.h[i] + M) / (BETA * spins.lam[i] - V)
            new_v[i] = 1 / (BETA * spins.lam[i] - V)
        m, v = theta * m + (1 - theta) * new_m, theta * v + (1 - theta) * new_v
    np.testing.assert_allclose(found.mean, m, rtol=1e-11)
    np.testing.assert_allclose(found.variance, v, rtol=1e-11)
    assert (found.status, found.iterations) == (Status.MAX_ITERATIONS, 3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_its_fixed_point_is_a_ground_state_with_stiffnesses_less_by_the_dropped_reaction(seed: int) -> None:
    """To rounding: (lambda_i - V_i / beta) m_i = h_i + sum_j J_ij m_j, and that is not the ground state."""
    spins = glass(seed=seed)
    found = settled(spins)
    taken = BETA * spins.J**2 @ found.variance
    reduced = np.linalg.solve(np.diag(spins.lam - taken) - spins.J, spins.h)
    exact = np.linalg.solve(np.diag(spins.lam) - spins.J, spins.h)
    np.testing.assert_allclose(found.mean, reduced, atol=1e-12)
    assert np.linalg.norm(found.mean - exact) > 1e-2 * np.linalg.norm(exact)
    stiffness = reduced_stiffness(spins)
    assert stiffness is not None
    np.testing.assert_allclose(stiffness, spins.lam - taken, rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_the_reaction_taken_off_the_fixed_point_is_the_exact_mean(seed: int) -> None:
    """One step of the equations with M_i - V_i m_i instead of M_i leaves the ground state of the features unchanged."""
    setting = Setting(D=10, N=40, P=1500, ridge=0.1)
    features = draw_features(setting, np.random.default_rng([seed, 5]))
    spins, exact = hamiltonian(features, 0.1), ground_state(features, 0.1).W[:, :10].ravel()
    taken = BETA**2 * spins.J**2 @ settled(spins).variance
    without = BETA * (spins.h + spins.J @ exact) / (BETA * spins.lam - taken)
    corrected = (BETA * (spins.h + spins.J @ exact) - taken * exact) / (BETA * spins.lam - taken)
    np.testing.assert_allclose(corrected, exact, atol=1e-13)
    assert np.linalg.norm(without - exact) > 1e-2 * np.linalg.norm(exact)


def test_the_mean_does_not_depend_on_temperature_and_variances_scale_with_it() -> None:
    cold, warm = (settled(glass(), beta=beta) for beta in (400.0, 100.0))
    np.testing.assert_allclose(cold.mean, warm.mean, rtol=1e-10)
    np.testing.assert_allclose(4 * cold.variance, warm.variance, rtol=1e-10)


def test_the_theory_knows_the_average_reduction() -> None:
    """Two numbers per setting, within 2 % of the average over weights and five samples."""
    D, settings = 12, Setting(D=12, N=24, P=1500, ridge=0.1)
    found = []
    for seed in range(5):
        spins = glass(D, 24, 1500, 0.1, seed)
        stiffness = reduced_stiffness(spins)
        assert stiffness is not None
        taken = spins.lam - stiffness
        found.append([taken[: D * D].mean(), taken[D * D :].mean()])
    assert np.mean(found, axis=0) == pytest.approx(0.1 - np.array(effective_ridges(settings)), rel=0.02)


def test_spectral_radius_is_the_rate_at_which_the_undamped_means_converge() -> None:
    spins = glass(D=8, N=40, P=600, ridge=0.2)
    stiffness = reduced_stiffness(spins)
    assert stiffness is not None
    radius = spectral_radius(spins, stiffness)
    eigenvalues = np.linalg.eigvals(spins.J / stiffness[:, None]).real
    assert radius == pytest.approx(np.abs(eigenvalues).max(), rel=1e-6)
    assert extreme_eigenvalues(spins, stiffness) == pytest.approx((eigenvalues.min(), eigenvalues.max()), rel=1e-6)
    exact = np.linalg.solve(np.diag(stiffness) - spins.J, spins.h)
    away = [
        np.linalg.norm(relaxed_belief_propagation(spins, damping=0.0, max_iterations=k, tolerance=0.0).mean - exact)
        for k in (60, 80)
    ]
    assert (away[1] / away[0]) ** (1 / 20) == pytest.approx(radius, rel=0.02)


def test_failure_is_a_status() -> None:
    few = glass(D=10, N=20, P=20, ridge=0.1)
    assert reduced_stiffness(few) is None
    assert relaxed_belief_propagation(few).status == Status.NON_FINITE
    assert relaxed_belief_propagation(glass(), max_iterations=2).status == Status.MAX_ITERATIONS
    nothing = replace(glass(), h=np.zeros(110), J=np.zeros((110, 110)), lam=np.full(110, -1.0))
    assert relaxed_belief_propagation(nothing, damping=0.0).status == Status.INADMISSIBLE


@pytest.mark.parametrize(
    ("name", "value"),
    [("beta", 0.0), ("beta", np.inf), ("damping", 1.0), ("damping", -0.1), ("max_iterations", 0), ("tolerance", -1.0)],
)
def test_parameters_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"{name} = {value}"):
        relaxed_belief_propagation(glass(D=4, N=8, P=10), **{name: value})
