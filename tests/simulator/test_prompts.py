"""Prompts have the law that they claim, and depend on nothing but the stream."""

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator import prompts as module
from replica_icl.simulator.prompts import batch_size, check_tasks, draw_prompts, prompt_batches

CLEAN = Setting(D=5, N=7, P=9, ridge=0.1)
Z_MAX = 4.0


def test_labels_and_target_are_the_task_over_root_dimension() -> None:
    drawn = draw_prompts(CLEAN, 11, np.random.default_rng(0))
    assert drawn.tokens.shape == (11, 7, 5)
    assert (drawn.n, drawn.N, drawn.D) == (11, 7, 5)
    np.testing.assert_allclose(drawn.labels, np.einsum("nd,nid->ni", drawn.tasks, drawn.tokens) / 5**0.5, atol=1e-13)
    np.testing.assert_allclose(drawn.target, np.einsum("nd,nd->n", drawn.tasks, drawn.query) / 5**0.5, atol=1e-13)


def test_label_noise_has_variance_rho_on_labels_and_target() -> None:
    rho, n = 0.7, 6000
    drawn = draw_prompts(Setting(D=5, N=7, P=9, ridge=0.1, noise=rho), n, np.random.default_rng(1))
    on_labels = drawn.labels - np.einsum("nd,nid->ni", drawn.tasks, drawn.tokens) / 5**0.5
    on_target = drawn.target - np.einsum("nd,nd->n", drawn.tasks, drawn.query) / 5**0.5
    for noise in (on_labels.ravel(), on_target):
        assert abs(np.mean(noise)) < Z_MAX * np.sqrt(rho / noise.size)
        assert abs(np.var(noise) - rho) < Z_MAX * rho * np.sqrt(2 / noise.size)
    correlation = np.mean(on_labels[:, 0] * on_target)
    assert abs(correlation) < Z_MAX * rho / np.sqrt(n)


def test_fresh_tasks_tokens_and_queries_are_standard_normal() -> None:
    drawn = draw_prompts(CLEAN, 4000, np.random.default_rng(2))
    for values in (drawn.tasks, drawn.tokens, drawn.query):
        assert abs(values.mean()) < Z_MAX / np.sqrt(values.size)
        assert abs(values.var() - 1) < Z_MAX * np.sqrt(2 / values.size)


def test_given_tasks_are_used_uniformly() -> None:
    tasks, n = np.arange(20.0).reshape(4, 5), 4000
    drawn = draw_prompts(CLEAN, n, np.random.default_rng(3), tasks)
    counts = np.array([np.sum((drawn.tasks == task).all(axis=1)) for task in tasks])
    assert counts.sum() == n
    assert np.all(np.abs(counts - n / 4) < Z_MAX * np.sqrt(n * 3 / 16))


def test_task_diversity_draws_k_distinct_tasks_shared_by_all_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 8 * 7 * 5 * 10)
    diverse = Setting(D=5, N=7, P=200, ridge=0.1, K=3)
    batches = list(prompt_batches(diverse, 200, np.random.default_rng(4)))
    assert [batch.n for batch in batches] == [10] * 20
    assert len(np.unique(np.concatenate([batch.tasks for batch in batches]), axis=0)) == 3


def test_batches_have_a_size_fixed_by_the_setting_and_make_up_n() -> None:
    long = Setting(D=50, N=2000, P=9, ridge=0.1)
    assert batch_size(long) == 4 * 2**20 // (8 * 50 * 2000) == 5
    assert batch_size(Setting(D=3000, N=3000, P=1, ridge=0.1)) == 1
    batches = list(prompt_batches(long, 12, np.random.default_rng(5)))
    assert [batch.n for batch in batches] == [5, 5, 2]
    again = list(prompt_batches(long, 12, np.random.default_rng(5)))
    for one, other in zip(batches, again, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
    assert not np.array_equal(batches[0].query, batches[1].query)


@pytest.mark.parametrize(
    "tasks",
    [np.ones((3, 4)), np.ones(5), np.ones((0, 5)), [[1.0], [1.0, 2.0]], np.full((2, 5), np.nan), [["a"] * 5]],
)
def test_bad_tasks_are_named(tasks: object) -> None:
    with pytest.raises(ParameterError) as caught:
        draw_prompts(CLEAN, 3, np.random.default_rng(0), tasks)  # type: ignore[arg-type]
    assert caught.value.parameter == "tasks"


def test_another_number_of_tasks_than_k_is_an_error() -> None:
    with pytest.raises(ParameterError, match="K = 2: must equal the number of given tasks, 3"):
        check_tasks(np.ones((3, 5)), 5, 2)


@pytest.mark.parametrize("n", [0, -1, 2.5, True])
def test_number_of_prompts_must_be_a_positive_integer(n: object) -> None:
    with pytest.raises(ParameterError, match="n = "):
        draw_prompts(CLEAN, n, np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="n = "):
        next(prompt_batches(CLEAN, n, np.random.default_rng(0)))  # type: ignore[arg-type]
