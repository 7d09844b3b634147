"""What the smallest eigenvalues add near P = n: W(kappa; a) of `symbolic.hard_edge` in numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import iti0k0, ive, kv, kve

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY

Array = NDArray[np.floating[Any]]

FAR = 40.0
"""2 kappa + a from where on the asymptotic series is as accurate as the law itself, 1e-11."""
STEP = 0.15
"""Of the trapezoid rule for int K_a, whose error is exp(-pi^2 / STEP)."""
PANEL = np.polynomial.legendre.leggauss(48)


class Edge(NamedTuple):
    """W and its first two derivatives in kappa, each of shape (points,)."""

    entropy: Array
    slope: Array
    bend: Array


def edge(model: Model, index: NDArray[np.integer[Any]], kappa: Array) -> Edge:
    """The law at integer index a = |P - n| >= 0 and kappa >= 0 of the smaller side.

    Infinite for a <= 1 at kappa = 0: without a ridge a square matrix and its neighbours have no mean inverse.
    """
    far = (2 * kappa + index >= FAR) | ~np.isfinite(kappa)
    found = Edge(*(np.empty(kappa.shape) for _ in Edge._fields))
    with np.errstate(all="ignore"):
        series = _series(model, index[far], kappa[far])
        for whole, part in zip(found, series, strict=True):
            whole[far] = part
        for a in np.unique(index[~far]):
            here = np.flatnonzero(~far & (index == a))
            for whole, part in zip(found, _exact(model, int(a), kappa[here]), strict=True):
                whole[here] = part
    return found


def _series(model: Model, index: Any, kappa: Array) -> Edge:
    h = 1 / (2 * kappa + index)
    out = model.fresh_tasks_next_order.far_from_edge(NUMPY, h=h, p=index * h)
    return Edge(out.entropy, out.slope, out.bend)


def _exact(model: Model, a: int, kappa: Array) -> Edge:
    """Below FAR: derivatives from Bessel functions, W from its value at FAR and an integral over log kappa."""
    least = 0.0 if a < 2 else 10.0 ** (-200 / a)  # where mu^-a is still a number, and the law its limit
    kappa = np.maximum(kappa, least)
    slope, bend = _derivatives(a, kappa)
    end = (FAR - a) / 2
    middle, half = np.log(end * kappa)[:, None] / 2, np.log(end / kappa)[:, None] / 2
    between = np.exp(middle + half * PANEL[0])
    rise = np.sum(PANEL[1] * between * _derivatives(a, between)[0], axis=1) * half[:, 0]
    return Edge(_series(model, np.array([a]), np.array([end])).entropy - rise, slope, bend)


def _derivatives(a: int, kappa: Array) -> tuple[Array, Array]:
    """W' and W'' in kappa."""
    z2, x = kappa * (kappa + a), 2 * kappa + a
    exact, by_log = undetermined(a, 2 * np.sqrt(z2))
    beyond = exact - kappa - z2 / x**2
    beyond_by_log = by_log - z2 / x - z2 / x**2 + 4 * (z2 / x**2) ** 2  # d/dlog z^2
    return -beyond * x / (2 * z2), -(beyond_by_log * (x / z2) ** 2 + beyond * (2 / z2 - (x / z2) ** 2)) / 2


def undetermined(a: int, mu: Array) -> tuple[Array, Array]:
    """kappa_exact, the mean of sum z^2 / (y + z^2) over the eigenvalues y, and its derivative in log z^2; mu = 2 z."""
    grows, grows_next = ive(a, mu), ive(a + 1, mu)
    decays, decays_before, left = kve(a, mu), kve(abs(a - 1), mu), _integral_of_K(a, mu)
    kappa = mu**2 / 2 * (grows * decays + grows_next * decays_before) + mu / 2 * grows * left
    return kappa, mu**2 / 4 * grows * decays + mu / 4 * ((1 + a) * grows + mu * grows_next) * left


def _integral_of_K(a: int, mu: Array) -> Array:
    """e^mu times the integral of K_a from mu to infinity."""
    small = mu < 1
    near = np.where(small, mu, 0.5)
    before, found = np.pi / 2 - iti0k0(near)[1], kv(0, near)  # a = 0 and a = 1
    if a == 0:
        found = before
    for order in range(1, a):  # K_(a-1) + K_(a+1) = -2 K_a'
        before, found = found, 2 * kv(order, near) - before
    top = np.arccosh(1 + (50 + 8 * a))
    angle = np.arange(0, top + STEP, STEP)
    weights = np.where(angle > 0, STEP, STEP / 2) / np.cosh(angle) / 2
    grown = -np.where(small, 1.0, mu)[..., None] * (np.cosh(angle) - 1)
    return np.where(small, found * np.exp(near), (np.exp(grown + a * angle) + np.exp(grown - a * angle)) @ weights)
