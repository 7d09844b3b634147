"""Two groups of replicas: determinants at integer sizes, and the coefficient of n1 n2 by hand."""

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import concentrate
from replica_icl.symbolic.replica_algebra import TwoGroups
from replica_icl.theory.fresh_tasks import ORDER_PARAMETERS, derive_fresh_tasks
from replica_icl.theory.sample_spread import ACROSS, OTHER, covariance

FIRST, SECOND, CROSS = (sp.Rational(7, 3), sp.Rational(2, 5)), (sp.Rational(9, 4), sp.Rational(3, 7)), sp.Rational(1, 3)


def explicit(n1: int, n2: int) -> sp.Matrix:
    def entry(a: int, b: int) -> sp.Expr:
        own = [FIRST if i < n1 else SECOND for i in (a, b)]
        if own[0] != own[1]:
            return CROSS
        return own[0][1] + (own[0][0] if a == b else 0)

    return sp.Matrix(n1 + n2, n1 + n2, entry)


def test_the_determinant_of_two_groups_is_the_explicit_one() -> None:
    symbolic = TwoGroups((FIRST[0], SECOND[0]), (FIRST[1], SECOND[1]), CROSS).log_determinant()
    names = sorted(symbolic.free_symbols, key=lambda x: x.name)
    assert [x.name for x in names] == ["n_1", "n_2"]
    for n1, n2 in ((1, 1), (2, 1), (2, 3), (4, 2)):
        value = sp.exp(symbolic.subs(dict(zip(names, (n1, n2), strict=True))))
        assert sp.simplify(value - explicit(n1, n2).det()) == 0, (n1, n2)


def test_the_coefficient_of_both_group_sizes_by_hand() -> None:
    """All prompts alike: no covariance of averages is left, P b^2 R_x^2 / (2 d d') and the sphere's fourth moment."""
    scalars = dict(zip(s.SCALARS, (sp.Rational(x, 10) for x in (9, 11, 8, 14, 12)), strict=True))
    T, omega, g, a, corner = scalars.values()
    numbers = {s.D: 6, s.P: 40, s.noise: sp.Rational(1, 4), s.inverse_scale: sp.Rational(3, 2)}
    here = dict(zip(ORDER_PARAMETERS, (sp.Rational(x, 30) for x in (9, 17, 21, 4, 6)), strict=True))
    other = dict(zip(ORDER_PARAMETERS, (sp.Rational(x, 30) for x in (8, 15, 24, 5, 7)), strict=True))
    q, u = sp.Rational(1, 2), sp.Rational(1, 7)

    value = covariance(derive_fresh_tasks())
    found = concentrate(value, scalars).subs(
        {**numbers, **here, **{OTHER[x]: y for x, y in other.items()}, ACROSS[0]: q, ACROSS[1]: u}
    )

    D, P, noise, b = numbers.values()
    d = [1 + b * T * (x[s.V] * a + x[s.V_u] * corner**2) for x in (here, other)]
    both = (here, other)

    def mean(x: dict[sp.Symbol, sp.Expr], y: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
        return T * (omega - (x[s.m] + y[s.m]) * g + x[s.m] * y[s.m] * a)

    product = here[s.m] * other[s.m]
    across = mean(here, other) + T * ((q - product) * a + u * corner**2) + noise
    sphere = -sp.Rational(2, D + 2) * (mean(here, here) * mean(other, other) + 2 * mean(here, other) ** 2) / 4
    expected = P * b**2 / (d[0] * d[1]) * (across**2 / 2 + sphere)
    expected -= sp.Rational(D**2, 2) * (q - product) ** 2 / (both[0][s.V] * both[1][s.V])
    expected -= sp.Rational(D, 2) * u**2 / (both[0][s.V_u] * both[1][s.V_u])
    assert sp.simplify(found - expected) == 0
