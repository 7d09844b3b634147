"""Gradient flow of fresh tasks in the thermodynamic limit: test and training error as functions of time.

The flow is dW/dt = -grad E from independent Gaussian weights of variance sigma_0^2/D, at times t = D tau with tau of
order one (an optimiser of the plain mean squared error with learning rate eta advances t by 2 eta per epoch).
Each mode of the Hessian moves on its own; `theory.gradient_flow` has the modes and the averages over their spectrum,
which is a Marchenko-Pastur law (`theory.marchenko_pastur`), and derivations/ tells and checks it. Here the modes are
evaluated without loss of digits, and the averages are taken.
Model: Li et al., arXiv:2408.02288; the equivalence with isotropic features: Lu et al., arXiv:2405.11751.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.groups import Groups, multiplied_out
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


def gradient_flow(
    point: Ratios, times: ArrayLike, initial_variance: float = 0.0, model: Model | None = None
) -> GradientFlow:
    """Gradient flow at scaled times, for one point of the control parameters.

    Args:
        point: alpha, nu, lam and noise, numbers; lam = 0 below alpha = 1 needs its `minimum_norm`, which a flow from
            zero weights ends in.
        times: tau = t/D >= 0, any shape; inf is the end point.
        initial_variance: sigma_0^2 >= 0, D times the variance of an entry of the initial weights.
        model: lowered theories; by default the package's own.

    Raises:
        ParameterError: a grid of control parameters, task diversity, a temperature, or a bad time or variance.
    """
    if not isinstance(point, Ratios) or point.shape:
        shown = f"grid of shape {point.shape}" if isinstance(point, Ratios) else point
        raise ParameterError("point", shown, "must be one point in ratios")
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
        now = _observables(point, flat[open_], variance, nodes, model or LINEAR_ATTENTION)
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


def marchenko_pastur(
    alpha: float, variance: float, nodes: int, model: Model = LINEAR_ATTENTION
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Nodes, weights, and whether a node is no atom, for averages over the Marchenko-Pastur law of ratio 1/alpha.

    Gauss-Chebyshev quadrature of the second kind in the angle between the edges; below alpha = 1 the first node is the
    atom 1 - alpha at zero.
    """
    theta = np.pi * np.arange(1, nodes + 1) / (nodes + 1)
    # At alpha = 1 the lower edge is zero, where the weight does not vanish: half an end point.
    theta = np.append(theta, np.pi) if alpha == 1 else theta
    found = model.marchenko_pastur.rule(NUMPY, sine=np.sin(theta), cosine=np.cos(theta / 2), kappa=alpha)
    x, weights = variance * found.x, found.weight * np.pi / (nodes + 1)
    weights[nodes:] /= 2
    if alpha < 1:
        x, weights = np.append(0.0, x), np.append(1 - alpha, weights)
    return x, weights, np.arange(x.size) >= (alpha < 1)


def _observables(point: Ratios, times: Array, start: float, nodes: int, model: Model) -> Array:
    """e_icl, train_error, m and q at all times, shape (4, n_times)."""
    alpha, lam = float(point.alpha), float(point.lam)
    regression = model.gradient_flow.regression(NUMPY, nu=float(point.nu), rho=float(point.noise))
    x, weights, inside = marchenko_pastur(alpha, regression.variance, nodes, model)
    size = max(1, _ELEMENTS // len(x))
    pieces = []
    for first in range(0, len(times), size):
        tau = times[first : first + size, None]
        rate = x + lam
        with np.errstate(invalid="ignore"):  # 0 * inf, a mode that never moves
            passed = np.where(rate > 0, rate * tau, 0.0)
        learnt = -np.expm1(-passed) * np.divide(x, rate, out=np.zeros_like(x), where=rate > 0)
        per_mode = np.divide(learnt**2, x, out=np.zeros_like(learnt), where=x > 0)
        modes = (np.exp(-passed), learnt, per_mode, x, inside)

        def average(integrands: Callable[..., Groups], modes: tuple[Any, ...] = modes) -> tuple[Any, ...]:
            return tuple(values @ weights for values in multiplied_out(integrands(*modes)))

        unseen = max(0.0, 1 - 1 / alpha)
        found = model.gradient_flow.observables(
            NUMPY, average, alpha=alpha, **regression._asdict(), start=start, unseen=unseen
        )
        pieces.append(np.array([found.e_icl, found.train_error, found.m, found.q]))
    return np.concatenate(pieces, axis=1)


def end_point(point: Ratios, initial_variance: float = 0.0, model: Model | None = None) -> float:
    """e_icl of gradient flow without a ridge after infinite time, in closed form; inf at alpha = 1.

    Raises:
        ParameterError: a ridge (its end point is the ridge solution), or a bad variance.
    """
    if float(point.lam) != 0:
        raise ParameterError("lam", point.lam, "must be 0: with a ridge the end point is the ridge solution")
    start, alpha = check_real("initial_variance", initial_variance), float(point.alpha)
    if alpha == 1:
        return math.inf
    functions = (model or LINEAR_ATTENTION).gradient_flow
    regression = functions.regression(NUMPY, nu=float(point.nu), rho=float(point.noise))
    ends = functions.end_points(NUMPY, alpha=alpha, **regression._asdict(), start=start)
    return float(ends.above if alpha > 1 else ends.below)
