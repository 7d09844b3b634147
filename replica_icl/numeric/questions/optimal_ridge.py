"""Answers that a solved saddle point gives: other test contexts, the best ridge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from replica_icl.errors import ParameterError, SolveError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.solution import Solution
from replica_icl.numeric.solve import solve
from replica_icl.setting import Setting, check_integer, check_real


def transfer_error(
    setting: Setting,
    solution: Solution,
    N: int | None = None,
    noise: float | None = None,
    model: Model | None = None,
) -> float:
    """e_icl of the trained weights on prompts of another context length or noise than in training.

    The weights enter through m, q and u alone, and the prompts through exact moments, so that the only approximation
    is the one of the order parameters.

    Args:
        setting: what the weights were trained on.
        solution: its finite-size solution, one point.
        N: test context length, by default the training one.
        noise: test label noise (on context labels and target), by default the training one.
        model: lowered theories that the solution was made with; by default the package's own.

    Raises:
        ParameterError: for a bad N or noise, or a solution of another level (which has no u).
    """
    test_N = setting.N if N is None else check_integer("test_N", N, 1)
    test_noise = setting.noise if noise is None else check_real("test_noise", noise)
    if solution.u is None or np.ndim(solution.u):
        raise ParameterError("level", solution.level, "must be finite-size, one point, to ask for other test contexts")
    found = (model or LINEAR_ATTENTION).fresh_tasks.transfer(
        NUMPY,
        m=solution.m,
        q=solution.q,
        u=solution.u,
        D=float(setting.D),
        N=float(test_N),
        rho=test_noise,
    )
    return float(found.e_icl)


@dataclass(frozen=True)
class OptimalRidge:
    """The ridge of least error on new tasks.

    Attributes:
        ridge: lambda_0.
        solution: the finite-size solution at it.
        test_error: error at it, on the test contexts that were asked for.
        interior: False when the error still falls at an end of the range that was searched.
    """

    ridge: float
    solution: Solution
    test_error: float
    interior: bool


def optimal_ridge(
    setting: Setting,
    N: int | None = None,
    noise: float | None = None,
    lowest: float = 1e-8,
    highest: float = 1e3,
    tolerance: float = 1e-7,
    model: Model | None = None,
) -> OptimalRidge:
    """Minimise e_icl over lambda_0 at everything else of `setting` (its own ridge is not used).

    Args:
        N, noise: test contexts, as in `transfer_error`.
        lowest, highest: range of lambda_0.
        tolerance: of the prompt averages.
        model: lowered theories; by default the package's own.

    Raises:
        ParameterError: bad input.
        SolveError: if no ridge in the range could be solved.
    """
    low, high = check_real("lowest", lowest, positive=True), check_real("highest", highest, positive=True)

    def at(log_ridge: float) -> Setting:
        return replace(setting, ridge=float(np.exp(log_ridge)), minimum_norm=False)

    logs = np.linspace(np.log(low), np.log(high), 52)
    grid = solve([at(x) for x in logs], tolerance=tolerance, throw=False, model=model)
    errors = np.array([transfer_error(setting, grid.point(i), N, noise, model) for i in range(logs.size)])
    if not np.any(np.isfinite(errors)):
        raise SolveError(f"no ridge between {low:g} and {high:g} could be solved")
    best = int(np.nanargmin(errors))
    interior = 0 < best < logs.size - 1
    if interior:
        objective: Callable[[float], float] = lambda x: transfer_error(  # noqa: E731
            setting, solve(at(x), tolerance=tolerance, model=model), N, noise, model
        )
        bracket = (logs[best - 1], logs[best + 1])
        logs[best] = minimize_scalar(objective, bounds=bracket, method="bounded", options={"xatol": 1e-4}).x
    solution = solve(at(logs[best]), tolerance=tolerance, model=model)
    error = transfer_error(setting, solution, N, noise, model)
    return OptimalRidge(float(np.exp(logs[best])), solution, error, interior)
