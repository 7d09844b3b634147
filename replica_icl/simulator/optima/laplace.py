"""The exact optimum under lambda_1 sum |W_ij|, with or without a ridge: lasso and elastic net over the acting weights.

Descent in the metric of the features' second moments makes up for a corner of order one beside contexts of order
1/sqrt(D). Conjugate of the penalties: sum (|pull| - lambda_1)_+^2 / (2 lambda_0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replica_icl.setting import check_integer, check_real
from replica_icl.simulator.features import FeatureSource
from replica_icl.simulator.optima.descent import GAP, MAX_ITERATIONS, Optimum, descend

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ElasticNet:
    """lambda_1 sum |sigma| + (lambda_0/2) |sigma|^2."""

    l1: float
    ridge: float

    def value(self, sigma: Array) -> float:
        return self.l1 * float(np.abs(sigma).sum()) + self.ridge / 2 * float(np.sum(sigma**2))

    def proximal(self, sigma: Array, step: Array) -> Array:
        return np.sign(sigma) * np.maximum(np.abs(sigma) - self.l1 * step, 0) / (1 + self.ridge * step)

    def longest(self, pull: Array) -> float:
        return self.l1 / max(float(np.abs(pull).max()), 1e-300)

    def conjugate(self, pull: Array) -> float:
        over = float(np.sum(np.maximum(np.abs(pull) - self.l1, 0) ** 2))
        return over / (2 * self.ridge) if self.ridge > 0 else np.inf


def laplace_optimum(
    features: FeatureSource,
    l1: float,
    ridge: float = 0.0,
    *,
    gap: float = GAP,
    max_iterations: int = MAX_ITERATIONS,
) -> Optimum:
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
    penalty = ElasticNet(check_real("l1", l1, positive=True), check_real("ridge", ridge))
    limit = check_integer("max_iterations", max_iterations, 1)
    context, query = features.side_moments()
    return descend(features, penalty, np.outer(np.diag(context), np.diag(query)), gap, limit)
