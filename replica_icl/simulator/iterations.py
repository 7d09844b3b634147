"""Where an algorithm from outside the simulator ends on one instance, beside the exact ground state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import SolveError
from replica_icl.priors import Prior
from replica_icl.simulator.features import FeatureSource
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.optima.registry import Minimiser
from replica_icl.simulator.outside import Iteration
from replica_icl.status import Status

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Iterated:
    """Where a converged algorithm ended.

    Attributes:
        W: shape (D+1, D+1).
        features: the prompts.
        iterations: until it had converged.
        distance: |W - W_0| / |W_0| from the exact ground state W_0; None under a prior of which nobody finds it.
    """

    W: Array
    features: FeatureSource
    iterations: int
    distance: float | None

    @cached_property
    def training_error(self) -> float:
        """(1/P) sum (y~ - y^)^2."""
        return self.features.mean_squared_residual(self.W)


def iterate(
    features: FeatureSource, ridge: float, algorithm: Iteration, prior: Prior | None, minimiser: Minimiser | None
) -> Iterated:
    """Run an algorithm on one instance and compare it with the exact ground state.

    Args:
        features: P prompts.
        ridge: lambda_0.
        algorithm: what to run.
        prior: beside the ridge, None for the ridge alone.
        minimiser: of that prior, None if there is none.

    Raises:
        SolveError: it did not converge, with its status.
    """
    W, status, iterations = algorithm.run(features, ridge, prior)
    if status != Status.CONVERGED:
        told = status.name.lower().replace("_", " ")
        raise SolveError(f"{algorithm.name} did not converge: {told} after {iterations} iterations")
    if prior is None:
        exact = ground_state(features, ridge).W
    elif minimiser is not None:
        exact = minimiser(features, ridge=ridge, **prior.penalties).W
    else:
        return Iterated(W, features, iterations, None)
    away, size = float(np.linalg.norm(W - exact)), float(np.linalg.norm(exact))
    return Iterated(W, features, iterations, away / size if size > 0 else away)
