"""Ingredients of a long expression, by name: derivatives are taken of short ones and filled in at the end."""

from __future__ import annotations

import sympy as sp

from replica_icl.symbolic.averages import split_averages, with_denominators_alike


class Names:
    """Symbols and what they stand for.

    Attributes:
        values: name -> expression in other symbols than names, written so that equal averages look equal.
    """

    def __init__(self) -> None:
        self.values: dict[sp.Symbol, sp.Expr] = {}
        self._derivatives: dict[tuple[sp.Symbol, sp.Symbol], sp.Expr] = {}

    def __call__(self, name: str, value: sp.Expr) -> sp.Expr:
        """A symbol for `value`; a number stays what it is."""
        value = split_averages(with_denominators_alike(sp.sympify(value)))
        if value.is_Number:
            return value
        symbol = sp.Dummy(name, real=True)
        self.values[symbol] = value
        return symbol

    def matrix(self, name: str, values: sp.Matrix, symmetric: bool = False) -> sp.Matrix:
        """A symbol for each entry; with `symmetric` one for both of a pair."""
        entries: dict[tuple[int, int], sp.Expr] = {}
        for i in range(values.rows):
            for j in range(values.cols):
                twin = symmetric and j < i
                entries[i, j] = entries[j, i] if twin else self(f"{name}_{i + 1}{j + 1}", values[i, j])
        return sp.Matrix(values.rows, values.cols, lambda i, j: entries[i, j])

    def slope(self, expression: sp.Expr, by: sp.Symbol) -> sp.Expr:
        """Derivative of an expression in names, in names: the derivative of what a name stands for gets one."""
        total, met = expression.diff(by), expression.free_symbols
        for name in [name for name in self.values if name in met]:
            if (name, by) not in self._derivatives:
                self._derivatives[name, by] = self(f"{name.name}_by_{by.name}", self.values[name].diff(by))
            total += expression.diff(name) * self._derivatives[name, by]
        return total

    def in_full(self, expression: sp.Expr) -> sp.Expr:
        """An expression with every name replaced by what it stands for."""
        return expression.xreplace(self.values)
