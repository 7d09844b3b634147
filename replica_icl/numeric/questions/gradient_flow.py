"""Gradient flow of fresh tasks in the thermodynamic limit: test and training error as functions of time.

The flow is dW/dt = -grad E from independent Gaussian weights of variance sigma_0^2/D, at times t = D tau with tau of
order one (an optimiser of the plain mean squared error with learning rate eta advances t by 2 eta per epoch).
The features' second moment is a/D on the D^2 block, a = 1 + (1+rho)/nu, and the best linear predictor I/a leaves an
error sigma^2 = 1 + rho - 1/a. In the limit the block is a regression with isotropic features, so D times its Hessian
has the Marchenko-Pastur law rho_MP of variance a and ratio 1/alpha, independent of the direction of I/a, of the start
and of the noise. With f(x) = exp(-(x + lambda) tau), what a mode keeps of its start, and g(x) = (1 - f)/(x + lambda),

    q    = sigma_0^2 <f^2> + <(x g)^2>/a^2 + (sigma^2/alpha) <x g^2>,             m = <x g>/a,
    e    = sigma^2 + a sigma_0^2 <f^2> + <(1 - x g)^2>/a + (a sigma^2/alpha) <x g^2>,
    e_tr = sigma^2 + sigma_0^2 <x f^2> + <x (1 - x g)^2>/a^2 - (sigma^2/alpha) <1 - (1 - x g)^2>,

< > over rho_MP. Without a ridge the end point is sigma^2 alpha/(alpha - 1) above alpha = 1, whatever the start, and
sigma^2/(1 - alpha) + (1 - alpha) (1/a + a sigma_0^2) below: directions that no prompt sees never forget the start.
The last row of W relaxes D times faster, its Hessian being of order one: at t = 0 itself its start adds
(1 + rho)^2 sigma_0^2 to both errors, at any tau > 0 nothing. Derived and checked in derivations/07_training.py.
Model: Li et al., arXiv:2408.02288; the equivalence with isotropic features: Lu et al., arXiv:2405.11751.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.numeric.solution import Status
from replica_icl.ratios import Ratios
from replica_icl.setting import check_real

Array = NDArray[np.float64]

TOLERANCE = 1e-11
"""Largest relative change of an average, when the nodes are doubled, that counts as converged."""

FIRST_NODES, MOST_NODES = 64, 1 << 18
_ELEMENTS = 1 << 22  # nodes times times that are in memory at once


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Observables along gradient flow, each of the shape of `times`; NaN where the status is not converged.

    Attributes:
        times: tau = t/D.
        e_icl: test error on new tasks.
        train_error: mean squared error on the training prompts.
        m, q: overlap tr(W_DD)/D and self-overlap |W_DD|^2/D, tau = 0 without the last row.
        status: of every time: converged, singular (end point at alpha = 1 without ridge), or max iterations.
        residual: relative change of the averages when the nodes are doubled.
    """

    times: Array
    e_icl: Array
    train_error: Array
    m: Array
    q: Array
    status: NDArray[np.int8]
    residual: Array


def gradient_flow(point: Ratios, times: ArrayLike, initial_variance: float = 0.0) -> GradientFlow:
    """Gradient flow at scaled times, for one point of the control parameters.

    Args:
        point: alpha, nu, lam and noise, numbers; lam = 0 below alpha = 1 needs its `minimum_norm`, which a flow from
            zero weights ends in.
        times: tau = t/D >= 0, any shape; inf is the end point.
        initial_variance: sigma_0^2 >= 0, D times the variance of an entry of the initial weights.

    Raises:
        ParameterError: a grid of control parameters, task diversity, a temperature, or a bad time or variance.
    """
    if point.shape != ():
        raise ParameterError("point", point.shape, "must be one point, not a grid")
    if point.kappa is not None:
        raise ParameterError("kappa", point.kappa, "must be absent: this theory has fresh tasks, one per prompt")
    if np.isfinite(point.beta_tilde):
        raise ParameterError("beta_tilde", point.beta_tilde, "must be inf: gradient flow has no temperature")
    variance = check_real("initial_variance", initial_variance)
    given = np.asarray(times, dtype=float)
    for time in given.ravel():
        check_real("times", float(time), infinite=True)
    flat = given.ravel()
    singular = np.isinf(flat) & (point.alpha == 1) & (point.lam == 0)
    values = np.full((4, flat.size), np.nan)
    residual = np.full(flat.size, np.inf)
    nodes, previous, open_ = FIRST_NODES, np.full_like(values, np.nan), ~singular
    while open_.any() and nodes <= MOST_NODES:
        now = _observables(point, flat[open_], variance, nodes)
        before = previous[:, open_]
        change = np.max(np.abs(now - before) / np.maximum(np.abs(now), 1e-3), axis=0)  # all are of order one
        change = np.where(np.isnan(change), np.inf, change)
        previous[:, open_], residual[open_] = now, change
        done = np.flatnonzero(open_)[change <= TOLERANCE]
        values[:, done] = previous[:, done]
        open_[done] = False
        nodes *= 2
    status = np.where(open_, Status.MAX_ITERATIONS, Status.CONVERGED)
    status = np.where(singular, Status.SINGULAR, status).astype(np.int8).reshape(given.shape)
    e_icl, train_error, m, q = values.reshape(4, *given.shape)
    return GradientFlow(given, e_icl, train_error, m, q, status, residual.reshape(given.shape))


def marchenko_pastur(alpha: float, a: float, nodes: int) -> tuple[Array, Array]:
    """Nodes and weights of averages over the Marchenko-Pastur law of variance a and ratio 1/alpha.

    Gauss-Chebyshev quadrature of the second kind in x = a (1 + 1/alpha + (2/sqrt(alpha)) cos theta), whose weight
    (2 a/pi) sin^2(theta)/x is the density; below alpha = 1 the first node is the atom 1 - alpha at zero.
    """
    theta = np.pi * np.arange(1, nodes + 1) / (nodes + 1)
    if alpha == 1:  # the lower edge is zero, where sin^2(theta)/x does not vanish: half an end point
        theta = np.append(theta, np.pi)
        x = 4 * a * np.append(np.cos(theta[:-1] / 2) ** 2, 0.0)
        weights = 2 / (nodes + 1) * np.sin(theta / 2) ** 2
        weights[-1] /= 2
        return x, weights
    # (1 - 1/sqrt(alpha))^2 + (4/sqrt(alpha)) cos^2(theta/2): no cancellation at the lower edge.
    x = a * ((1 - 1 / math.sqrt(alpha)) ** 2 + 4 / math.sqrt(alpha) * np.cos(theta / 2) ** 2)
    weights = 2 * a / (nodes + 1) * np.sin(theta) ** 2 / x
    if alpha < 1:
        return np.append(0.0, x), np.append(1 - alpha, weights)
    return x, weights


def _observables(point: Ratios, times: Array, variance: float, nodes: int) -> Array:
    """e_icl, train_error, m and q at all times, shape (4, n_times)."""
    alpha, lam, rho = float(point.alpha), float(point.lam), float(point.noise)
    a = 1 + (1 + rho) / float(point.nu)
    noise = 1 + rho - 1 / a
    x, weights = marchenko_pastur(alpha, a, nodes)
    continuous = slice(1 if alpha < 1 else 0, None)  # without the atom
    size = max(1, _ELEMENTS // len(x))
    pieces = []
    for start in range(0, len(times), size):
        tau = times[start : start + size, None]
        rate = x + lam
        with np.errstate(invalid="ignore"):  # 0 * inf, a mode that never moves
            passed = np.where(rate > 0, rate * tau, 0.0)
        kept = np.exp(-passed)
        learnt = -np.expm1(-passed) * np.divide(x, rate, out=np.zeros_like(x), where=rate > 0)  # x g
        missing = 1 - learnt
        per_mode = np.divide(learnt**2, x, out=np.zeros_like(learnt), where=x > 0)  # x g^2
        start_left, fluctuation = (kept**2) @ weights, per_mode @ weights
        e_icl = noise + a * variance * start_left + missing**2 @ weights / a + a * noise / alpha * fluctuation
        spread = x * (variance * kept**2 + missing**2 / a**2) @ weights
        # 1 - <1 - (1 - x g)^2>/alpha as a sum of positive terms: prompts beyond the number of modes stay noisy.
        unseen = max(0.0, 1 - 1 / alpha)
        seen = (missing[:, continuous] ** 2) @ weights[continuous] / alpha
        train_error = noise * (unseen + seen) + spread
        m = learnt @ weights / a
        q = variance * start_left + learnt**2 @ weights / a**2 + noise / alpha * fluctuation
        pieces.append(np.array([e_icl, train_error, m, q]))
    return np.concatenate(pieces, axis=1)


def end_point(point: Ratios, initial_variance: float = 0.0) -> float:
    """e_icl of gradient flow without a ridge after infinite time, in closed form; inf at alpha = 1.

    Raises:
        ParameterError: a ridge (its end point is the ridge solution), or a bad variance.
    """
    if float(point.lam) != 0:
        raise ParameterError("lam", point.lam, "must be 0: with a ridge the end point is the ridge solution")
    variance = check_real("initial_variance", initial_variance)
    alpha, rho = float(point.alpha), float(point.noise)
    a = 1 + (1 + rho) / float(point.nu)
    noise = 1 + rho - 1 / a
    if alpha == 1:
        return math.inf
    if alpha > 1:
        return noise * alpha / (alpha - 1)
    return noise / (1 - alpha) + (1 - alpha) * (1 / a + a * variance)
