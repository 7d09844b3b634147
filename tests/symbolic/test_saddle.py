"""Stationarity by differentiation, and roots that keep their digits."""

import pytest
import sympy as sp

from replica_icl.symbolic.saddle import SaddlePoint, stable_positive_root

x, y, g = sp.symbols("x y g", positive=True)


def test_equations_are_derivatives() -> None:
    saddle = SaddlePoint(x**2 * y - sp.log(x), (x, y))
    assert saddle.equations == {x: 2 * x * y - 1 / x, y: x**2}


@pytest.mark.parametrize("slope", [-3, sp.Rational(-1, 7), 0, sp.Rational(2, 5), 10**4])
def test_root_is_the_positive_one_for_either_sign(slope: sp.Expr) -> None:
    B, C = sp.Symbol("B", real=True), sp.Symbol("C", positive=True)
    root = stable_positive_root(sp.Poly(x**2 - B * x - C, x), grouped_by=g)
    value = root.subs({B: slope, C: 3})
    assert value.is_positive
    assert sp.simplify(value**2 - slope * value - 3) == 0


@pytest.mark.parametrize("slope", [1e8, -1e8])
def test_root_keeps_its_digits_where_the_other_formula_loses_them(slope: float) -> None:
    B, C = sp.Symbol("B", real=True), sp.Symbol("C", positive=True)
    root = sp.lambdify([B, C], stable_positive_root(sp.Poly(x**2 - B * x - C, x), grouped_by=g), "math")
    exact = sp.N((sp.Rational(slope) + sp.sqrt(sp.Rational(slope) ** 2 + 4)) / 2, 30)
    assert abs(root(slope, 1.0) / exact - 1) < 1e-15


def test_leading_coefficient_is_divided_out() -> None:
    root = stable_positive_root(sp.Poly(g * x**2 - g * x - 6 * g, x), grouped_by=g)
    assert root == 3


def test_polynomial_that_is_not_quadratic_is_refused() -> None:
    with pytest.raises(ValueError, match="not a quadratic"):
        stable_positive_root(sp.Poly(x**3 - 1, x), grouped_by=g)
