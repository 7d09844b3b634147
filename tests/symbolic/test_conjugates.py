"""The entropic part with conjugate fields: integer n, n -> 0, and the ridge that eliminates them."""

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import dblquad, quad

from replica_icl.model.priors import laplace, ridge
from replica_icl.model.priors.ridge import GaussianPrior
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import WeightBlock
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.conjugates import Fields, SeparableWeights, noise
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.symbolic.stability import replicon_direction

A, X = sp.symbols("A X", positive=True)
h = sp.Symbol("h", real=True)
m, q, V = s.m, s.q, s.V
BLOCK = WeightBlock("tokens", s.D**2, s.D, ReplicaSymmetric(q + V, q), m)


def kept(potential: object = ridge.POTENTIAL, price: sp.Expr = s.beta) -> SeparableWeights:
    return SeparableWeights((BLOCK,), (Fields(A, X, h),), potential, price)


def gaussian_mean(average: Average) -> sp.Expr:
    """An average over z of the logarithm of a Gaussian integral, which is a polynomial of second degree in z."""
    c, g, W = sp.Symbol("c", positive=True), sp.Symbol("g", real=True), sp.Symbol("W", real=True)
    solved = sp.simplify(sp.integrate(sp.exp(-c * W**2 / 2 + g * W), (W, -sp.oo, sp.oo), conds="none"))
    (integral,) = average.integrand.atoms(sp.Integral)
    exponent = sp.Poly(sp.expand(integral.function.args[0]), W)
    value = solved.subs({c: -2 * exponent.coeff_monomial(W**2), g: exponent.coeff_monomial(W)}, simultaneous=True)
    polynomial = sp.Poly(sp.expand(sp.expand_log(sp.log(value), force=True)), noise)
    return sum((c * (0, 1)[power % 2 == 0] for (power,), c in polynomial.terms()), sp.S.Zero)


def test_the_ridge_eliminates_the_fields_and_leaves_the_gaussian_prior() -> None:
    """Identically: the extremum over A, X and h is the log-volume with its determinants, constants included."""
    free_entropy = kept().free_entropy().replace(lambda e: isinstance(e, Average), gaussian_mean)
    (extremum,) = sp.solve([free_entropy.diff(x) for x in (A, X, h)], [A, X, h], dict=True)
    assert sp.simplify(extremum[A] - (s.D / V - s.beta * s.ridge)) == 0
    assert sp.simplify(extremum[h] - s.D * m / V) == 0
    difference = free_entropy.subs(extremum) - GaussianPrior((BLOCK,)).free_entropy()
    assert sp.simplify(sp.expand_log(sp.expand(difference), force=True)) == 0


def test_the_ridge_eliminates_the_fields_in_the_ground_state_too() -> None:
    energy = kept(price=s.P).ground_state().doit()
    (extremum,) = sp.solve([energy.diff(x) for x in (A, X, h)], [A, X, h], dict=True)
    assert sp.simplify(energy.subs(extremum) - GaussianPrior((BLOCK,)).ground_state()) == 0


@pytest.mark.parametrize("replicas", [4, 5])
def test_curvature_with_fields_is_that_of_the_determinants(replicas: int) -> None:
    direction = replicon_direction(replicas)
    (with_fields,) = kept(price=s.P).curvature(direction)
    (eliminated,) = GaussianPrior((BLOCK,)).curvature(direction)
    assert sp.simplify(with_fields.subs(A, s.D / V - s.P * s.ridge) - eliminated) == 0


NUMBERS = {A: 1.3, X: 0.4, h: 0.6, s.beta: 1.1, laplace.l1: 0.7}


def partition(z: float, share: float) -> float:
    """int dW exp(-A W^2/2 + (e h + sqrt(X) z) W - beta l1 |W|) by quadrature."""
    push = share * NUMBERS[h] + np.sqrt(NUMBERS[X]) * z

    def weight(W: float) -> float:
        return float(np.exp(-NUMBERS[A] * W**2 / 2 + push * W - NUMBERS[s.beta] * NUMBERS[laplace.l1] * abs(W)))

    return quad(weight, -12, 0)[0] + quad(weight, 0, 12)[0]


@pytest.mark.parametrize("replicas", [1, 2])
def test_replicas_written_out_are_an_average_over_independent_ones(replicas: int) -> None:
    """Of the Laplace prior, at integer n: the integral over n coupled weights is < (one weight's)^n > over z."""
    integrals = sorted(kept(laplace.POTENTIAL).explicit(replicas).atoms(sp.Integral), key=lambda x: x.has(h))
    assert len(integrals) == 2
    for share, integral in zip((0.0, 1.0), integrals, strict=True):
        names = [limit[0] for limit in integral.limits]
        weight = sp.lambdify(names, integral.function.subs(NUMBERS))
        if replicas == 1:
            coupled = quad(weight, -12, 0)[0] + quad(weight, 0, 12)[0]
        else:
            ends = ((-9, 0), (0, 9))
            coupled = sum(dblquad(weight, *a, *b, epsabs=1e-8)[0] for a in ends for b in ends)
        z, weights = np.polynomial.hermite_e.hermegauss(60)
        decoupled = weights / np.sqrt(2 * np.pi) @ np.array([partition(x, share) ** replicas for x in z])
        assert abs(coupled / decoupled - 1) < 1e-6


def test_action_vanishes_without_replicas_and_its_slope_is_the_free_entropy() -> None:
    action = kept(laplace.POTENTIAL).replica_symmetric()
    assert sp.simplify(action.subs(s.replicas, 0)) == 0
    averages = kept(laplace.POTENTIAL).free_entropy().atoms(Average)
    assert all(a.integrand.func is sp.log for a in averages)
    assert len(averages) == 2


def test_the_ground_state_is_what_freezes() -> None:
    """log of one weight's integral over beta tends to minus its least energy."""
    weights = kept(laplace.POTENTIAL, s.P)
    aligned, _ = BLOCK.populations
    least = weights.of_weight("energy", aligned, weights.fields[0])
    cold = {A: 1.3, X: 0.4, h: 0.6, s.P: 1.1, laplace.l1: 0.7}
    z, gauss = np.polynomial.hermite_e.hermegauss(40)
    grid = np.linspace(-4, 5, 20001)
    heat = 2000.0
    total = 0.0
    for place, share in zip(z, gauss / np.sqrt(2 * np.pi), strict=True):
        push = 0.6 + np.sqrt(0.4) * place
        exponent = heat * (-1.3 * grid**2 / 2 + push * grid - 1.1 * 0.7 * np.abs(grid))
        top = exponent.max()
        total += share * (top + np.log(np.sum(np.exp(exponent - top)) * (grid[1] - grid[0]))) / heat
    assert abs(total + float(least.subs(cold).evalf())) < 5e-3
