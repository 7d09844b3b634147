"""The exact optimum under lambda_1 sum |W_ij|, with or without a ridge: lasso and elastic net over the acting weights.

    E(W) = (1/2P) sum_mu (y~ - y^)^2 + lambda_1 sum_ij |W_ij| + (lambda_0/2) sum_ij W_ij^2

Accelerated proximal gradient (Beck and Teboulle 2009) in the metric of the features' second moments, which makes up for
a corner of order one beside contexts of order 1/sqrt(D), with a restart of the momentum whenever it points uphill
(O'Donoghue and Candes 2015). A step costs one pass over the prompts, two thin products. It ends on a certificate: the
duality gap, an upper bound on how far the energy lies above its minimum. With r = y~ - Phi sigma any nu = t r / P gives

    E_min >= y~.nu - (P/2) |nu|^2 - sum_i (|phi_i.nu| - lambda_1)_+^2 / (2 lambda_0),

in which without a ridge t scales nu until no |phi_i.nu| exceeds lambda_1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import SolveError
from replica_icl.setting import check_integer, check_real
from replica_icl.simulator.features import FeatureSource
from replica_icl.threads import one_thread

Array = NDArray[np.float64]

GAP = 1e-10
"""Largest duality gap over the energy of W = 0 that counts as solved."""
MAX_ITERATIONS = 20_000
CHECK_EVERY = 10
"""Steps between two looks at the gap."""


@dataclass(frozen=True, eq=False)
class SparseOptimum:
    """Weights of least energy.

    Attributes:
        W: shape (D+1, D+1), first index context side; the last column, which never acts, is zero.
        features: the prompts that it was trained on.
        energy: E(W).
        gap: duality gap, E(W) - E_min at most, over the energy of W = 0.
        iterations: passes over the prompts.
    """

    W: Array
    features: FeatureSource
    energy: float
    gap: float
    iterations: int

    @property
    def training_error(self) -> float:
        """(1/P) sum (y~ - y^)^2."""
        return self.features.mean_squared_residual(self.W)


@dataclass(frozen=True, eq=False)
class _Energy:
    """E as a quadratic form and two penalties: h, S sigma by passes, (1/2P) |y~|^2."""

    features: FeatureSource
    l1: float
    ridge: float
    fields: Array
    constant: float

    @classmethod
    def of(cls, features: FeatureSource, l1: float, ridge: float) -> _Energy:
        return cls(features, l1, ridge, features.fields(), float(np.mean(features.target**2)) / 2)

    def value_and_gap(self, sigma: Array, moved: Array) -> tuple[float, float]:
        """E and the duality gap, from sigma and S sigma."""
        fitted, energy = float(np.sum(self.fields * sigma)), float(np.sum(sigma * moved))
        squared = 2 * self.constant - 2 * fitted + energy  # |r|^2 / P
        primal = squared / 2 + self.l1 * float(np.abs(sigma).sum()) + self.ridge / 2 * float(np.sum(sigma**2))
        pull = np.abs(self.fields - moved)  # |phi_i.r| / P
        return primal, primal - self._dual(pull, squared, 2 * self.constant - fitted)

    def _dual(self, pull: Array, squared: float, aligned: float) -> float:
        """The larger bound of nu = r / P (with a ridge) and of the best multiple of it that lambda_1 allows."""
        longest = self.l1 / max(float(pull.max()), 1e-300)
        scale = min(max(aligned, 0.0) / max(squared, 1e-300), longest)
        bound = scale * aligned - scale**2 * squared / 2
        if self.ridge > 0:
            over = np.maximum(pull - self.l1, 0)
            bound = max(bound, aligned - squared / 2 - float(np.sum(over**2)) / (2 * self.ridge))
        return bound

    def proximal(self, sigma: Array, step: Array) -> Array:
        """argmin of the penalties plus |x - sigma|^2 / (2 step), entry by entry."""
        return np.sign(sigma) * np.maximum(np.abs(sigma) - self.l1 * step, 0) / (1 + self.ridge * step)


def laplace_optimum(
    features: FeatureSource,
    l1: float,
    ridge: float = 0.0,
    *,
    gap: float = GAP,
    max_iterations: int = MAX_ITERATIONS,
) -> SparseOptimum:
    """The weights of least energy under lambda_1 sum |W| + (lambda_0/2) |W|^2.

    Args:
        features: P prompts.
        l1: lambda_1 > 0.
        ridge: lambda_0 >= 0.
        gap: largest duality gap over the energy of W = 0 that counts as solved.
        max_iterations: passes over the prompts.

    Raises:
        ParameterError: a penalty that is negative, or lambda_1 zero: the optimum is then `ground_state`.
        SolveError: not solved to `gap`.
    """
    strength = check_real("l1", l1, positive=True)
    energy = _Energy.of(features, strength, check_real("ridge", ridge))
    limit = check_integer("max_iterations", max_iterations, 1)
    with one_thread():
        context, query = features.side_moments()
        metric = np.outer(np.diag(context), np.diag(query))
        return _descend(energy, metric, gap * max(energy.constant, 1e-300), limit)


def _descend(energy: _Energy, metric: Array, gap: float, limit: int) -> SparseOptimum:
    """Accelerated proximal gradient; `metric` is the diagonal of S as if context and query were independent."""
    features, fields = energy.features, energy.fields
    x, moved = np.zeros_like(fields), np.zeros_like(fields)  # sigma and S sigma
    y, moved_y = x, moved
    momentum, bound = 1.0, 1.0  # bound: on the largest eigenvalue of S in the metric, found by trial
    for passes in range(1, limit + 1):
        step = 1 / (bound * metric)
        trial = energy.proximal(y - step * (moved_y - fields), step)
        moved_trial = features.apply_gram(trial)
        change = trial - y
        curvature = float(np.sum(change * (moved_trial - moved_y)))
        allowed = bound * float(np.sum(metric * change**2))
        if curvature > allowed * (1 + 1e-12) and curvature > 0:
            bound *= max(1.1, min(2.0, curvature / allowed * 1.05))
            continue
        uphill = float(np.sum(metric * (y - trial) * (trial - x))) > 0
        following = 1.0 if uphill else (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        weight = 0.0 if uphill else (momentum - 1) / following
        y, moved_y = trial + weight * (trial - x), moved_trial + weight * (moved_trial - moved)
        x, moved, momentum = trial, moved_trial, following
        if passes % CHECK_EVERY == 0:
            value, above = energy.value_and_gap(x, moved)
            if above <= gap:
                W = np.pad(x, ((0, 0), (0, 1)))
                return SparseOptimum(W, features, value, max(above, 0.0) / max(energy.constant, 1e-300), passes)
    _, above = energy.value_and_gap(x, moved)
    raise SolveError(
        f"the optimum was not found after {limit} iterations: duality gap {above / max(energy.constant, 1e-300):.1e} "
        "of the energy without weights"
    )
