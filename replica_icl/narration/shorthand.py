"""Expressions of the theory of fresh tasks written the way in which they are read: with R, chi and s, with 1 + rho."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.theory.fresh_tasks import FreshTasks
from replica_icl.theory.fresh_tasks_limit import shrinkage

residual = sp.Symbol("R", positive=True)
"""R: squared residual of the mean weights on one prompt, given its scalars."""
susceptibility = sp.Symbol("chi", positive=True)
"""chi = V |c|^2 + V_u l^2: T chi is the thermal variance of a residual."""
_BOUND = (*s.SCALARS, residual, susceptibility, shrinkage)


def _each_average(expression: sp.Expr, write: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
    return expression.replace(lambda e: isinstance(e, Average), lambda e: Average(write(e.integrand), _BOUND))


def named(theory: FreshTasks, expression: sp.Expr) -> sp.Expr:
    """`expression` with R, chi and s = 1 / (1 + b T chi) written in its averages."""
    energetic = theory.energetic
    short = [
        (1 / energetic.shrinkage, 1 / shrinkage),
        (energetic.fluctuation, s.query_norm * susceptibility),
        (energetic.covariance.off_diagonal, residual),
    ]
    return _each_average(expression, lambda integrand: sp.expand_log(integrand.subs(short)))


def with_shrinkage(theory: FreshTasks, expression: sp.Expr, power: int = 2) -> sp.Expr:
    """Averages that are proportional to s^power, with it written as s."""
    factor = theory.energetic.shrinkage**power
    return _each_average(expression, lambda integrand: sp.cancel(integrand / factor) * shrinkage**power)


def written_out(theory: FreshTasks, expression: sp.Expr) -> sp.Expr:
    """The inverse of `named`."""
    energetic = theory.energetic
    long = {
        residual: energetic.covariance.off_diagonal,
        susceptibility: energetic.fluctuation / s.query_norm,
        shrinkage: energetic.shrinkage,
    }
    return expression.replace(
        lambda e: isinstance(e, Average), lambda average: Average(average.integrand.subs(long), s.SCALARS)
    )


def in_label_variance(expression: sp.Expr) -> sp.Expr:
    """A rational function factored, with factors as polynomials in 1 + rho, the variance of a label as D grows."""
    variance = sp.Symbol(r"(1 + \rho)", positive=True)

    def collected(factor: sp.Expr) -> sp.Expr:
        inside = sp.expand(factor.subs(s.noise, variance - 1))
        shorter = sp.collect(inside, [variance, s.D], func=sp.factor)
        return shorter if factor.has(s.noise) else factor

    return sp.factor(expression).replace(lambda e: e.is_Add, collected)
