"""Exact scores against fresh prompts through the literal forward pass, within four standard errors."""

import math

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.observables import (
    Estimate,
    error_by_prompts,
    icl_error,
    idg_error,
    overlaps,
    training_error,
)

D = 5
Z_MAX = 4.0
W = 0.4 * np.random.default_rng(0).standard_normal((D + 1, D + 1)) + 0.5 * np.eye(D + 1)
TASKS = np.random.default_rng(1).standard_normal((3, D)) * np.array([[0.5], [1.0], [2.0]])


@pytest.mark.parametrize(("N", "noise"), [(4, 0.0), (4, 0.5), (30, 0.5)])
def test_icl_error_is_what_fresh_prompts_measure(N: int, noise: float) -> None:
    measured = error_by_prompts(W, N, noise, n_prompts=40_000, seed=2)
    assert measured.sem is not None
    assert measured.sem < 0.03 * measured.mean
    assert abs(measured.mean - icl_error(W, N, noise, D=len(W) - 1)) < Z_MAX * measured.sem


@pytest.mark.parametrize(("N", "noise"), [(4, 0.0), (4, 0.5), (30, 0.5)])
def test_idg_error_is_what_prompts_of_the_given_tasks_measure(N: int, noise: float) -> None:
    measured = error_by_prompts(W, N, noise, n_prompts=40_000, seed=3, tasks=TASKS)
    assert measured.sem is not None
    assert measured.sem < 0.03 * measured.mean
    assert abs(measured.mean - idg_error(W, TASKS, N, noise)) < Z_MAX * measured.sem


def test_idg_error_over_many_gaussian_tasks_is_the_icl_error() -> None:
    tasks = np.random.default_rng(4).standard_normal((200, 100, D))
    blocks = Estimate.of(np.array([idg_error(W, block, 7, 0.3) for block in tasks]))
    assert blocks.sem is not None
    assert blocks.sem < 0.02 * blocks.mean
    assert abs(blocks.mean - icl_error(W, 7, 0.3, D=len(W) - 1)) < Z_MAX * blocks.sem


def test_idg_error_is_the_mean_over_tasks() -> None:
    single = [idg_error(W, TASKS[k : k + 1], 4, 0.5) for k in range(3)]
    assert idg_error(W, TASKS, 4, 0.5) == pytest.approx(np.mean(single), rel=1e-13)
    assert np.ptp(single) > 0.1


def test_no_weights_predict_nothing_and_identity_is_limited_by_context() -> None:
    nothing = np.zeros((D + 1, D + 1))
    assert icl_error(nothing, 4, 0.5, D=len(nothing) - 1) == 1.5
    assert idg_error(nothing, TASKS, 4, 0.5) == pytest.approx(0.5 + np.mean(np.sum(TASKS**2, axis=1)) / D)
    identity = np.diag([1.0] * D + [0.0])
    assert icl_error(identity, 10**9, D=len(identity) - 1) == pytest.approx(0.0, abs=1e-7)


def test_last_column_does_not_count() -> None:
    other = W.copy()
    other[:, -1] = 17.0
    assert icl_error(other, 4, 0.5, D=len(other) - 1) == icl_error(W, 4, 0.5, D=len(W) - 1)
    assert idg_error(other, TASKS, 4, 0.5) == idg_error(W, TASKS, 4, 0.5)


def test_training_error_is_the_mean_squared_residual() -> None:
    features = draw_features(Setting(D=D, N=4, P=6, ridge=0.1), np.random.default_rng(5))
    residuals = [
        y - sum(c[i] * W[i, j] * x[j] for i in range(D + 1) for j in range(D))
        for c, x, y in zip(features.context, features.query, features.target, strict=True)
    ]
    assert training_error(W, features) == pytest.approx(np.mean(np.square(residuals)), rel=1e-12)


def test_overlaps_of_a_matrix_written_out() -> None:
    matrix = np.array([[1.0, 2.0, 9.0], [3.0, 5.0, 9.0], [4.0, 6.0, 7.0]])
    measured = overlaps(matrix)
    assert measured.m == 3.0
    assert measured.q == (1 + 4 + 9 + 25) / 2
    assert measured.u == 16 + 36
    assert measured.contrast == pytest.approx(13 / math.sqrt((39 + 52 + 81 + 81 + 49) * 3))
    assert overlaps(np.eye(4)).contrast == pytest.approx(1.0)
    assert math.isnan(overlaps(np.zeros((4, 4))).contrast)


def test_estimate_of_one_value_has_no_standard_error() -> None:
    assert Estimate.of(np.array([2.0])) == Estimate(2.0, None, 1)
    assert Estimate.of(np.array([1.0, 3.0])) == Estimate(2.0, pytest.approx(1.0), 2)


def test_scores_by_prompts_depend_on_the_seed_only() -> None:
    first, again, other = (error_by_prompts(W, 4, n_prompts=50, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_bad_input_is_named() -> None:
    for call, name in (
        (lambda: icl_error(np.ones((3, 4)), 4, D=3), "W"),
        (lambda: icl_error(np.full((4, 4), np.nan), 4, D=3), "W"),
        (lambda: icl_error(W, 0, D=len(W) - 1), "N"),
        (lambda: icl_error(W, 4, -0.1, D=len(W) - 1), "noise"),
        (lambda: idg_error(W, np.ones((3, D + 1)), 4), "tasks"),
        (lambda: error_by_prompts(W, 4, n_prompts=0), "n_prompts"),
        (lambda: error_by_prompts(W, 4, seed=-1), "seed"),
    ):
        with pytest.raises(ParameterError) as caught:
            call()
        assert caught.value.parameter == name
