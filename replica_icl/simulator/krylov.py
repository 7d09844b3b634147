"""Preconditioned conjugate gradients that trust no recurrence: the residual that counts is recomputed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import SolveError

Array = NDArray[np.float64]

MAX_ITERATIONS = 20_000
_STAGNATION = 0.5  # a restart that does not at least halve the true residual is the limit of rounding


class LinearSystem(Protocol):
    """A symmetric positive definite matrix A, applied without being formed.

    Attributes:
        name: what A is, as the subject of an error message.
    """

    name: str

    def apply(self, vector: Array) -> Array:
        """A vector; vectors may be arrays of any shape."""

    def precondition(self, residual: Array) -> Array:
        """An approximation to A^-1 residual, itself symmetric positive definite."""


@dataclass(frozen=True, eq=False)
class Iterated:
    """What conjugate gradients reached.

    Attributes:
        solution: x.
        iterations: products with A, without those that recompute residuals.
        residual: |b - A x|/|b|, recomputed from x.
    """

    solution: Array
    iterations: int
    residual: float


def conjugate_gradients(
    system: LinearSystem,
    right: Array,
    *,
    tolerance: float,
    max_iterations: int = MAX_ITERATIONS,
    start: Array | None = None,
    residual_of: Callable[[Array], float] | None = None,
) -> Iterated:
    """Solve A x = b.

    When the recurrence says that it has converged, the residual is recomputed from x and decides; if it is
    still too large the iteration restarts from there.

    Args:
        system: A and its preconditioner.
        right: b.
        tolerance: largest relative residual that counts as solved.
        max_iterations: products with A.
        start: first x; None: zero.
        residual_of: another relative residual of an x that must reach the tolerance; None: |b - A x|/|b|.

    Raises:
        SolveError: not positive definite, not finite, out of iterations, or stopped by rounding.
    """
    norm = float(np.linalg.norm(right))
    x = np.zeros_like(right) if start is None else start.copy()
    if norm == 0:
        return Iterated(np.zeros_like(right), 0, 0.0)
    done, before = 0, np.inf
    while True:
        r = right - system.apply(x) if start is not None or done else right.copy()
        own = float(np.linalg.norm(r)) / norm
        relative = own if residual_of is None else residual_of(x)
        if relative <= tolerance:
            return Iterated(x, done, relative)
        if not relative < _STAGNATION * before:
            raise SolveError(
                f"the {system.name} was solved to a relative residual of {relative:.1e} only, not to {tolerance:.0e}"
            )
        before = relative
        goal = 0.7 * tolerance * min(1.0, own / relative)
        z = system.precondition(r)
        p, rz = z, float(np.vdot(r, z))
        while not np.linalg.norm(r) <= goal * norm:
            if done == max_iterations:
                raise SolveError(
                    f"the {system.name} was not solved after {done} iterations: "
                    f"relative residual {float(np.linalg.norm(r)) / norm:.1e}"
                )
            q = system.apply(p)
            curvature = float(np.vdot(p, q))
            if not (curvature > 0 and rz > 0):
                raise SolveError(f"the {system.name} is numerically singular (curvature {curvature:.1e})")
            step = rz / curvature
            x += step * p
            r -= step * q
            done += 1
            z = system.precondition(r)
            rz, last = float(np.vdot(r, z)), rz
            p = z + (rz / last) * p
