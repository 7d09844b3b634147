"""Prompts with covariances: literal tokens, sufficient statistics and exact errors agree."""

import numpy as np
import pytest

from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.observables import error_by_prompts, icl_error, idg_error
from replica_icl.simulator.prompts import draw_prompts

D = 4
FACTOR = np.random.default_rng(5).standard_normal((D, D))
TOKENS = FACTOR @ FACTOR.T / D
TASKS = FACTOR[:, :2] @ FACTOR[:, :2].T  # rank 2, and it does not commute with TOKENS
WEIGHTS = 0.1 * np.random.default_rng(6).standard_normal((D + 1, D + 1))
LAW = PromptLaw.of(D=D, task_covariance=TASKS, token_covariance=TOKENS)


def test_tokens_queries_and_tasks_have_their_covariances() -> None:
    prompts = draw_prompts(Setting(D=D, N=3, P=1, ridge=1.0), 40000, np.random.default_rng(0), law=LAW)
    for rows, wanted in ((prompts.tokens[:, 0], TOKENS), (prompts.query, TOKENS), (prompts.tasks, TASKS)):
        scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2) / np.sqrt(len(rows))
        assert np.max(np.abs(rows.T @ rows / len(rows) - wanted) / scale) < 4
    assert prompts.labels == pytest.approx(np.einsum("pnd,pd->pn", prompts.tokens, prompts.tasks) / np.sqrt(D))


def test_exact_errors_are_those_of_literal_prompts() -> None:
    tasks = np.random.default_rng(7).standard_normal((3, D))
    for given, exact in (
        (None, icl_error(WEIGHTS, 5, 0.3, LAW, D=D)),
        (tasks, idg_error(WEIGHTS, tasks, 5, 0.3, LAW)),
    ):
        measured = error_by_prompts(WEIGHTS, 5, 0.3, n_prompts=100000, tasks=given, law=LAW)
        assert measured.sem is not None
        assert measured.sem < 0.02 * exact
        assert abs(measured.mean - exact) < 4 * measured.sem


def test_identity_gives_the_isotropic_errors() -> None:
    same = PromptLaw.of(D=D, task_covariance="identity", token_covariance="identity")
    tasks = np.random.default_rng(7).standard_normal((3, D))
    assert icl_error(WEIGHTS, 5, 0.3, same, D=D) == pytest.approx(icl_error(WEIGHTS, 5, 0.3, D=D), rel=1e-13)
    assert idg_error(WEIGHTS, tasks, 5, 0.3, same) == pytest.approx(idg_error(WEIGHTS, tasks, 5, 0.3), rel=1e-13)


def test_scaling_the_tokens_is_scaling_the_weights() -> None:
    # x -> 2 x with W / 4 on the token block and W / 2 on the last row predicts the same; labels double as tasks do.
    scaled = np.array(WEIGHTS)
    scaled[:D] /= 4
    scaled[D] /= 2
    law = PromptLaw.of(D=D, token_covariance=4 * TOKENS, task_covariance=TASKS / 4)
    assert icl_error(scaled, 5, 0.3, law, D=D) == pytest.approx(icl_error(WEIGHTS, 5, 0.3, LAW, D=D), rel=1e-13)


def test_sufficient_statistics_have_the_moments_of_literal_prompts() -> None:
    setting, n = Setting(D=D, N=3, P=1, ridge=1.0, noise=0.2), 40000
    drawn = []
    for sampler in ("tokens", "sufficient"):
        law = PromptLaw.of(sampler, D=D, task_covariance=TASKS, token_covariance=TOKENS)
        found = draw_features(setting, np.random.default_rng(1), n=n, law=law)
        drawn.append(np.column_stack([found.context, found.query, found.target]))
    products = [rows[:, :, None] * rows[:, None, :] for rows in drawn]
    difference = products[0].mean(axis=0) - products[1].mean(axis=0)
    error = np.sqrt((products[0].var(axis=0) + products[1].var(axis=0)) / n)
    assert np.max(np.abs(difference) / error) < 4.5


def test_simulate_scores_other_test_prompts() -> None:
    setting = Setting(D=6, N=8, P=60, ridge=0.05, noise=0.1)
    how = {"task_covariance": "low-rank:0.5", "token_covariance": "power-law:1"}
    found = simulate(setting, 3, **how, test_task_covariance="identity", test_N=20, test_noise=0.0)
    plain = simulate(setting, 3, **how)
    assert "e_icl_test" not in plain.values
    assert plain.values["e_icl"] == pytest.approx(found.values["e_icl"], rel=1e-12)  # test prompts draw nothing
    as_trained = simulate(setting, 3, **how, test_task_covariance="low-rank:0.5", test_N=8)
    assert as_trained.values["e_icl_test"] == pytest.approx(as_trained.values["e_icl"], rel=1e-12)
    assert not np.allclose(found.values["e_icl_test"], found.values["e_icl"], rtol=1e-3)
