"""The spectral law of the covariance R_K = (1/K) sum_k w_k w_k^T of K = kappa D Gaussian tasks, as D -> infinity.

log det(z + R_K) is minus twice the log-volume of D weights v with energy v.(z + R_K)v / 2: K prompts whose features are
the tasks and whose targets vanish. The replica machinery makes it a saddle point in one overlap G = |v|^2 / D, which is
the Stieltjes transform g(z) = < 1 / (r + z) > of the law at -z. Every spectral average of a rational function of r
follows by differentiation; the law itself (Marchenko-Pastur, with an atom at zero for kappa < 1) never has to be
written down.
"""

from __future__ import annotations

from functools import cache

import sympy as sp

from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.model.priors.ridge import GaussianPrior
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import WeightBlock
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.symbolic.saddle import stable_positive_root

kappa = sp.Symbol("kappa", positive=True)
"""K / D, tasks per dimension."""
distance = sp.Symbol("z", positive=True)
"""Minus the argument of the Stieltjes transform, > 0: left of the spectrum."""
eigenvalue = sp.Symbol("r", nonnegative=True)
"""An eigenvalue of R_K."""
transform = sp.Symbol("G", positive=True)
"""G = < 1 / (r + z) >."""
signal = sp.Symbol("S", positive=True)
"""S = 1/G - z: with one eigenvalue S in place of the spectrum, < 1 / (r + z) > would be the same. S(z) rises from
(1 - 1/kappa)_+ to 1."""


@cache
def log_volume() -> sp.Expr:
    """(1/D) log-volume of the probe weights v, in G, z and kappa, without the constant of their volume."""
    overlap = ReplicaSymmetric(transform, sp.S.Zero)
    prior = GaussianPrior((WeightBlock("probe", s.D, s.D, overlap, sp.S.Zero),), sp.S.One, (distance,))
    # w.v / sqrt(D) has variance G for w ~ N(0, I); exp(-(D/K) (w.v / sqrt(D))^2 / 2) for each of the K tasks.
    loss = SquaredLoss(overlap, prompts=kappa * s.D, inverse_scale=1 / kappa)
    return sp.expand((prior.free_entropy() - prior.constant() + loss.free_entropy()) / s.D)


@cache
def quadratic() -> sp.Poly:
    """The quadratic that S satisfies."""
    in_signal = log_volume().diff(transform).subs(transform, 1 / (distance + signal))
    numerator = sp.numer(sp.together(in_signal))
    _, factors = sp.factor_list(sp.expand(numerator), signal)
    (polynomial,) = (sp.Poly(f, signal) for f, _ in factors if sp.degree(f, signal) == 2)
    monic = sp.Poly(sp.expand(polynomial.as_expr() / polynomial.LC()), signal)
    return sp.Poly(sp.collect(monic.as_expr(), signal), signal)


@cache
def signal_root() -> sp.Expr:
    """S(z) in closed form, without cancellation."""
    return stable_positive_root(quadratic(), grouped_by=kappa)


@cache
def slope() -> sp.Expr:
    """dS/dz in S and z: kappa is eliminated by the quadratic."""
    polynomial = quadratic().as_expr()
    (tasks,) = sp.solve(polynomial, kappa)
    derivative = -polynomial.diff(distance) / polynomial.diff(signal)
    return sp.factor(sp.cancel(derivative.subs(kappa, tasks)))


@cache
def power_average(power: int) -> sp.Expr:
    """< (r + z)^(-power) > in S and z, for powers from -1 on; the mean of the law is one."""
    if power == -1:
        return 1 + distance
    if power == 0:
        return sp.S.One
    if power == 1:
        return 1 / (distance + signal)
    lower = power_average(power - 1)
    total = lower.diff(distance) + lower.diff(signal) * slope()
    return sp.factor(total / (1 - power))


def spectral_average(expression: sp.Expr) -> sp.Expr:
    """< expression > over the law, in S and z, of a rational function of r whose only pole is r = -z, at most linear.

    The result is written over its denominator with z multiplying what is left of S < 1, so that terms are positive.

    Raises:
        ValueError: for any other function of r.
    """
    shifted = sp.Symbol("t", positive=True)
    in_shift = sp.expand(sp.cancel(sp.together(expression.subs(eigenvalue, shifted - distance))))
    total = sp.S.Zero
    for term in sp.Add.make_args(in_shift):
        coefficient, monomial = term.as_independent(shifted, as_Add=False)
        power = -sp.degree(monomial, shifted) if monomial.is_polynomial(shifted) else sp.degree(1 / monomial, shifted)
        if sp.simplify(monomial * shifted**power) != 1 or power < -1:
            raise ValueError(f"not a linear or rational function with its pole at r = -z alone: {expression}")
        total += coefficient * power_average(int(power))
    return sp.factor(sp.together(total))


@cache
def log_average() -> sp.Expr:
    """< log(r + z) > in S, z and kappa: minus twice the log-volume, up to a constant that large z fixes."""
    volume = -2 * log_volume().subs(transform, 1 / (distance + signal))
    at_infinity = sp.limit((volume - sp.log(distance)).subs(signal, 1), distance, sp.oo)
    return sp.expand_log(volume - at_infinity)
