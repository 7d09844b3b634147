"""One entry point to the levels of theory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import Model
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.given_tasks import draw_task_set, solve_given_tasks
from replica_icl.numeric.limit import solve_limit
from replica_icl.numeric.solution import Solution
from replica_icl.numeric.task_diversity import solve_task_diversity
from replica_icl.ratios import Ratios, ratios
from replica_icl.setting import Setting

LEVELS = ("finite-size", "limit", "given-tasks")


def solve(
    point: Setting | Sequence[Setting] | Ratios,
    level: str | None = None,
    tolerance: float = 1e-7,
    throw: bool = True,
    tasks: Any = None,
    seed: int = 0,
    model: Model | None = None,
) -> Solution:
    """Solve the theory at one point or on a grid.

    Args:
        point: a setting in raw numbers, a sequence of settings (solved as one grid), or the limit's ratios (numbers or
            arrays: a whole grid in one call).
        level: "finite-size" (D, N, P as they are, with the full prompt law) or "limit" (D -> infinity at fixed
            ratios) or "given-tasks" (D, N, P and the task matrix as they are). By default finite-size for settings
            and limit for ratios.
        tolerance: relative accuracy of the finite-size prompt averages.
        throw: raise when a point does not converge; with False the status says so and the values are NaN.
        tasks: (K, D) task matrix of level "given-tasks"; without it K random ones of `seed`.
        model: lowered theories; by default the package's own.

    Returns:
        `Solution`, with a status beside every value.

    Raises:
        ParameterError: for an unknown level, or a point that this level has no theory for.
        SolveError: if a point did not converge and `throw` is set.
    """
    check_tolerance(tolerance)
    if level is None:
        level = "limit" if isinstance(point, Ratios) else "finite-size"
    if level not in LEVELS:
        raise ParameterError("level", level, f"must be one of {', '.join(LEVELS)}")
    if tasks is not None and level != "given-tasks":
        raise ParameterError("tasks", "given", "must not be given at this level: ask for level given-tasks")
    if isinstance(point, Ratios):
        if level != "limit":
            raise ParameterError("level", level, "must be limit when ratios are given; other levels need raw numbers")
        solution = _limit(point, model=model)
    elif level == "limit":
        one = isinstance(point, Setting)
        settings = [point] if isinstance(point, Setting) else list(point)
        solution = _limit(_ratios_of(settings, one), sizes=_sizes(settings, one), model=model)
    elif level == "given-tasks":
        if not isinstance(point, Setting):
            raise ParameterError("level", level, "must be asked for with one setting at a time")
        matrix, shares = draw_task_set(point, seed) if tasks is None else (tasks, None)
        solution = solve_given_tasks(point, matrix, shares, model=model)
    elif isinstance(point, Setting):
        solution = solve_finite_size([point], tolerance, model=model).point(0)
    else:
        solution = solve_finite_size(list(point), tolerance, model=model)
    return solution.or_raise() if throw else solution


def check_tolerance(value: Any) -> float:
    """A relative accuracy that prompt averages can have.

    Raises:
        ParameterError: not between 1e-11 and 0.1.
    """
    if isinstance(value, bool) or not isinstance(value, float) or not 1e-11 <= value <= 0.1:
        raise ParameterError("tolerance", value, "must be a number from 1e-11 to 0.1")
    return value


def _limit(point: Ratios, sizes: np.ndarray | int | None = None, model: Model | None = None) -> Solution:
    """The limit theory of fresh tasks, or of K = kappa D tasks."""
    return (solve_limit if point.kappa is None else solve_task_diversity)(point, sizes, model)


def _sizes(settings: Sequence[Setting], one: bool) -> np.ndarray | int:
    return settings[0].D if one else np.array([s.D for s in settings])


def _ratios_of(settings: Sequence[Setting], one: bool) -> Ratios:
    """The ratios of one setting, or arrays of the ratios of many."""
    each = [ratios(setting) for setting in settings]
    if one:
        return each[0]
    names = ["alpha", "nu", "lam", "noise", "beta_tilde"]
    diverse = [setting.K for setting in settings if setting.K is not None]
    if diverse and len(diverse) < len(settings):
        raise ParameterError("K", diverse[0], "must be given for every setting of a grid or for none")
    names += ["kappa"] if diverse else []
    arrays = {name: np.array([getattr(r, name) for r in each]) for name in names}
    return Ratios(**arrays, minimum_norm=any(r.minimum_norm for r in each))
