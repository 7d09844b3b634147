"""The law with the tokens and labels first is the law with the task first."""

from itertools import combinations_with_replacement

import pytest
import sympy as sp

from replica_icl.model.prompts.gaussian import fresh_task_prompts, label_norm
from replica_icl.model.prompts.gaussian_context import (
    across,
    programs,
    prompts_by_context,
    signal,
    silent,
    task_moments,
)
from replica_icl.symbolic import symbols as s

T, omega, g, a, ell = s.SCALARS
TASK_FIRST, CONTEXT_FIRST = fresh_task_prompts(), prompts_by_context()


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_moments_of_context_and_overlap_are_those_of_the_task_first(degree: int) -> None:
    """Exactly, as rational functions of D, N and rho, for all products of |c|^2, c.w and l."""
    for product in map(sp.prod, combinations_with_replacement((a, g, ell), degree)):
        difference = TASK_FIRST.moment(product) - CONTEXT_FIRST.moment(product)
        assert sp.cancel(sp.together(difference)) == 0, product


@pytest.mark.parametrize(
    ("row", "in_task", "norms"),
    [
        (0, g, (a,)),
        (0, g, (a, a, ell)),
        (1, omega, (a, a)),
        (1, omega, (a, a, ell)),
        (2, g * g, (a, a)),
        (2, g * g, (a, a, ell)),
        (3, g * omega, (a, a, a)),
        (4, omega**2, (a, a, a, a)),
    ],
    ids=str,
)
def test_means_over_the_task_give_the_moments_of_the_task(
    row: int, in_task: sp.Expr, norms: tuple[sp.Symbol, ...]
) -> None:
    """< x(w) |c|^2k ... > with the mean of x(w) / |c|^2 over the task; enough powers of |c|^2 leave a polynomial."""
    ((_, precision),) = programs()[-1].definitions
    mean = sum(coefficient / label_norm**k for k, coefficient in enumerate(task_moments().entries[row]))
    mean = mean.subs(sp.Symbol("precision", positive=True), precision)
    products = {g: 1, omega: 1, g * g: 2, g * omega: 2, omega**2: 2}
    with_norms = sp.prod([CONTEXT_FIRST.scalars[x] for x in norms])
    polynomial = sp.cancel(sp.together(mean * with_norms))
    found = CONTEXT_FIRST.mean_over(polynomial, tuple(x for x in CONTEXT_FIRST.chi_squares if x is not across))
    wanted = TASK_FIRST.moment(in_task * sp.prod(norms) / a ** products[in_task])
    assert sp.cancel(sp.together(found - wanted)) == 0


def test_no_two_terms_of_the_squared_context_cancel() -> None:
    """Unlike with the task first, where noise along the task can be opposite to it."""
    others = sp.Symbol("n", nonnegative=True)
    terms = sp.Add.make_args(sp.expand(CONTEXT_FIRST.scalars[a].subs(s.N, others + 1)))
    assert len(terms) == 3
    assert all(term.is_nonnegative for term in terms)
    first = sp.Add.make_args(sp.expand(TASK_FIRST.scalars[a]))
    assert not all(term.is_nonnegative for term in first)


def test_one_label_leaves_no_silent_token() -> None:
    """At N = 1, c = y x: |c|^2 / l = |x|^2 is a chi-square of D degrees of freedom, whatever the noise."""
    alone = {x: value.subs(s.N, 1) for x, value in CONTEXT_FIRST.scalars.items()}
    assert sp.simplify(alone[a] / alone[ell]) == s.D * signal
    assert not any(value.has(silent) for value in alone.values())
