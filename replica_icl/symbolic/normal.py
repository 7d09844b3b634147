"""Tail and density of a standard normal variable, as functions that stay as they are, and truncated moments by them.

SymPy's own erfc moves signs out of its argument, which costs all digits of a small tail, and its integrals split
exponentials into factors that overflow. These two are lowered as one call each.
"""

from __future__ import annotations

from functools import cache

import sympy as sp


class NormalDensity(sp.Function):
    """exp(-t^2 / 2) / sqrt(2 pi)."""

    nargs = 1
    is_real = True
    is_positive = True

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return -self.args[0] * self

    def _eval_rewrite_as_exp(self, t: sp.Expr, **_: object) -> sp.Expr:
        return sp.exp(-(t**2) / 2) / sp.sqrt(2 * sp.pi)

    def _eval_evalf(self, precision: int) -> sp.Expr:
        return self.rewrite(sp.exp)._eval_evalf(precision)


class NormalTail(sp.Function):
    """Probability that a standard normal variable exceeds t."""

    nargs = 1
    is_real = True
    is_positive = True

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        return -NormalDensity(self.args[0])

    def _eval_rewrite_as_erfc(self, t: sp.Expr, **_: object) -> sp.Expr:
        return sp.erfc(t / sp.sqrt(2)) / 2

    def _eval_evalf(self, precision: int) -> sp.Expr:
        return self.rewrite(sp.erfc)._eval_evalf(precision)


@cache
def tail_moment(power: int, edge: sp.Symbol) -> sp.Expr:
    """int_edge^oo z^power density(z) dz, by parts: z^(k-1) (z density) integrates to -z^(k-1) density."""
    if power == 0:
        return NormalTail(edge)
    boundary = edge ** (power - 1) * NormalDensity(edge)
    return boundary + ((power - 1) * tail_moment(power - 2, edge) if power > 1 else 0)


def above(function: sp.Expr, variable: sp.Symbol, edge: sp.Expr, mean: sp.Expr, variance: sp.Expr) -> sp.Expr:
    """< f(g); g > edge > for g ~ N(mean, variance), f a polynomial in g.

    Raises:
        ValueError: if `function` is no polynomial in `variable`.
    """
    if edge == sp.oo:
        return sp.S.Zero
    z, t = sp.Dummy("z", real=True), sp.Dummy("t", real=True)
    polynomial = sp.expand(function.subs(variable, mean + sp.sqrt(variance) * z))
    if not polynomial.is_polynomial(z):
        raise ValueError(f"{function} is no polynomial in {variable}: its truncated average has no closed form here")
    terms = sp.Poly(polynomial, z).terms()
    total = sum((c * tail_moment(int(power), t) for (power,), c in terms), sp.S.Zero)
    return total.subs(t, (edge - mean) / sp.sqrt(variance))
