"""Saddle-point equations by differentiation, and closed forms by elimination."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp


@dataclass(frozen=True)
class SaddlePoint:
    """A free entropy and its stationarity in every order parameter.

    Attributes:
        free_entropy: Phi(order parameters; control parameters).
        order_parameters: the symbols that Phi is extremised over.
    """

    free_entropy: sp.Expr
    order_parameters: tuple[sp.Symbol, ...]

    @property
    def equations(self) -> dict[sp.Symbol, sp.Expr]:
        """d Phi / d(order parameter), each of which vanishes at the saddle."""
        return {x: self.free_entropy.diff(x) for x in self.order_parameters}


def stable_positive_root(polynomial: sp.Poly, grouped_by: sp.Symbol) -> sp.Expr:
    """The one positive root of A x^2 - B x - C with A > 0, C >= 0, without cancellation for either sign of B.

    (B + sqrt(B^2 + 4 A C)) / 2A for B > 0 and its conjugate 2C / (sqrt(B^2 + 4 A C) - B) otherwise: both add numbers
    of one sign only. B is written as `grouped_by` times a factored coefficient, so that differences like alpha - 1
    are formed first, where they are exact.

    Raises:
        ValueError: if the polynomial is not quadratic, or a branch does not satisfy it.
    """
    if polynomial.degree() != 2:
        raise ValueError(f"not a quadratic: {polynomial}")
    A, minus_B, minus_C = polynomial.all_coeffs()
    B = sp.collect(sp.expand(-minus_B / A), grouped_by, func=sp.factor)
    C, A = sp.cancel(-minus_C / A), sp.S.One
    root = sp.sqrt(B**2 + 4 * A * C)
    branches = (B + root) / (2 * A), 2 * C / (root - B)
    if any(
        sp.simplify(sp.expand(sp.numer(sp.together(polynomial.as_expr().subs(polynomial.gen, x))))) for x in branches
    ):
        raise ValueError(f"a branch is no root of {polynomial}")
    return sp.Piecewise((branches[0], B > 0), (branches[1], True))
