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


def least(errors: Callable[[Array], Array], low: float, high: float) -> tuple[float, bool]:
    """Where errors(x) is least between low and high, and whether that is inside of the range.

    Args:
        errors: of an array of x; NaN where there is none.

    Raises:
        SolveError: if all of them are NaN.
    """
    x = np.linspace(low, high, SCANNED)
    y = errors(x)
    if np.all(np.isnan(y)):
        raise SolveError(f"no value between {low:g} and {high:g} could be solved")
    best = int(np.nanargmin(y))
    if best in (0, x.size - 1):
        return float(x[best]), False
    left, middle, right = x[best - 1 : best + 2]
    while right - left > 2 * RESOLUTION:
        inside = np.union1d(np.linspace(left, right, SECTIONS + 2)[1:-1], middle)
        x = np.array([left, *inside, right])
        y = errors(inside)
        best = 1 + int(np.nanargmin(y))
        left, middle, right = x[best - 1 : best + 2]
    return float(middle), True
