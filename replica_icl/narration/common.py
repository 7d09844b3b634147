"""What the steps of a derivation share: names, and ways of comparing expressions."""

from __future__ import annotations

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average, concentrate
from replica_icl.theory.fresh_tasks import FreshTasks
from replica_icl.theory.fresh_tasks_limit import (
    shrinkage,
)

residual = sp.Symbol("R", positive=True)
"""R: squared residual of the mean weights on one prompt, given its scalars."""
susceptibility = sp.Symbol("chi", positive=True)
"""chi = V |c|^2 + V_u l^2: T chi is the thermal variance of a residual."""
LABELS = {
    "e_icl": r"e_{\mathrm{ICL}}",
    "train_error": r"e_{\mathrm{train}}",
    "e_gibbs": r"e_{\mathrm{Gibbs}}",
    "train_gibbs": r"e_{\mathrm{train, Gibbs}}",
    "weight_norm": "|W|^2",
    "contrast": r"\mathrm{contrast}",
    "replicon": r"\mathrm{replicon}",
}
"""LaTeX of the observables' names."""
NAMED = (residual, susceptibility, shrinkage)

temperature_factor = sp.Symbol("f", positive=True)
COLDER = {
    s.beta: temperature_factor * s.beta,
    s.inverse_scale: temperature_factor * s.inverse_scale,
    s.V: s.V / temperature_factor,
    s.V_u: s.V_u / temperature_factor,
}
"""A change of temperature: fluctuations are proportional to 1/beta."""


def vanishes(expression: sp.Expr) -> bool:
    """Whether `expression` (rational, or with square roots) is identically zero, by algebra."""
    return sp.expand(sp.numer(sp.together(expression))) == 0


def agree(first: sp.Expr, second: sp.Expr, points: int = 3, tolerance: str = "1e-30") -> bool:
    """Whether two expressions have the same values, at a few points and with the law of averages at one value.

    For expressions with logarithms, where algebra needs choices of branch; evaluated with 60 digits.
    """
    difference = sp.sympify(first) - second
    bound = {v for average in difference.atoms(Average) for v in average.variables}
    names = sorted(difference.free_symbols | bound, key=str)
    for start in range(points):
        values = {
            x: sp.Float(sp.Rational(sp.prime(2 * i + start + 3), sp.prime(i + 2 * start + 5)), 60)
            for i, x in enumerate(names)
        }
        at_values = sp.N(concentrate(difference, values).subs(values), 60)
        if not abs(at_values) < sp.Float(tolerance):
            return False
    return True


def named(theory: FreshTasks, expression: sp.Expr) -> sp.Expr:
    """`expression` with R, chi and s = 1 / (1 + b T chi) written in its averages."""
    fluctuation = theory.energetic.fluctuation
    short = [
        (1 / theory.energetic.shrinkage, 1 / shrinkage),
        (fluctuation, s.query_norm * susceptibility),
        (theory.energetic.covariance.off_diagonal, residual),
    ]

    def shortened(average: Average) -> sp.Expr:
        integrand = sp.expand_log(average.integrand.subs(short))
        return Average(integrand, (*s.SCALARS, *NAMED))

    return expression.replace(lambda e: isinstance(e, Average), shortened)


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
