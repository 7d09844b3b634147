"""One entry point to the levels of theory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replica_icl.conventions import Ratios, ratios
from replica_icl.errors import ParameterError
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.limit import solve_limit
from replica_icl.numeric.solution import Solution
from replica_icl.setting import Setting

LEVELS = ("finite-size", "limit")


def solve(
    point: Setting | Sequence[Setting] | Ratios,
    level: str | None = None,
    tolerance: float = 1e-7,
    throw: bool = True,
) -> Solution:
    """Solve the theory of fresh tasks.

    Args:
        point: a setting in raw numbers, a sequence of settings (solved as one grid), or the limit's ratios (numbers or
            arrays: a whole grid in one call).
        level: "finite-size" (D, N, P as they are, with the full prompt law) or "limit" (D -> infinity at fixed
            ratios). By default finite-size for settings and limit for ratios.
        tolerance: relative accuracy of the finite-size prompt averages.
        throw: raise when a point does not converge; with False the status says so and the values are NaN.

    Returns:
        `Solution`, with a status beside every value.

    Raises:
        ParameterError: for an unknown level, or a point that this level has no theory for.
        SolveError: if a point did not converge and `throw` is set.
    """
    if level is None:
        level = "limit" if isinstance(point, Ratios) else "finite-size"
    if level not in LEVELS:
        raise ParameterError("level", level, f"must be one of {', '.join(LEVELS)}")
    if isinstance(point, Ratios):
        if level != "limit":
            raise ParameterError("level", level, "must be limit when ratios are given; other levels need raw numbers")
        solution = solve_limit(point)
    elif level == "limit":
        one = isinstance(point, Setting)
        settings = [point] if isinstance(point, Setting) else list(point)
        for setting in settings:
            if setting.K is not None:
                raise ParameterError("K", setting.K, "must be absent: this theory has fresh tasks, one per prompt")
        solution = solve_limit(_ratios_of(settings, one), sizes=_sizes(settings, one))
    elif isinstance(point, Setting):
        solution = solve_finite_size([point], tolerance).point(0)
    else:
        solution = solve_finite_size(list(point), tolerance)
    return solution.or_raise() if throw else solution


def _sizes(settings: Sequence[Setting], one: bool) -> np.ndarray | int:
    return settings[0].D if one else np.array([s.D for s in settings])


def _ratios_of(settings: Sequence[Setting], one: bool) -> Ratios:
    """The ratios of one setting, or arrays of the ratios of many."""
    each = [ratios(setting) for setting in settings]
    if one:
        return each[0]
    names = ("alpha", "nu", "lam", "noise", "beta_tilde")
    arrays = {name: np.array([getattr(r, name) for r in each]) for name in names}
    return Ratios(**arrays, minimum_norm=any(r.minimum_norm for r in each))
