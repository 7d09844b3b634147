"""How a solve ended, and whether the next order is in its values: statuses beside every value."""

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


class NextOrderStatus(IntEnum):
    """Whether the next order is in the values of a point. What is not ADDED is absent, and `theory_error` follows."""

    ADDED = 0
    NO_USE = 1
    """Larger than the value itself, for at least one of e_icl, train_error, m and q: a value of which that is so is
    that of the saddle point."""
    INACCURATE = 2
    """Two rules of quadrature disagree about it: no value has it."""
    NO_MEAN = 3
    """Not finite: no saddle point, or without a ridge within one of P = D (D + 1), where means over samples diverge."""
