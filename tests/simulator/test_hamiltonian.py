"""The spin-glass form of the energy is the regression loss, with the diagonal counted once."""

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.hamiltonian import energy, hamiltonian

RIDGE = 0.3
FEATURES = draw_features(Setting(D=4, N=6, P=9, ridge=RIDGE, noise=0.2), np.random.default_rng(0))
W = np.random.default_rng(1).standard_normal((5, 5))


@pytest.mark.parametrize("all_weights", [True, False])
def test_energy_from_fields_and_couplings_is_the_loss(all_weights: bool) -> None:
    weights = W.copy()
    if not all_weights:
        weights[:, -1] = 0.0
    spin_glass = hamiltonian(FEATURES, RIDGE, all_weights)
    sigma = spin_glass.spins(weights)
    assert sigma.shape == spin_glass.h.shape == ((25,) if all_weights else (20,))
    assert spin_glass.energy(sigma) == pytest.approx(energy(FEATURES, weights, RIDGE), rel=1e-13)
    np.testing.assert_array_equal(spin_glass.weights(sigma), weights)


def test_energy_is_the_sum_over_pairs_written_out() -> None:
    spin_glass = hamiltonian(FEATURES, RIDGE)
    sigma = spin_glass.spins(np.pad(W[:, :4], ((0, 0), (0, 1))))
    n = len(sigma)
    pairs = sum(spin_glass.J[i, j] * sigma[i] * sigma[j] for i in range(n) for j in range(i + 1, n))
    by_hand = spin_glass.constant - spin_glass.h @ sigma - pairs + 0.5 * spin_glass.lam @ sigma**2
    assert spin_glass.energy(sigma) == pytest.approx(by_hand, rel=1e-13)


def test_diagonal_lives_in_lambda_only() -> None:
    spin_glass, rows = hamiltonian(FEATURES, RIDGE), FEATURES.explicit()
    np.testing.assert_array_equal(np.diag(spin_glass.J), 0.0)
    np.testing.assert_array_equal(spin_glass.J, spin_glass.J.T)
    np.testing.assert_allclose(spin_glass.lam, RIDGE + np.mean(rows**2, axis=0), atol=1e-13)
    assert spin_glass.J[2, 7] == pytest.approx(-np.mean(rows[:, 2] * rows[:, 7]))


def test_last_column_is_flat_but_for_the_ridge() -> None:
    spin_glass = hamiltonian(FEATURES, RIDGE, all_weights=True)
    flat = np.arange(25) % 5 == 4
    np.testing.assert_array_equal(spin_glass.h[flat], 0.0)
    np.testing.assert_array_equal(spin_glass.J[flat], 0.0)
    np.testing.assert_array_equal(spin_glass.lam[flat], RIDGE)
    assert np.all(spin_glass.lam[~flat] > RIDGE)
    acting = hamiltonian(FEATURES, RIDGE)
    np.testing.assert_allclose(spin_glass.J[np.ix_(~flat, ~flat)], acting.J, atol=1e-14)


def test_acting_spins_cannot_hold_the_last_column() -> None:
    with pytest.raises(ParameterError, match="W = last column not zero"):
        hamiltonian(FEATURES, RIDGE).spins(W)


def test_negative_ridge_is_refused() -> None:
    with pytest.raises(ParameterError, match="ridge = -1"):
        hamiltonian(FEATURES, -1.0)
    with pytest.raises(ParameterError, match="ridge = -1"):
        energy(FEATURES, W, -1.0)
