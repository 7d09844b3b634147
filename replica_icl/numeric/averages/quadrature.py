"""One-dimensional rules for the factors of the prompt law: chi-squares and Gaussians.

Two families, so that each can be judged by the other. Gauss rules converge fast for many degrees of freedom; with few
and a small ridge the integrand has a feature at small x that they miss, and doubling the order does not show it. The
trapezoid rule in log x converges exponentially for every number of degrees of freedom, because the integrands are
analytic in a strip around the real log x.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq
from scipy.special import gammaln

Array = NDArray[np.floating[Any]]
Rule = tuple[Array, Array]
"""Nodes and weights; the weights add to one."""


@cache
def gauss_chi_square(dof: float, order: int) -> Rule:
    """Gauss rule for x = chi2_dof / dof, from the Laguerre Jacobi matrix (Golub-Welsch), any dof > 0."""
    index = np.arange(order, dtype=float)
    shape = dof / 2 - 1
    diagonal = 2 * index + 1 + shape
    beside = np.sqrt(index[1:] * (index[1:] + shape))
    nodes, vectors = eigh_tridiagonal(diagonal, beside)
    weights = vectors[0] ** 2
    return _frozen(nodes * (2 / dof), weights / weights.sum())


@cache
def gauss_normal(order: int) -> Rule:
    """Gauss rule for a standard normal variable."""
    nodes, vectors = eigh_tridiagonal(np.zeros(order), np.sqrt(np.arange(1.0, order)))
    weights = vectors[0] ** 2
    return _frozen(nodes, weights / weights.sum())


@cache
def trapezoid_normal(step: float, reach: float) -> Rule:
    """Trapezoid rule for a standard normal variable, nodes out to `reach` standard deviations."""
    count = math.ceil(reach / step)
    nodes = step * np.arange(-count, count + 1)
    weights = np.exp(-(nodes**2) / 2)
    return _frozen(nodes, weights / weights.sum())


@cache
def trapezoid_chi_square(dof: float, step: float, missed: float, highest: int = 0, steepest: float = 1.0) -> Rule:
    """Trapezoid rule in t = log x for x = chi2_dof / dof.

    Args:
        dof: degrees of freedom > 0.
        step: in t, see `safe_step`.
        missed: log of what may be left out in each tail, relative to the whole, e.g. -40.
        highest: the integrands grow at most like x^highest to the right and like x^-highest to the left.
        steepest: to the left they grow by steepest^2 and no more, like 1 / (1 + steepest x)^2.
    """
    half = dof / 2
    peak = half * (math.log(half) - 1) - gammaln(half)
    growth = 2 * math.log(max(steepest, 1.0))

    def log_density(t: Array | float) -> Array:
        """Density of t: half^half / Gamma(half) exp(half (t - e^t)), from its peak at t = 0."""
        return peak + half * (t - np.expm1(t))

    def log_grown(t: float) -> float:
        """The density times what an integrand may have grown by at t < 0."""
        return float(log_density(t)) + min(growth, -highest * t)

    # Left tail: the mass below t is about exp(log_density(t)) / half. Walk outwards from the largest contribution: the
    # mode at t = 0, or with few degrees of freedom the place where the growth ends.
    turn = -growth / highest if highest else 0.0
    left = math.floor(turn / step) if log_grown(turn) > peak else 0
    largest = max(log_grown(turn), peak)
    while log_grown(step * left) - math.log(half) > missed + max(largest, 0.0):
        left -= 1
    right = 0
    while log_density(step * right) + highest * step * right > missed:
        right += 1
    t = step * np.arange(left, right + 1)
    weights = np.exp(log_density(t) - log_density(t).max())
    return _frozen(np.exp(t), weights / weights.sum())


def safe_step(dof: float, tolerance: float, power: int = 1) -> float:
    """Step of the trapezoid rule in log x for integrands in x^power, to a relative `tolerance`.

    The rule is off by twice the integrand's Fourier transform at theta = 2 pi / step; for the density times x^j, by
    |Gamma(a + i theta)| / Gamma(a) with a = dof/2 + j, a Gaussian of width 1 / sqrt(a) only while theta < a, which
    then decays like exp(-pi theta / 2); the largest power, (x^power)^2, decays last. The nearest singularity of
    1 / (1 + B x^power), at distance pi/power from the real axis, costs 2 exp(-2 pi^2 / (power step)). Both with 15 % in
    reserve.
    """
    log = math.log(4 / tolerance)
    a = dof / 2 + 2 * power

    def left(r: float) -> float:
        """log of the transform at theta = a r over the tolerance, by Stirling's formula."""
        return (a - 0.5) * math.log1p(r * r) / 2 - a * r * math.atan(r) + log

    highest = math.sqrt(2 * log / a) + 2 * log / a  # beyond the root in both regimes
    theta = a * brentq(left, 0.0, highest)
    return 0.85 * min(2 * math.pi / theta, 2 * math.pi**2 / (power * log))


@cache
def chi_square_rule(dof: float, tolerance: float, steepest: float, power: int = 1, gauss: bool = True) -> Rule:
    """The cheapest rule for x = chi2_dof / dof that integrates the theory's integrands to `tolerance`.

    With z = x^j, j up to `power`, the integrands are products of z and s = 1 / (1 + B z), B anywhere up to `steepest`.
    The Gauss order is raised until it agrees with a fine trapezoid rule on all of them; where the trapezoid rule needs
    no more nodes, or with gauss=False, it is taken.
    """
    decades = max(0, math.ceil(math.log10(max(steepest, 1.0))))
    missed, step = math.log(tolerance), safe_step(dof, tolerance, power)
    trapezoid = trapezoid_chi_square(dof, step, missed - 3, 2 * power, 10.0**decades)
    if not gauss:
        return trapezoid
    slopes = 10.0 ** np.arange(-2, decades + 1)
    exact = _integrands(trapezoid_chi_square(dof, 0.6 * step, missed - 8, 2 * power, 10.0**decades), slopes, power)
    for order in range(2, len(trapezoid[0])):
        rule = gauss_chi_square(dof, order)
        if np.all(np.abs(_integrands(rule, slopes, power) / exact - 1) < tolerance):
            return rule
    return trapezoid


@cache
def normal_rule(tolerance: float, gauss: bool = True) -> Rule:
    """A rule for a standard normal variable in integrands that are smooth on its scale, to `tolerance`."""
    digits = -math.log10(tolerance)
    if gauss:
        return gauss_normal(math.ceil(1.1 * digits) + 2)
    step = 0.85 * math.pi * math.sqrt(2 / math.log(4 / tolerance))
    return trapezoid_normal(step, math.sqrt(2 * math.log(10) * (digits + 1)))


def _integrands(rule: Rule, slopes: Array, power: int) -> Array:
    x, weights = rule
    values = []
    for j in range(1, power + 1):
        z = x**j
        s = 1 / (1 + slopes[:, None] * z)
        values += [s, z * s, s**2, z * s**2, (z * s) ** 2]
    return np.array(values) @ weights


def _frozen(nodes: Array, weights: Array) -> Rule:
    nodes.setflags(write=False)
    weights.setflags(write=False)
    return nodes, weights
