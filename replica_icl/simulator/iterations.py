"""Where an algorithm from outside the simulator ends on one instance, beside the exact ground state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import SolveError
from replica_icl.simulator.features import FeatureSource
from replica_icl.simulator.ground_state import ground_state
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
        distance: |W - W_0| / |W_0| from the exact ground state W_0.
    """

    W: Array
    features: FeatureSource
    iterations: int
    distance: float

    @cached_property
    def training_error(self) -> float:
        """(1/P) sum (y~ - y^)^2."""
        return self.features.mean_squared_residual(self.W)


def iterate(features: FeatureSource, ridge: float, algorithm: Iteration) -> Iterated:
    """Run an algorithm on one instance and compare it with the exact ground state.

    Raises:
        SolveError: it did not converge, with its status.
    """
    W, status, iterations = algorithm.run(features, ridge)
    if status != Status.CONVERGED:
        told = status.name.lower().replace("_", " ")
        raise SolveError(f"{algorithm.name} did not converge: {told} after {iterations} iterations")
    exact = ground_state(features, ridge).W
    return Iterated(W, features, iterations, float(np.linalg.norm(W - exact) / np.linalg.norm(exact)))
