"""Other laws of tokens and tasks: unit variance, the stated kurtosis, and exact scores that know about it."""

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, Law, PromptLaw
from replica_icl.simulator.observables import context_moments, error_by_prompts, icl_error, idg_error
from replica_icl.simulator.prompts import draw_prompts
from replica_icl.simulator.streams import setting_key

Z_MAX = 4.0
D, N, NOISE = 4, 3, 0.2
LAWS = ["gaussian", "rademacher", "uniform", "student-t:20", "sparse:0.7"]
W = 0.3 * np.random.default_rng(0).standard_normal((D + 1, D + 1)) + 0.4 * np.eye(D + 1)
TASKS = np.random.default_rng(1).standard_normal((3, D)) * np.array([[0.5], [1.0], [2.0]])


@pytest.mark.parametrize("name", LAWS)
def test_entries_have_the_moments_of_the_law(name: str) -> None:
    law = Law.parse(name)
    entries = law.draw(np.random.default_rng(2), (400, 500)).ravel()
    for power, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, law.fourth_moment)):
        values = entries**power
        assert abs(values.mean() - expected) <= Z_MAX * values.std() / np.sqrt(values.size) + 1e-14


def test_names_are_read_and_written() -> None:
    assert Law.parse("student-t") == Law("student-t", 5.0)
    assert Law.parse("student-t").excess == pytest.approx(6.0)
    assert str(Law.parse("sparse:0.25")) == "sparse:0.25"
    assert Law.parse("sparse:0.25").fourth_moment == 12.0
    assert PromptLaw.of(law="uniform").tasks == Law("uniform")
    assert PromptLaw.of(law="uniform", task_law="gaussian").tasks == Law()


@pytest.mark.parametrize("bad", ["cauchy", "student-t:4", "student-t:x", "student-t:inf", "sparse:0", "gaussian:1"])
def test_bad_laws_are_named(bad: str) -> None:
    with pytest.raises(ParameterError) as caught:
        PromptLaw.of(law=bad)
    assert (caught.value.parameter, caught.value.value) == ("law", bad)
    with pytest.raises(ParameterError) as caught:
        PromptLaw.of(task_law=bad)
    assert (caught.value.parameter, caught.value.value) == ("task_law", bad)


def test_the_shortcut_is_for_gaussian_tokens_only() -> None:
    with pytest.raises(ParameterError, match="prompts = sufficient: must be tokens for rademacher tokens"):
        PromptLaw.of("sufficient", "rademacher")
    assert PromptLaw.of("sufficient", "gaussian", "rademacher").tasks == Law("rademacher")
    with pytest.raises(ParameterError, match="prompts = fast"):
        PromptLaw.of("fast")


def test_tokens_queries_and_tasks_have_the_laws_asked_for() -> None:
    signs = PromptLaw.of(law="rademacher", task_law="sparse:0.5")
    drawn = draw_prompts(Setting(D=D, N=N, P=5, ridge=0.1), 50, np.random.default_rng(3), law=signs)
    assert set(np.unique(drawn.tokens)) == set(np.unique(drawn.query)) == {-1.0, 1.0}
    assert 0.3 < np.mean(drawn.tasks == 0) < 0.7
    diverse = draw_prompts(Setting(D=D, N=N, P=5, ridge=0.1, K=2), 50, np.random.default_rng(3), law=signs)
    assert len(np.unique(diverse.tasks, axis=0)) == 2
    assert 0 < np.sum(np.unique(diverse.tasks, axis=0) == 0)


@pytest.mark.parametrize("name", LAWS[1:])
def test_icl_error_of_another_law_is_what_its_prompts_measure(name: str) -> None:
    law = PromptLaw.of(law=name)
    measured = error_by_prompts(W, N, NOISE, n_prompts=150_000, seed=4, law=law)
    assert measured.sem is not None
    assert measured.sem < 0.02 * measured.mean
    assert abs(measured.mean - icl_error(W, N, NOISE, law, D=len(W) - 1)) < Z_MAX * measured.sem


def test_idg_error_of_another_law_is_what_its_prompts_measure() -> None:
    for name in LAWS[1:]:
        law = PromptLaw.of(law=name)
        measured = error_by_prompts(W, N, NOISE, n_prompts=60_000, seed=5, tasks=TASKS, law=law)
        assert measured.sem is not None
        assert abs(measured.mean - idg_error(W, TASKS, N, NOISE, law)) < Z_MAX * measured.sem


def test_the_kurtosis_matters_at_this_size() -> None:
    """The agreement above is not that of two Gaussian formulas."""
    signs = PromptLaw.of(law="rademacher")
    measured = error_by_prompts(W, N, NOISE, n_prompts=150_000, seed=4, law=signs)
    assert measured.sem is not None
    assert abs(measured.mean - icl_error(W, N, NOISE, D=len(W) - 1)) > 2 * Z_MAX * measured.sem
    fixed = error_by_prompts(W, N, NOISE, n_prompts=60_000, seed=5, tasks=TASKS, law=signs)
    assert fixed.sem is not None
    assert abs(fixed.mean - idg_error(W, TASKS, N, NOISE)) > 2 * Z_MAX * fixed.sem


def test_second_moment_of_signs_by_enumeration() -> None:
    """D = 2, N = 2, no noise: G is a sum over all 64 prompts of signs."""
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 6)).reshape(6, -1).T
    second = np.zeros((3, 3))
    for w, x in ((row[:2], row[2:].reshape(2, 2)) for row in signs):
        y = x @ w / np.sqrt(2)
        context = np.append(y @ x, y @ y) / 2
        second += np.outer(context, context) / len(signs)
    exact = context_moments(2, 2, 0.0, PromptLaw.of(law="rademacher"))
    np.testing.assert_allclose(second, np.diag(exact), atol=1e-15)


def test_idg_error_of_signs_by_enumeration() -> None:
    """D = 2, N = 2, given tasks that are no signs, no noise: the mean over all 64 prompts, to rounding."""
    rng = np.random.default_rng(6)
    small, tasks = rng.standard_normal((3, 3)), rng.standard_normal((2, 2))
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 6)).reshape(6, -1).T
    squared = []
    for w in tasks / np.sqrt(2):
        for query, x in ((row[:2], row[2:].reshape(2, 2)) for row in signs):
            y = x @ w
            squared.append((w @ query - np.append(y @ x, y @ y) / 2 @ small[:, :2] @ query) ** 2)
    assert idg_error(small, tasks, 2, 0.0, PromptLaw.of(law="rademacher")) == pytest.approx(np.mean(squared), rel=1e-13)


def test_streams_tell_laws_and_samplers_apart() -> None:
    setting = Setting(D=D, N=N, P=5, ridge=0.1)
    laws = [GAUSSIAN_PROMPTS, PromptLaw.of("sufficient"), PromptLaw.of(law="uniform"), PromptLaw.of(task_law="uniform")]
    keys = {setting_key(setting, None, law) for law in laws}
    assert len(keys) == 4
    assert setting_key(setting) in keys
