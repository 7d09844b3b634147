"""One entry point to the levels of theory."""

from __future__ import annotations

from replica_icl.conventions import Ratios, ratios
from replica_icl.errors import ParameterError
from replica_icl.numeric.limit import solve_limit
from replica_icl.numeric.solution import Solution
from replica_icl.setting import Setting

LEVELS = ("limit",)


def solve(point: Setting | Ratios, level: str = "limit", throw: bool = True) -> Solution:
    """Solve the theory of fresh tasks.

    Args:
        point: a setting in raw numbers, or the limit's ratios (numbers or arrays: a whole grid in one call).
        level: "limit" (D -> infinity at fixed ratios).
        throw: raise when a point does not converge; with False the status says so and the values are NaN.

    Returns:
        `Solution`, with a status beside every value.

    Raises:
        ParameterError: for an unknown level, or a point that this level has no theory for.
        SolveError: if a point did not converge and `throw` is set.
    """
    if level not in LEVELS:
        raise ParameterError("level", level, f"must be one of {', '.join(LEVELS)}")
    if isinstance(point, Setting):
        if point.K is not None:
            raise ParameterError("K", point.K, "must be absent: this theory has fresh tasks, one per prompt")
        solution = solve_limit(ratios(point), sizes=point.D)
    else:
        solution = solve_limit(point)
    return solution.or_raise() if throw else solution
