"""Ways of comparing expressions, for the claims of a derivation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp

from replica_icl.symbolic.averages import Average

WEIGHTS = sp.Rational(1, 3), sp.Rational(2, 3)
"""Of the two points of the law that averages are taken over: unequal, so that < f g > is not < f >< g >."""
Point = Mapping[sp.Symbol, sp.Expr]


def vanishes(expression: sp.Expr) -> bool:
    """Whether `expression` (rational, or with square roots) is identically zero, by algebra."""
    return sp.expand(sp.numer(sp.together(expression))) == 0


def averaged(expression: sp.Expr, points: Sequence[Point], weights: Sequence[sp.Expr] = WEIGHTS) -> sp.Expr:
    """`expression` with every average taken over the law with these points and weights."""

    def at_points(average: sp.Basic) -> sp.Expr:
        inner = averaged(average.integrand, points, weights)
        values = [{v: point[v] for v in average.variables} for point in points]
        return sum((w * inner.subs(x, simultaneous=True) for w, x in zip(weights, values, strict=True)), sp.S.Zero)

    return expression.replace(lambda e: isinstance(e, Average), at_points)


def _number(position: int, start: int) -> sp.Float:
    return sp.Float(sp.Rational(sp.prime(2 * position + start + 3), sp.prime(position + 2 * start + 5)), 60)


def agree(first: sp.Expr, second: sp.Expr, points: int = 3, tolerance: str = "1e-30") -> bool:
    """Whether two expressions have the same values, at a few points and with averages over a law of two points.

    For expressions with logarithms, where algebra needs choices of branch; evaluated with 60 digits.
    """
    difference = sp.sympify(first) - second
    bound = {v for average in difference.atoms(Average) for v in average.variables}
    names = sorted(difference.free_symbols | bound, key=str)
    for start in range(points):
        values, others = ({x: _number(i, start + shift) for i, x in enumerate(names)} for shift in (0, 7))
        at_values = sp.N(averaged(difference, (values, others)).subs(values), 60)
        if not abs(at_values) < sp.Float(tolerance):
            return False
    return True
