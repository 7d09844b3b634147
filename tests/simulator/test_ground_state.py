"""The ground state: argmin of the energy, the same from both sides, and honest about singular problems."""

import numpy as np
import pytest

from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import Setting
from replica_icl.simulator.attention import predictions, prompt_matrix
from replica_icl.simulator.features import Features, compress, draw_features
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.hamiltonian import energy, hamiltonian
from replica_icl.simulator.prompts import draw_prompts

D, N = 4, 6


def features_of(P: int, seed: int = 0) -> Features:
    return draw_features(Setting(D=D, N=N, P=P, ridge=0.1, noise=0.2), np.random.default_rng(seed))


@pytest.mark.parametrize("algorithm", ["dense", "dual"])
@pytest.mark.parametrize("P", [7, 20, 50])
def test_gradient_of_the_energy_vanishes(P: int, algorithm: str) -> None:
    features, ridge = features_of(P), 1e-2
    ground = ground_state(features, ridge, algorithm=algorithm)
    spin_glass = hamiltonian(features, ridge, all_weights=True)
    sigma = spin_glass.spins(ground.W)
    gradient = -spin_glass.h - spin_glass.J @ sigma + spin_glass.lam * sigma
    assert np.max(np.abs(gradient)) < 1e-12 * np.max(np.abs(spin_glass.h))
    assert ground.energy == pytest.approx(energy(features, ground.W, ridge), rel=1e-14)


def test_any_other_weights_have_more_energy() -> None:
    features = features_of(15)
    ground, rng = ground_state(features, 0.05), np.random.default_rng(1)
    for scale in (1e-3, 1.0):
        for _ in range(20):
            assert energy(features, ground.W + scale * rng.standard_normal((5, 5)), 0.05) > ground.energy


@pytest.mark.parametrize("P", [5, 19, 20, 60])
@pytest.mark.parametrize("ridge", [1e-4, 0.3])
def test_primal_and_dual_agree(P: int, ridge: float) -> None:
    features = features_of(P)
    dense, dual = (ground_state(features, ridge, algorithm=name) for name in ("dense", "dual"))
    np.testing.assert_allclose(dense.W, dual.W, rtol=0, atol=1e-10 * np.max(np.abs(dense.W)))


def test_the_smaller_matrix_is_taken() -> None:
    assert [ground_state(features_of(P), 0.1).algorithm for P in (19, 20, 21)] == ["dual", "dense", "dense"]
    assert ground_state(features_of(7), 0.1).factor.shape == (7, 7)
    assert ground_state(features_of(70), 0.1).factor.shape == (20, 20)


def test_factor_is_that_of_the_regularised_matrix() -> None:
    features, ridge = features_of(12), 0.2
    rows = features.explicit()
    dense, dual = (ground_state(features, ridge, algorithm=name).factor for name in ("dense", "dual"))
    np.testing.assert_allclose(dense @ dense.T, rows.T @ rows / 12 + ridge * np.eye(20), atol=1e-12)
    np.testing.assert_allclose(dual @ dual.T, rows @ rows.T + 12 * ridge * np.eye(12), atol=1e-12)


def test_ridge_solution_from_the_literal_forward_pass() -> None:
    """An independent route: features by probing attention with unit matrices, normal equations by solve."""
    prompts = draw_prompts(Setting(D=D, N=N, P=30, ridge=0.1, noise=0.2), 30, np.random.default_rng(3))
    Z, ridge = prompt_matrix(prompts), 0.05
    probes = np.eye((D + 1) ** 2).reshape(-1, D + 1, D + 1)
    rows = np.stack([predictions(Z, probe) for probe in probes], axis=1)
    regularised = rows.T @ rows / 30 + ridge * np.eye((D + 1) ** 2)
    expected = np.linalg.solve(regularised, rows.T @ prompts.target / 30).reshape(D + 1, D + 1)
    ground = ground_state(compress(prompts), ridge)
    np.testing.assert_allclose(ground.W, expected, rtol=0, atol=1e-11)
    residual = prompts.target - predictions(Z, expected)
    assert ground.training_error == pytest.approx(np.mean(residual**2), rel=1e-10)


@pytest.mark.parametrize("P", [6, 15])
def test_minimum_norm_is_the_pseudoinverse_solution(P: int) -> None:
    features = features_of(P)
    ground = ground_state(features, 0.0, minimum_norm=True)
    expected = (np.linalg.pinv(features.explicit()) @ features.target).reshape(D + 1, D)
    np.testing.assert_allclose(ground.W[:, :D], expected, rtol=0, atol=1e-9 * np.max(np.abs(expected)))
    assert ground.training_error < 1e-20
    vanishing = ground_state(features, 1e-9)
    np.testing.assert_allclose(vanishing.W, ground.W, rtol=0, atol=1e-4 * np.max(np.abs(expected)))


@pytest.mark.parametrize("minimum_norm", [True, False])
def test_ridgeless_with_many_prompts_is_least_squares(minimum_norm: bool) -> None:
    features = features_of(60)
    ground = ground_state(features, 0.0, minimum_norm=minimum_norm)
    expected = np.linalg.lstsq(features.explicit(), features.target, rcond=None)[0].reshape(D + 1, D)
    assert ground.algorithm == "dense"
    np.testing.assert_allclose(ground.W[:, :D], expected, rtol=0, atol=1e-10)


def test_square_ridgeless_system_interpolates_either_way() -> None:
    features = features_of(20)
    dense, dual = (ground_state(features, 0.0, algorithm=name) for name in ("dense", "dual"))
    assert dense.training_error < 1e-14
    np.testing.assert_allclose(dense.W, dual.W, rtol=0, atol=1e-6 * np.max(np.abs(dense.W)))


def test_singular_problems_raise_and_say_so() -> None:
    few = features_of(6)
    repeated = Features(*(np.concatenate([part] * 5) for part in (few.context, few.query, few.target)))
    with pytest.raises(SolveError, match="second moment of the features plus ridge is numerically singular"):
        ground_state(repeated, 0.0)
    twice = Features(*(np.concatenate([part] * 2) for part in (few.context, few.query, few.target)))
    with pytest.raises(SolveError, match="kernel of the prompts plus P ridge is numerically singular"):
        ground_state(twice, 0.0, minimum_norm=True)


def test_wrong_usage_names_the_parameter() -> None:
    with pytest.raises(ParameterError, match="algorithm = newton: must be one of dense, dual, cg"):
        ground_state(features_of(6), 0.1, algorithm="newton")
    with pytest.raises(ParameterError, match="ridge = 0"):
        ground_state(features_of(6), 0.0)
    with pytest.raises(ParameterError, match="algorithm = dense: must be dual or cg"):
        ground_state(features_of(6), 0.0, algorithm="dense", minimum_norm=True)
    with pytest.raises(ParameterError, match="algorithm = dual: must be dense or cg"):
        ground_state(features_of(60), 0.0, algorithm="dual")
    with pytest.raises(ParameterError, match="ridge = nan"):
        ground_state(features_of(6), float("nan"))
