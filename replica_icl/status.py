"""How a solve ended: a status beside every value."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How a solve ended. Only CONVERGED values are values; the others come with NaN."""

    CONVERGED = 0
    MAX_ITERATIONS = 1
    """The residual is still above the tolerance."""
    NON_FINITE = 2
    """NaN or infinity on the way."""
    INADMISSIBLE = 3
    """A root, but not a physical one: V <= 0, q < m^2 or a negative stability eigenvalue."""
    SINGULAR = 4
    """A point where the saddle does not exist, e.g. ridge 0 at alpha = 1 where e_icl diverges."""
    QUADRATURE = 5
    """Solved, but two rules for the averages over prompts differ by more than the accuracy that was asked for."""
