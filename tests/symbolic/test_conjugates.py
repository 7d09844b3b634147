"""The entropic part with conjugate fields in the ground state; the chapter "weight-priors" claims the rest."""

import numpy as np
import pytest
import sympy as sp

from replica_icl.model.priors import laplace, ridge
from replica_icl.model.priors.ridge import GaussianPrior
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import WeightBlock
from replica_icl.symbolic.conjugates import Fields, SeparableWeights
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.symbolic.stability import replicon_direction

A, X = sp.symbols("A X", positive=True)
h = sp.Symbol("h", real=True)
m, q, V = s.m, s.q, s.V
BLOCK = WeightBlock("tokens", s.D**2, s.D, ReplicaSymmetric(q + V, q), m)


def kept(potential: object = ridge.POTENTIAL, price: sp.Expr = s.beta) -> SeparableWeights:
    return SeparableWeights((BLOCK,), (Fields(A, X, h),), potential, price)


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
