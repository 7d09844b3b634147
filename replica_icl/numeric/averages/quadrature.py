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


def log_density(dof: float, t: Array) -> Array:
    """Logarithm of the density of t = log x for x = chi2_dof / dof: half^half / Gamma(half) exp(half (t - e^t))."""
    half = dof / 2
    peak: float = half * (math.log(half) - 1) - gammaln(half)
    return peak + half * (t - np.expm1(t))


@cache
def trapezoid_chi_square(dof: float, step: float, missed: float, highest: int = 0, steepest: float = 1.0) -> Rule:
    """Trapezoid rule in t = log x for x = chi2_dof / dof.

    Args:
        dof: degrees of freedom; 0 is what does not occur, and has one node.
        step: in t, see `safe_step`.
        missed: log of what may be left out in each tail, relative to the whole, e.g. -40.
        highest: the integrands grow at most like x^highest to the right and like x^-highest to the left, or with an
            exponent that is less by a multiple of two.
        steepest: to the left they grow by steepest^2 and no more, like 1 / (1 + steepest x)^2.
    """
    if dof == 0:
        return _frozen(np.ones(1), np.ones(1))
    half = dof / 2
    peak = float(log_density(dof, np.zeros(())))
    growth = 2 * math.log(max(steepest, 1.0))

    def left_end(power: int) -> int:
        """Where the left tail ends for integrands that grow like x^-power, walking outwards from the largest one."""

        def log_grown(t: float) -> float:
            return float(log_density(dof, np.asarray(t))) + min(growth, -power * t)

        # The mass below t is about exp(log_density(t)) / half. The largest contribution is at the mode, t = 0, or with
        # few degrees of freedom where the growth ends.
        turn = -growth / power if power else 0.0
        left = math.floor(turn / step) if log_grown(turn) > peak else 0
        largest = max(log_grown(turn), peak, 0.0)
        while log_grown(step * left) - math.log(half) > missed + largest:
            left -= 1
        return left

    left = min(left_end(power) for power in range(highest % 2, highest + 1, 2))
    right = 0
    while float(log_density(dof, np.asarray(step * right))) + highest * step * right > missed:
        right += 1
    t = step * np.arange(left, right + 1)
    weights = np.exp(log_density(dof, t) - peak)
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
    The Gauss order is the least that agrees with a fine trapezoid rule on all of them; where the trapezoid rule needs
    no more nodes, or with gauss=False, it is taken.
    """
    if dof == 0:
        return trapezoid_chi_square(dof, 1.0, 0.0)
    missed, step = math.log(tolerance), safe_step(dof, tolerance, power)
    trapezoid = trapezoid_chi_square(dof, step, missed - 3, 2 * power, steepest)
    if not gauss:
        return trapezoid
    slopes = steepest * 10.0 ** -np.arange(0.0, max(3.0, math.log10(steepest) + 3))
    exact = _integrands(trapezoid_chi_square(dof, 0.6 * step, missed - 8, 2 * power, steepest), slopes, power)

    def good(order: int) -> bool:
        return bool(np.all(np.abs(_integrands(gauss_chi_square(dof, order), slopes, power) / exact - 1) < tolerance))

    low, high = 1, len(trapezoid[0]) - 1
    if high < 2 or not good(high):
        return trapezoid
    while high - low > 1:  # the least order that is good, `low` being none
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return gauss_chi_square(dof, high)


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
