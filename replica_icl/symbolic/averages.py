"""An unevaluated average over a law, as a SymPy expression with bound variables.

`Average(f, variables)` is < f >. It knows what an average always allows and nothing else: it is normalised
and linear, it can be differentiated under the integral, and a substitution reaches its free symbols only.
What the law *is* enters when the expression is lowered (quadrature) or concentrated (every variable at one value).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sympy as sp


class Average(sp.Expr):
    """< integrand > over a law of `variables`, unevaluated.

    Args:
        integrand: SymPy expression.
        variables: the bound symbols, a tuple; they are no free symbols of the average.

    An integrand without bound variables is returned as it is (the law is normalised).
    """

    is_commutative = True

    def __new__(cls, integrand: sp.Expr, variables: Iterable[sp.Symbol]) -> sp.Expr:
        integrand = sp.sympify(integrand)
        bound = sp.Tuple(*variables)
        if not integrand.free_symbols & set(bound):
            return integrand
        return super().__new__(cls, integrand, bound)

    @property
    def integrand(self) -> sp.Expr:
        return self.args[0]

    @property
    def variables(self) -> sp.Tuple:
        return self.args[1]

    @property
    def bound_symbols(self) -> list[sp.Symbol]:
        return list(self.variables)

    @property
    def free_symbols(self) -> set[sp.Symbol]:
        return self.integrand.free_symbols - set(self.variables)

    def _eval_is_extended_real(self) -> bool | None:
        return self.integrand.is_extended_real

    def _eval_is_positive(self) -> bool | None:
        return True if self.integrand.is_positive else None

    def _eval_derivative(self, symbol: sp.Symbol) -> sp.Expr:
        if symbol in self.variables:
            return sp.S.Zero
        return Average(self.integrand.diff(symbol), self.variables)

    def _renamed_apart(self, symbols: set[sp.Symbol]) -> Average:
        """The same average with fresh names for those bound variables that clash with `symbols`."""
        fresh = {v: sp.Dummy(v.name, **v.assumptions0) for v in self.variables if v in symbols}
        if not fresh:
            return self
        return Average(self.integrand.xreplace(fresh), [fresh.get(v, v) for v in self.variables])

    def _eval_subs(self, old: sp.Expr, new: sp.Expr) -> sp.Expr:
        if old.free_symbols & set(self.variables):
            return self
        apart = self._renamed_apart(sp.sympify(new).free_symbols)
        return Average(apart.integrand.subs(old, new), apart.variables)

    def _xreplace(self, rule: Mapping[sp.Basic, sp.Basic]) -> tuple[sp.Basic, bool]:
        if not isinstance(rule, Mapping):  # SymPy's simplification rewrites by a rule of its own; not in here
            return self, False
        if self in rule:
            return rule[self], True
        bound = set(self.variables)
        outer = {old: new for old, new in rule.items() if not old.free_symbols & bound}
        incoming: set[sp.Symbol] = set().union(*(sp.sympify(new).free_symbols for new in outer.values()))
        apart = self._renamed_apart(incoming)
        integrand, changed = apart.integrand._xreplace(outer)
        return (Average(integrand, apart.variables), True) if changed else (self, False)

    def _eval_simplify(self, **_: Any) -> Average:
        return self

    def split(self) -> sp.Expr:
        """Linearity: a sum of averages, with what has no bound variable outside. Denominators stay as they are."""
        bound = set(self.variables)
        total = sp.S.Zero
        for summand in sp.Add.make_args(self.integrand):
            factors = sp.Mul.make_args(summand)
            below = [f for f in factors if f.is_Pow and f.exp.could_extract_minus_sign()]
            above = sp.expand(sp.Mul(*(f for f in factors if f not in below)))
            for term in sp.Add.make_args(above):
                outside, inside = sp.Mul(term, *below).as_independent(*bound, as_Add=False)
                total += outside * Average(inside, self.variables)
        return total

    def _sympystr(self, printer: Any) -> str:
        return f"<{printer.doprint(self.integrand)}>"

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        body = rf"\left\langle {printer.doprint(self.integrand)} \right\rangle"
        return body if exp is None else rf"{body}^{{{exp}}}"


def split_averages(expression: sp.Expr) -> sp.Expr:
    """`expression` with every average split by linearity, and nothing else changed."""
    return expression.replace(lambda e: isinstance(e, Average), lambda e: e.split())


def expand_averages(expression: sp.Expr) -> sp.Expr:
    """`expression` as a sum of products of averages: each split by linearity, then multiplied out around them."""
    split = split_averages(expression)
    names = {average: sp.Dummy() for average in split.atoms(Average)}
    back = {name: average for average, name in names.items()}
    return sp.expand(split.xreplace(names)).xreplace(back)


def with_denominators_alike(expression: sp.Expr) -> sp.Expr:
    """Denominators inside averages as powers of irreducible factors, so that equal ones are seen to be equal."""

    def in_factors(average: Average) -> sp.Expr:
        integrand = average.integrand.replace(
            lambda e: e.is_Pow and e.base.is_Add, lambda e: sp.Pow(sp.factor(e.base), e.exp)
        )
        return Average(integrand, average.variables)

    return expression.replace(lambda e: isinstance(e, Average), in_factors)


def concentrate(expression: sp.Expr, values: Mapping[sp.Symbol, sp.Expr]) -> sp.Expr:
    """Evaluate every average in `expression` under the law that has all its mass at `values`.

    Raises:
        ValueError: naming a bound variable that `values` leaves open.
    """

    def at_values(average: sp.Basic) -> sp.Expr:
        missing = [v.name for v in average.variables if v not in values and v in average.integrand.free_symbols]
        if missing:
            raise ValueError(f"the concentrated law gives no value to {', '.join(missing)}")
        inner = concentrate(average.integrand, values)
        return inner.subs({v: values[v] for v in average.variables if v in values}, simultaneous=True)

    return expression.replace(lambda e: isinstance(e, Average), at_values)
