"""Accelerated proximal gradient to the weights of least energy, ended by a certificate.

    E(W) = (1/2P) sum_mu (y~ - y^)^2 + R(W)

R is convex with a known proximal map (Beck and Teboulle 2009); momentum restarts whenever it points uphill (O'Donoghue
and Candes 2015). A step costs one pass over the prompts, two thin products. It ends on the duality gap, an upper bound
on how far the energy lies above its minimum. With r = y~ - Phi sigma, any nu = t r / P gives

    E_min >= y~.nu - (P/2) |nu|^2 - R*(Phi^T nu),

R* the conjugate of R: infinite where Phi^T nu is too long for a penalty alone, finite beside a ridge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import SolveError
from replica_icl.simulator.features import FeatureSource
from replica_icl.threads import one_thread

Array = NDArray[np.float64]

GAP = 1e-10
"""Largest duality gap over the energy of W = 0 that counts as solved."""
MAX_ITERATIONS = 20_000
CHECK_EVERY = 10
"""Steps between two looks at the gap."""


@dataclass(frozen=True, eq=False)
class Optimum:
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


class Penalty(Protocol):
    """R, on acting weights of shape (D+1, D)."""

    def value(self, sigma: Array) -> float:
        """R."""

    def proximal(self, sigma: Array, step: Array) -> Array:
        """argmin of R(x) + |x - sigma|^2 / (2 step); step is a number, or one per weight."""

    def longest(self, pull: Array) -> float:
        """The largest t for which R*(t pull) is finite without a ridge."""

    def conjugate(self, pull: Array) -> float:
        """R*(pull); infinite where it is."""


@dataclass(frozen=True, eq=False)
class _Energy:
    """E from h, passes for S sigma, and (1/2P) |y~|^2."""

    penalty: Penalty
    fields: Array
    constant: float

    def value_and_gap(self, sigma: Array, moved: Array) -> tuple[float, float]:
        """E and the duality gap, from sigma and S sigma."""
        fitted, energy = float(np.sum(self.fields * sigma)), float(np.sum(sigma * moved))
        squared = 2 * self.constant - 2 * fitted + energy  # |r|^2 / P
        primal = squared / 2 + self.penalty.value(sigma)
        return primal, primal - self._dual(self.fields - moved, squared, 2 * self.constant - fitted)

    def _dual(self, pull: Array, squared: float, aligned: float) -> float:
        """The larger bound of nu = r / P and of the best multiple of it at which the penalty without a ridge ends."""
        scale = min(max(aligned, 0.0) / max(squared, 1e-300), self.penalty.longest(pull))
        bound = scale * aligned - scale**2 * squared / 2
        return max(bound, aligned - squared / 2 - self.penalty.conjugate(pull))


def descend(features: FeatureSource, penalty: Penalty, metric: Array, gap: float, limit: int) -> Optimum:
    """The weights of least energy.

    Args:
        features: P prompts.
        penalty: R.
        metric: about the curvature of the squared residuals: one number, or one per weight where the penalty's
            proximal map takes that.
        gap: largest duality gap over the energy of W = 0 that counts as solved.
        limit: passes over the prompts.

    Raises:
        SolveError: not solved to `gap`.
    """
    with one_thread():
        return _descend(features, penalty, metric, gap, limit)


def _descend(features: FeatureSource, penalty: Penalty, metric: Array, gap: float, limit: int) -> Optimum:
    energy = _Energy(penalty, features.fields(), float(np.mean(features.target**2)) / 2)
    fields, allowed_gap = energy.fields, gap * max(energy.constant, 1e-300)
    x, moved = np.zeros_like(fields), np.zeros_like(fields)  # sigma and S sigma
    y, moved_y = x, moved
    momentum, bound = 1.0, 1.0  # bound: on the largest eigenvalue of S in the metric, found by trial
    for passes in range(1, limit + 1):
        step = 1 / (bound * metric)
        trial = penalty.proximal(y - step * (moved_y - fields), step)
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
            if above <= allowed_gap:
                W = np.pad(x, ((0, 0), (0, 1)))
                return Optimum(W, features, value, max(above, 0.0) / max(energy.constant, 1e-300), passes)
    _, above = energy.value_and_gap(x, moved)
    raise SolveError(
        f"the optimum was not found after {limit} iterations: duality gap {above / max(energy.constant, 1e-300):.1e} "
        "of the energy without weights"
    )
