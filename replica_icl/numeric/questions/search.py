"""The least value of a function of one variable that may have several minima, many values at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import SolveError

Array = NDArray[np.floating[Any]]

SCANNED = 52
"""Values of the scan."""
SECTIONS = 9
"""Values that narrow a bracket down at once."""
RESOLUTION = 1e-4
"""Width to which the minimum is found: the function changes by its square."""
FLAT = 1e-9
"""Relative difference below which two errors are the same."""


def least(
    errors: Callable[[Array], Array], low: float, high: float, scan: Callable[[Array], Array] | None = None
) -> tuple[float, bool]:
    """Where errors(x) is least between low and high, and whether it is less there than at both ends.

    Args:
        errors: of an array of x; NaN where there is none.
        scan: a coarser version for the whole range.

    Raises:
        SolveError: if all of them are NaN.
    """
    x = np.linspace(low, high, SCANNED)
    y = (scan or errors)(x)
    if np.all(np.isnan(y)):
        raise SolveError(f"no value between {low:g} and {high:g} could be solved")
    best = int(np.nanargmin(y))
    for end in (0, -1):
        if y[end] <= y[best] + FLAT * abs(y[best]):
            return float(x[end]), False
    left, middle, right = x[best - 1 : best + 2]
    while right - left > 2 * RESOLUTION:
        inside = np.union1d(np.linspace(left, right, SECTIONS + 2)[1:-1], middle)
        x = np.array([left, *inside, right])
        y = errors(inside)
        best = 1 + int(np.nanargmin(y))
        left, middle, right = x[best - 1 : best + 2]
    return float(middle), True
