"""The scalar channel: proximal maps against brute force, averages against quadrature."""

from collections.abc import Callable
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad

from replica_icl.symbolic import channel
from replica_icl.symbolic.channel import Potential, ScalarChannel
from replica_icl.symbolic.normal import NormalDensity, NormalTail, above, tail_moment

w = channel.weight
l1, l2, width = sp.symbols("l1 l2 width", positive=True)
POTENTIALS = {
    "ridge": Potential.of(l2 * w**2 / 2),
    "laplace": Potential.of(l1 * w),
    "elastic net": Potential.of(l1 * w + l2 * w**2 / 2),
    "huber": Potential(((width, l1 * w**2 / (2 * width)), (sp.oo, l1 * (w - width / 2)))),
    "kinked": Potential(((width, l1 * w), (sp.oo, l1 * width + 3 * l1 * (w - width)))),
}
NUMBERS = {
    channel.stiffness: sp.Rational(3, 2),
    channel.variance: sp.Rational(7, 5),
    channel.pull: sp.Rational(4, 5),
    channel.price: sp.Rational(5, 4),
    l1: sp.Rational(1, 2),
    l2: sp.Rational(1, 3),
    width: sp.Rational(2, 5),
}


CHANNELS = {name: ScalarChannel(potential) for name, potential in POTENTIALS.items()}


def response(name: str) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """W and dW/dg as functions of a number g, odd and even."""
    W, slope = (sp.lambdify(channel.field, x.subs(NUMBERS)) for x in CHANNELS[name].proximal())
    return (lambda g: np.sign(g) * float(W(abs(g)))), (lambda g: float(slope(abs(g))))


def potential(name: str, x: np.ndarray) -> np.ndarray:
    ends = [float(sp.sympify(end).subs(NUMBERS)) for end, _ in POTENTIALS[name].branches]
    values = [sp.lambdify(w, r.subs(NUMBERS))(np.abs(x)) for _, r in POTENTIALS[name].branches]
    return np.select([np.abs(x) <= end for end in ends], values)


@pytest.mark.parametrize("name", POTENTIALS)
def test_proximal_map_is_the_minimiser(name: str) -> None:
    A, p = float(NUMBERS[channel.stiffness]), float(NUMBERS[channel.price])
    grid = np.linspace(-3, 3, 6001)
    cost = A * grid**2 / 2 + p * potential(name, grid)
    W, _ = response(name)
    for g in (-3.0, -1.1, -0.3, 0.0, 0.2, 0.7, 1.3, 2.9):
        assert abs(W(g) - grid[np.argmin(cost - g * grid)]) <= 1e-3


@pytest.mark.parametrize("name", ["laplace", "elastic net", "huber"])
def test_averages_are_those_of_the_proximal_map(name: str) -> None:
    """By quadrature over the field, piece by piece between its kinks."""
    own = CHANNELS[name]
    h, X = float(NUMBERS[channel.pull]), float(NUMBERS[channel.variance])
    W, slope = response(name)
    edges = sorted({0.0} | {float(r.upper.subs(NUMBERS)) for r in own.regions[:-1]})
    places = [-12.0, *(-e for e in reversed(edges)), *edges, 14.0]

    def mean(f: Callable[[float], float]) -> float:
        def weighted(g: float) -> float:
            return f(g) * float(np.exp(-((g - h) ** 2) / (2 * X)) / np.sqrt(2 * np.pi * X))

        return sum(quad(weighted, a, b, epsabs=1e-12)[0] for a, b in pairwise(places) if b > a)

    expected = {
        "mean": W,
        "square": lambda g: W(g) ** 2,
        "response": slope,
        "squared_response": lambda g: slope(g) ** 2,
    }
    for what, f in expected.items():
        assert abs(float(getattr(own, what).subs(NUMBERS).evalf()) - mean(f)) < 1e-10, what


def test_means_are_derivatives_of_the_least_energy() -> None:
    """Envelope theorem: the closed forms of both sides, at numbers of 30 digits."""
    own, numbers = CHANNELS["laplace"], {x: sp.Float(value, 40) for x, value in NUMBERS.items()}
    derivatives = {
        "mean": -own.energy.diff(channel.pull),
        "square": 2 * own.energy.diff(channel.stiffness),
        "response": -2 * own.energy.diff(channel.variance),
    }
    arguments = (channel.stiffness, channel.variance, channel.pull, channel.price)
    for what, derivative in derivatives.items():
        assert abs((derivative - getattr(own, what)).subs(numbers).evalf(30)) < 1e-25, what
    function = own.least_energy(*arguments)
    assert function.doit() == own.energy
    assert (function.diff(channel.pull) + own.mean).equals(0)


def test_ridge_has_no_tails_left() -> None:
    ridge = ScalarChannel(POTENTIALS["ridge"])
    A, X, h, p = channel.stiffness, channel.variance, channel.pull, channel.price
    assert sp.simplify(ridge.energy + (X + h**2) / (2 * (A + p * l2))) == 0
    assert sp.simplify(ridge.squared_response - (A + p * l2) ** -2) == 0


def test_a_kink_holds_the_weight_while_the_field_crosses_its_jump() -> None:
    regions = ScalarChannel(POTENTIALS["kinked"]).regions
    assert [r.response for r in regions if r.response.is_number or r.response == width] == [0, width]


def test_a_potential_that_jumps_or_has_no_closed_minimiser_is_refused() -> None:
    with pytest.raises(ValueError, match="jumps at width"):
        _ = ScalarChannel(Potential(((width, l1 * w), (sp.oo, 2 * l1 * w)))).regions
    with pytest.raises(ValueError, match="no unique closed-form minimiser"):
        _ = ScalarChannel(Potential.of(l1 * (sp.cosh(w) - 1))).regions


def test_a_response_that_is_no_polynomial_has_no_closed_average() -> None:
    with pytest.raises(ValueError, match="no polynomial"):
        above(sp.sqrt(channel.field), channel.field, sp.S.One, sp.S.Zero, sp.S.One)


@pytest.mark.parametrize("power", range(5))
def test_truncated_moments_are_integrals(power: int) -> None:
    t = sp.Symbol("t", real=True)
    for edge in (sp.Rational(-3, 2), sp.Rational(1, 3), sp.Integer(2)):
        exact = mpmath.quad(lambda z: z**power * mpmath.npdf(z), [float(edge), 5, 12])
        assert abs(tail_moment(power, t).subs(t, edge).evalf() - exact) < 1e-12


def test_a_tail_keeps_its_digits_where_the_normal_distribution_is_one() -> None:
    tail = NormalTail(sp.Integer(12)).evalf(20)
    assert abs(tail / (mpmath.erfc(12 / mpmath.sqrt(2)) / 2) - 1) < 1e-13
    t = sp.Symbol("t", real=True)
    assert NormalTail(t).diff(t) == -NormalDensity(t)
    assert NormalDensity(t).diff(t) == -t * NormalDensity(t)
