"""Gradient flow of fresh tasks in the thermodynamic limit: test and training error as functions of time.

The flow is dW/dt = -grad E from independent Gaussian weights of variance sigma_0^2/D, at times t = D tau with tau of
order one (an optimiser of the plain mean squared error with learning rate eta advances t by 2 eta per epoch). What is
averaged over the Hessian's spectrum is derived in `theory.gradient_flow` and lowered; here are the nodes of the
spectrum, and their number is doubled until the averages stay. Derived step by step in derivations/07_training.py.
The last row of W relaxes D times faster, its Hessian being of order one: at t = 0 itself its start adds
(1 + rho)^2 sigma_0^2 to both errors, at any tau > 0 nothing.
Model: Li et al., arXiv:2408.02288; the equivalence with isotropic features: Lu et al., arXiv:2405.11751.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.spectral_law import marchenko_pastur
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
    if point.shape != ():
        raise ParameterError("point", point.shape, "must be one point, not a grid")
    if point.kappa is not None:
        raise ParameterError("kappa", point.kappa, "must be absent: this theory has fresh tasks, one per prompt")
    if np.isfinite(point.beta_tilde):
        raise ParameterError("beta_tilde", point.beta_tilde, "must be inf: gradient flow has no temperature")
    model = model or LINEAR_ATTENTION
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
        now = _observables(model, point, flat[open_], variance, nodes)
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


def _observables(model: Model, point: Ratios, times: Array, variance: float, nodes: int) -> Array:
    """e_icl, train_error, m and q at all times, shape (4, n_times)."""
    theory = model.gradient_flow
    alpha, lam = float(point.alpha), float(point.lam)
    data = {"nu": float(point.nu), "rho": float(point.noise)}
    x, weights = marchenko_pastur(alpha, float(theory.spectrum(NUMPY, **data).scale), nodes, model)
    moves, seen = x + lam > 0, np.where((x > 0) | (alpha >= 1), 1.0, 0.0)
    rate = np.where(moves, x + lam, 1.0)
    size = max(1, _ELEMENTS // len(x))
    pieces = []
    for first in range(0, len(times), size):
        tau = times[first : first + size, None]
        with np.errstate(invalid="ignore"):  # 0 * inf, a mode that never moves
            passed = np.where(moves, rate * tau, 0.0)
        mode = theory.mode(NUMPY, x=x, rate=rate, passed=passed)

        def average(integrands: Any, mode: Any = mode) -> tuple[Array, ...]:
            return tuple(value @ weights for value in integrands(x, mode.kept, mode.learnt, mode.fed, seen))

        found = theory.observables(NUMPY, average, alpha=alpha, **data, sigma0_squared=variance)
        pieces.append(np.array(found))
    return np.concatenate(pieces, axis=1)


def end_point(point: Ratios, initial_variance: float = 0.0, model: Model | None = None) -> float:
    """e_icl of gradient flow without a ridge after infinite time, in closed form; inf at alpha = 1.

    Raises:
        ParameterError: a ridge (its end point is the ridge solution), or a bad variance.
    """
    if float(point.lam) != 0:
        raise ParameterError("lam", point.lam, "must be 0: with a ridge the end point is the ridge solution")
    variance = check_real("initial_variance", initial_variance)
    alpha = float(point.alpha)
    if alpha == 1:
        return math.inf
    found = (model or LINEAR_ATTENTION).gradient_flow.end_point(
        NUMPY, alpha=alpha, nu=float(point.nu), rho=float(point.noise), sigma0_squared=variance
    )
    return float(found.above if alpha > 1 else found.below)
