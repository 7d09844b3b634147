"""Message passing on the prompts: exact ground states, how many iterations, variances, and failure as a status."""

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from replica_icl.cavity.gamp import message_passing
from replica_icl.conventions import ridge_from_li
from replica_icl.errors import ParameterError
from replica_icl.meeting.message_passing import denoiser_of
from replica_icl.priors import Laplace, Ridge
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


FIGURE_4A = [(int(N), int(P)) for N in np.linspace(2, 100, 50) for P in np.linspace(20, 1000, 50)]
"""Context lengths and numbers of prompts of the 2500 points; D = 20, ridge 1 in the units of the paper."""


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(np.random.default_rng(4).choice(FIGURE_4A, 20, replace=False).tolist(), id="twenty"),
        pytest.param(FIGURE_4A, id="all", marks=pytest.mark.long),
    ],
)
def test_ground_states_of_figure_4a_take_at_most_40_iterations(points: list[tuple[int, int]]) -> None:
    most = 0
    for N, P in points:
        features, ridge = prompts(N=N, P=P), ridge_from_li(1.0, N)
        taken = iterations_to(features, ground_state(features, ridge).W, ridge)
        assert taken <= 40, (N, P)
        most = max(most, taken)
    print(f"{len(points)} points, at most {most} iterations")
    assert most > 10


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 3.0, 25.0])
def test_a_ridge_of_one_percent_takes_at_most_80_iterations(alpha: float) -> None:
    features = prompts(P=round(alpha * 400))
    assert iterations_to(features, ground_state(features, 0.01).W, 0.01) <= 80


@pytest.mark.long
@pytest.mark.parametrize("ridge", [0.01, 0.03, 0.1])
def test_ridges_down_to_one_percent_take_at_most_80_iterations(ridge: float) -> None:
    """Three samples at each of ten alpha and three context lengths, with and without label noise."""
    taken = []
    for alpha in np.geomspace(0.1, 25, 10):
        for N, noise in ((20, 0.0), (40, 0.25), (100, 0.0)):
            for seed in range(3):
                features = prompts(N=N, P=round(alpha * 400), noise=noise, seed=seed)
                taken.append(iterations_to(features, ground_state(features, ridge).W, ridge))
    print(f"ridge {ridge}: at most {max(taken)} iterations")
    assert max(taken) <= 80


def test_a_tiny_ridge_near_the_transition_slows_it_down() -> None:
    features = prompts(P=400)
    found = message_passing(features, denoiser_of(Ridge(), 1e-3))
    exact = ground_state(features, 1e-3).W
    assert found.status == Status.CONVERGED
    assert np.linalg.norm(found.W - exact) < 1e-6 * np.linalg.norm(exact)
    assert found.iterations > 80


@pytest.mark.parametrize(
    ("D", "N", "seed"), [(4, 8, 5), (6, 12, 5), (8, 16, 0), (8, 40, 2), (8, 40, 5), (10, 50, 1), (14, 70, 5)]
)
def test_where_undamped_iterations_diverge_damping_sets_in_and_the_ground_state_is_reached(
    D: int, N: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small instances at P = D^2, ridge 1e-3: those out of 112 on which the undamped iteration diverges."""
    features = prompts(D=D, N=N, P=D * D, seed=seed)
    found = message_passing(features, denoiser_of(Ridge(), 1e-3), damping=0.0)
    exact = ground_state(features, 1e-3).W
    assert found.status == Status.CONVERGED
    assert np.linalg.norm(found.W - exact) < 1e-6 * np.linalg.norm(exact)
    assert 0 < found.damping < 0.7
    monkeypatch.setattr("replica_icl.cavity.gamp.SHORTER", 1.0)
    monkeypatch.setattr("replica_icl.cavity.gamp.LOST", np.inf)
    with np.errstate(over="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert message_passing(features, denoiser_of(Ridge(), 1e-3), damping=0.0).status != Status.CONVERGED


@pytest.mark.parametrize(("P", "l1"), [(20, 1e-3), (30, 1e-2), (30, 1e-5), (40, 1e-2), (40, 1e-4)])
def test_few_prompts_under_a_tiny_penalty_end_in_the_optimum_or_say_that_they_did_not(P: int, l1: float) -> None:
    """By the conditions of the optimum: the residuals' pull is lambda_1 sign(W), and at most that where W is zero."""
    features = prompts(P=P)
    found = message_passing(features, denoiser_of(Laplace(l1), 0.0), damping=0.2)
    sigma = found.W[:, :20]
    pull = features.apply_transpose(features.target - features.apply(sigma)) / P
    away = np.where(sigma != 0, np.abs(pull - l1 * np.sign(sigma)), np.maximum(np.abs(pull) - l1, 0)).max() / l1
    assert found.status == Status.MAX_ITERATIONS or (found.status == Status.CONVERGED and away < 1e-5)
    if (P, l1) == (40, 1e-2):
        assert found.status == Status.CONVERGED


@pytest.mark.parametrize(("P", "ridge"), [(100, 0.0), (250, 0.01), (900, 0.0)])
def test_sparse_optima_are_reached(P: int, ridge: float) -> None:
    features = prompts(D=14, N=40, P=P, noise=0.1)
    found = message_passing(features, denoiser_of(Laplace(0.01), ridge), damping=0.2)
    exact = laplace_optimum(features, 0.01, ridge, gap=1e-13)
    assert found.status == Status.CONVERGED
    assert np.linalg.norm(found.W - exact.W) < 1e-6 * np.linalg.norm(exact.W)
    assert np.array_equal(found.W != 0, exact.W != 0)


def test_responses_are_the_posterior_variances() -> None:
    """Against the diagonal of (S + lambda_0)^-1: each within its scatter over weights, the means within 2 %."""
    features, ridge = prompts(P=800, noise=0.2), 0.02
    found = message_passing(features, denoiser_of(Ridge(), ridge))
    exact = np.diag(np.linalg.inv(features.gram() + ridge * np.eye(420))).reshape(21, 20)
    ours = features.P * found.response
    for rows in (slice(0, 20), slice(20, 21)):
        assert abs(ours[rows].mean() / exact[rows].mean() - 1) < 0.02
        assert np.abs(ours[rows] / exact[rows] - 1).max() < 0.5


def test_weights_that_stand_still_while_residuals_move_have_not_converged() -> None:
    """The same weights whatever the field: they are there at once, their residuals one iteration later."""
    features, W = prompts(D=4, N=8, P=10), np.ones((5, 4))
    found = message_passing(features, lambda g, A, P: (W, np.zeros_like(W)), damping=0.0)
    assert (found.status, found.iterations) == (Status.CONVERGED, 3)


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
