"""An unevaluated average allows what every average allows, and nothing reaches its bound variables."""

import pytest
import sympy as sp

from replica_icl.symbolic.averages import Average, concentrate, expand_averages

x, y = sp.symbols("x y", positive=True)
p, q = sp.symbols("p q", positive=True)


def mean(integrand: sp.Expr) -> sp.Expr:
    return Average(integrand, (x, y))


def test_a_law_is_normalised() -> None:
    assert mean(p**2) == p**2
    assert mean(sp.Integer(1)) == 1


def test_bound_variables_are_not_free() -> None:
    assert mean(p * x + y).free_symbols == {p}
    assert mean(p * x + y).bound_symbols == [x, y]


def test_derivative_goes_under_the_average() -> None:
    assert mean(sp.log(1 + p * x)).diff(p) == mean(x / (1 + p * x))
    assert mean(x).diff(p) == 0
    assert mean(p * x).diff(x) == 0


def test_second_derivative_and_product_rule() -> None:
    f = p * mean(sp.exp(p * x))
    assert sp.expand(f.diff(p, 2) - 2 * mean(x * sp.exp(p * x)) - p * mean(x**2 * sp.exp(p * x))) == 0


def test_split_is_linear() -> None:
    assert mean(p * x + q * y + p * q).split() == p * mean(x) + q * mean(y) + p * q
    assert mean(p * (x + y) / (1 + x)).split() == p * mean(x / (1 + x)) + p * mean(y / (1 + x))


def test_expand_averages_multiplies_out_around_averages_only() -> None:
    expression = (1 + p) * mean(q * x + 1)
    assert expand_averages(expression) == q * mean(x) + 1 + p * q * mean(x) + p
    assert expand_averages(mean((1 + x) ** -1)) == mean((1 + x) ** -1)


@pytest.mark.parametrize("how", ["subs", "simultaneous", "xreplace"])
def test_substitution_cannot_leak_into_bound_variables(how: str) -> None:
    average = mean(p * x)
    rule = {x: sp.Integer(3), p: q}
    changed = {
        "subs": lambda: average.subs(rule),
        "simultaneous": lambda: average.subs(rule, simultaneous=True),
        "xreplace": lambda: average.xreplace(rule),
    }[how]()
    assert changed == mean(q * x)


@pytest.mark.parametrize("method", ["subs", "xreplace"])
def test_substituting_a_free_x_does_not_capture_it(method: str) -> None:
    """<p x> at p = x' + 1, where the new free symbol has the name of a bound one."""
    average = getattr(mean(p * x), method)({p: x + 1})
    assert average.free_symbols == {x}
    # Under the law at x = 2 the average is twice the free factor.
    (bound,) = average.integrand.free_symbols & set(average.variables)
    assert sp.expand(concentrate(average, {bound: sp.Integer(2)}) - 2 * (x + 1)) == 0


def test_substitution_inside_products_and_sums_leaves_other_averages_alone() -> None:
    expression = x * mean(x) + mean(y * p)
    assert expression.subs(x, 5) == 5 * mean(x) + mean(y * p)
    assert expression.xreplace({x: sp.Integer(5)}) == 5 * mean(x) + mean(y * p)


def test_whole_average_can_be_replaced() -> None:
    assert (1 + mean(x)).xreplace({mean(x): p}) == 1 + p


def test_concentrated_law_evaluates_every_average() -> None:
    expression = p * mean(x * y + p) + mean(x) ** 2
    assert sp.expand(concentrate(expression, {x: 2, y: q}) - p * (2 * q + p) - 4) == 0


def test_concentration_may_exchange_variables() -> None:
    assert concentrate(mean(x / y), {x: y, y: x}) == y / x


def test_nested_averages_concentrate() -> None:
    outer = Average(x * Average(x * y, (y,)), (x,))
    assert concentrate(outer, {x: 3, y: 5}) == 45


def test_open_variable_is_named() -> None:
    with pytest.raises(ValueError, match="no value to y"):
        concentrate(mean(x * y), {x: 1})


def test_variable_that_does_not_occur_needs_no_value() -> None:
    assert concentrate(mean(x), {x: 7}) == 7


def test_positive_integrand_gives_a_positive_average() -> None:
    assert mean(x * p).is_positive
    assert mean(x - y).is_positive is None


def test_printing_shows_brackets() -> None:
    assert str(mean(x)) == "<x>"
    assert sp.latex(mean(x)) == r"\left\langle x \right\rangle"
    assert sp.latex(mean(x) ** 2).endswith("^{2}")
