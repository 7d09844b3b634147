"""What a prompt of a given task says: its form over the directions across the task, against drawn directions."""

import numpy as np
import pytest
import sympy as sp

from replica_icl.model.attention.merged import Attention, prediction
from replica_icl.symbolic import symbols as s
from replica_icl.theory.task_contexts import across, along, mean_form, variance_form

D = 5
AT = {along: 0.7, across: 1.3, s.corner: 0.9, s.D: D}


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """A symmetric S over (task, four across, corner, target), and c^.S c^ at 200,000 directions."""
    rng = np.random.default_rng(0)
    S = rng.standard_normal((D + 2, D + 2))
    S = S + S.T
    directions = rng.standard_normal((200_000, D - 1))
    directions *= np.sqrt(AT[across]) / np.linalg.norm(directions, axis=1, keepdims=True)
    context = np.ones((len(directions), D + 2))
    context[:, 0], context[:, 1:D], context[:, D], context[:, D + 1] = AT[along], directions, AT[s.corner], -1.0
    return S, np.einsum("ki,ij,kj->k", context, S, context)


def numbers(expressions: tuple[sp.Expr, ...]) -> np.ndarray:
    return np.array([float(sp.sympify(x).subs(AT)) for x in expressions])


def test_mean_is_that_of_drawn_directions() -> None:
    S, values = drawn()
    form = mean_form()
    parts = np.array([S[0, 0], np.trace(S[1:D, 1:D]), S[D, D], 2 * S[0, D]])
    expected = numbers(form.parts) @ parts + numbers(form.pulls) @ S[[0, D], D + 1] + float(form.target) * S[-1, -1]
    assert values.mean() == pytest.approx(expected, abs=4 * values.std() / np.sqrt(values.size))


def test_variance_is_that_of_drawn_directions() -> None:
    """Each of its seven coefficients is more than ten standard errors of the whole."""
    S, values = drawn()
    form = variance_form()
    u, e, t, inner = S[0, 1:D], S[D, 1:D], S[D + 1, 1:D], S[1:D, 1:D]
    parts = np.array([u @ u, np.sum(inner**2) - np.trace(inner) ** 2 / (D - 1), e @ e, u @ e])
    terms = np.concatenate(
        [numbers(form.parts) * parts, numbers(form.pulls) * np.array([u @ t, e @ t]), numbers((form.target,)) * (t @ t)]
    )
    error = np.sqrt((np.mean((values - values.mean()) ** 4) - values.var() ** 2) / values.size)
    assert values.var() == pytest.approx(terms.sum(), abs=4 * error)
    assert np.all(np.abs(terms) > 10 * error)


def test_a_doubled_forward_pass_doubles_the_context_and_not_the_target() -> None:
    twice = Attention.of(lambda *args: 2 * prediction(*args))
    for derive, powers in ((mean_form, (4, 2, 1)), (variance_form, (16, 8, 4))):
        own, doubled = derive(), derive(twice)
        pairs = [(own.parts, doubled.parts), (own.pulls, doubled.pulls), ((own.target,), (doubled.target,))]
        for (before, after), power in zip(pairs, powers, strict=True):
            assert all(sp.simplify(y - power * x) == 0 for x, y in zip(before, after, strict=True))


def test_a_forward_pass_that_is_no_multiple_of_the_context_is_refused() -> None:
    squared = Attention(lambda *args: prediction(*args) ** 2, Attention.of(prediction).covariance)
    with pytest.raises(ValueError, match="no multiple"):
        mean_form(squared)
