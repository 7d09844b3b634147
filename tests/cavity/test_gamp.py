"""Message passing on the prompts: exact ground states, how many iterations, variances, and failure as a status."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from replica_icl.cavity.gamp import message_passing
from replica_icl.errors import ParameterError
from replica_icl.meeting.message_passing import denoiser_of
from replica_icl.priors import Laplace, Prior, Ridge
from replica_icl.setting import Setting
from replica_icl.simulator.features import Features, draw_features
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.optima.laplace import laplace_optimum
from replica_icl.status import Status

Array = NDArray[np.float64]


def prompts(D: int = 20, N: int = 100, P: int = 400, noise: float = 0.0, seed: int = 0) -> Features:
    return draw_features(Setting(D=D, N=N, P=P, ridge=1.0, noise=noise), np.random.default_rng([seed, D, N, P]))


def iterations_to(features: Features, exact: Array, ridge: float, distance: float = 1e-6) -> int:
    """Iterations after which W is within a relative `distance` of the exact one, and stays so."""
    away: list[float] = []
    found = message_passing(
        features,
        denoiser_of(Ridge(), ridge),
        tolerance=1e-10,
        watch=lambda W: away.append(float(np.linalg.norm(W - exact) / np.linalg.norm(exact))),
    )
    assert found.status == Status.CONVERGED
    return len(away) - int(np.argmax(np.array(away[::-1]) >= distance))


@pytest.mark.parametrize("N", [2, 10, 40, 100])
def test_ground_states_of_figure_4a_take_at_most_40_iterations(N: int) -> None:
    """D = 20, ridge 1, on a part of its grid in N and P."""
    for P in (20, 100, 400, 1000):
        features = prompts(N=N, P=P)
        assert iterations_to(features, ground_state(features, 1.0).W, 1.0) <= 40, P


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 3.0, 25.0])
def test_a_ridge_of_one_percent_takes_at_most_80_iterations(alpha: float) -> None:
    features = prompts(P=round(alpha * 400))
    assert iterations_to(features, ground_state(features, 0.01).W, 0.01) <= 80


def test_where_undamped_iterations_diverge_damping_sets_in_and_the_ground_state_is_reached() -> None:
    features = prompts(P=400)
    found = message_passing(features, denoiser_of(Ridge(), 1e-3))
    exact = ground_state(features, 1e-3).W
    assert found.status == Status.CONVERGED
    assert np.linalg.norm(found.W - exact) < 1e-6 * np.linalg.norm(exact)
    assert found.iterations > 80


@pytest.mark.parametrize(("P", "ridge"), [(100, 0.0), (250, 0.01), (900, 0.0)])
def test_sparse_optima_are_reached(P: int, ridge: float) -> None:
    features = prompts(D=14, N=40, P=P, noise=0.1)
    found = message_passing(features, denoiser_of(Laplace(0.01), ridge), damping=0.2)
    exact = laplace_optimum(features, 0.01, ridge, gap=1e-13)
    assert found.status == Status.CONVERGED
    assert np.linalg.norm(found.W - exact.W) < 1e-6 * np.linalg.norm(exact.W)
    assert np.array_equal(found.W != 0, exact.W != 0)


@dataclass(frozen=True)
class Huber(Prior):
    """A prior from outside the package."""

    l1: Any
    width: Any

    @staticmethod
    def potential(w: Any, l1: Any, width: Any) -> Any:
        return (width, l1 * w**2 / (2 * width)), (math.inf, l1 * (w - width / 2))


def test_a_prior_from_outside_is_its_own_denoiser() -> None:
    """At the fixed point the residuals' pull is the slope of the potential, written out here."""
    features, prior = prompts(D=8, N=20, P=60, noise=0.1), Huber(0.02, 0.1)
    found = message_passing(features, denoiser_of(prior, 0.0), damping=0.2)
    assert found.status == Status.CONVERGED
    sigma = found.W[:, :8]
    pull = features.apply_transpose(features.target - features.apply(sigma)) / features.P
    assert np.allclose(pull, 0.02 * np.clip(sigma / 0.1, -1, 1), atol=1e-8)
    assert (np.abs(sigma) > 0.1).any()
    assert (np.abs(sigma) < 0.1).any()


def test_responses_are_the_posterior_variances() -> None:
    """Against the diagonal of (S + lambda_0)^-1: each within its scatter over weights, the means within 2 %."""
    features, ridge = prompts(P=800, noise=0.2), 0.02
    found = message_passing(features, denoiser_of(Ridge(), ridge))
    exact = np.diag(np.linalg.inv(features.gram() + ridge * np.eye(420))).reshape(21, 20)
    ours = features.P * found.response
    for rows in (slice(0, 20), slice(20, 21)):
        assert abs(ours[rows].mean() / exact[rows].mean() - 1) < 0.02
        assert np.abs(ours[rows] / exact[rows] - 1).max() < 0.5


def test_failure_is_a_status() -> None:
    features = prompts(P=400)
    found = message_passing(features, denoiser_of(Ridge(), 1e-3), max_iterations=5)
    assert (found.status, found.iterations) == (Status.MAX_ITERATIONS, 5)

    def broken(field: Array, stiffness: Array, prompts: int) -> tuple[Array, Array]:
        return np.full_like(field, np.nan), np.ones_like(field)

    assert message_passing(features, broken).status == Status.NON_FINITE


@pytest.mark.parametrize(
    ("name", "value"), [("damping", 1.0), ("damping", -0.5), ("tolerance", 0.0), ("max_iterations", 0)]
)
def test_parameters_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"{name} = {value}"):
        message_passing(prompts(D=4, N=8, P=10), denoiser_of(Ridge(), 0.1), **{name: value})
