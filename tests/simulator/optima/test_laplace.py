"""Exact optima under the Laplace prior: certificates that hold, optimality conditions, exact cases."""

import numpy as np
import pytest
from numpy.typing import NDArray

from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import Setting
from replica_icl.simulator.features import Features, draw_features
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.optima.laplace import laplace_optimum

Array = NDArray[np.float64]


def prompts(D: int = 6, N: int = 12, P: int = 40, seed: int = 0) -> Features:
    return draw_features(Setting(D=D, N=N, P=P, ridge=1.0, noise=0.2), np.random.default_rng(seed))


def energy(features: Features, W: Array, l1: float, ridge: float) -> float:
    """E written out with the explicit feature matrix."""
    sigma = W[:, : features.D].ravel()
    residual = features.target - features.explicit() @ sigma
    return float(np.mean(residual**2) / 2 + l1 * np.abs(sigma).sum() + ridge / 2 * np.sum(sigma**2))


@pytest.mark.parametrize("ridge", [0.0, 0.01])
@pytest.mark.parametrize("P", [20, 80])
def test_optimality_conditions_hold(ridge: float, P: int) -> None:
    """|phi_i.r| / P = lambda_1 on the support (less the ridge's pull), at most lambda_1 off it."""
    features, l1 = prompts(P=P), 0.02
    found = laplace_optimum(features, l1, ridge, gap=1e-14)
    sigma = found.W[:, : features.D].ravel()
    Phi = features.explicit()
    pull = Phi.T @ (features.target - Phi @ sigma) / P - ridge * sigma
    support = sigma != 0
    assert 0 < support.sum() < support.size
    assert np.allclose(pull[support], l1 * np.sign(sigma[support]), atol=1e-6)
    assert np.abs(pull[~support]).max() <= l1 + 1e-6
    assert not found.W[:, -1].any()


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_the_gap_bounds_the_distance_to_the_minimum(ridge: float) -> None:
    features, l1 = prompts(), 0.01
    best = laplace_optimum(features, l1, ridge, gap=1e-14).energy
    start = float(np.mean(features.target**2)) / 2
    for gap in (1e-2, 1e-4, 1e-6):
        rough = laplace_optimum(features, l1, ridge, gap=gap)
        assert rough.energy == pytest.approx(energy(features, rough.W, l1, ridge), rel=1e-10)
        assert 0 <= rough.gap <= gap
        assert rough.energy - best <= rough.gap * start + 1e-13
    rng = np.random.default_rng(1)
    for _ in range(20):
        other = np.pad(rng.normal(scale=0.2, size=(features.D + 1, features.D)), ((0, 0), (0, 1)))
        assert energy(features, other, l1, ridge) >= best - 1e-13


def test_orthogonal_features_are_thresholded_one_by_one() -> None:
    """One prompt per weight, each meeting that weight alone: soft thresholding in closed form."""
    D = 3
    context = np.repeat(np.eye(D + 1), D, axis=0)
    query = np.tile(np.eye(D), (D + 1, 1))
    target = np.linspace(-1, 1, D * (D + 1))
    features, l1, P = Features(context, query, target), 0.03, D * (D + 1)
    found = laplace_optimum(features, l1, gap=1e-14)
    expected = np.sign(target) * np.maximum(np.abs(target) - P * l1, 0)
    assert np.allclose(found.W[:, :D].ravel(), expected, atol=1e-7)


def test_a_small_penalty_beside_a_ridge_tends_to_the_ridge_solution() -> None:
    features = prompts()
    found = laplace_optimum(features, 1e-9, 0.05, gap=1e-14)
    assert np.allclose(found.W, ground_state(features, 0.05).W, atol=1e-6)


def test_a_large_penalty_leaves_nothing() -> None:
    features = prompts()
    found = laplace_optimum(features, 10.0)
    assert not found.W.any()
    assert found.energy == pytest.approx(np.mean(features.target**2) / 2, rel=1e-12)


def test_what_is_not_solved_is_an_error_with_its_gap() -> None:
    with pytest.raises(SolveError, match="not found after 3 iterations: duality gap"):
        laplace_optimum(prompts(), 0.01, max_iterations=3)


@pytest.mark.parametrize(("l1", "ridge", "name"), [(0.0, 0.0, "l1"), (-1.0, 0.0, "l1"), (0.1, -1.0, "ridge")])
def test_penalties_out_of_range_are_refused(l1: float, ridge: float, name: str) -> None:
    with pytest.raises(ParameterError, match=f"{name} = "):
        laplace_optimum(prompts(), l1, ridge)
