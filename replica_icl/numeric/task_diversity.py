"""Solving the thermodynamic limit at K = kappa D tasks: one scalar equation for the effective ridge.

At given a = delta + S the effective ridge k has the closed form of fresh tasks, and S depends on k through the tasks'
spectrum. The map k -> S -> k rises, and slower than k, so that its fixed point is unique and every evaluation bounds it
from one side: a Newton step that leaves the bracket is
replaced by the middle of the bracket in log k. Whole grids are solved at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.limit import CHUNK, TOLERANCE, classify, imbalance
from replica_icl.numeric.solution import Solution, solution_of
from replica_icl.ratios import Ratios

MAX_ITERATIONS = 200
NAMES = ("alpha", "nu", "lam", "noise", "kappa", "beta_tilde")


def effective_ridge(model: Model, controls: dict[str, Any], limit: int = MAX_ITERATIONS) -> tuple[Any, Any]:
    """k of every point, shape (points,), and the number of iterations each took."""
    count, fixed_point = controls["alpha"].size, model.task_diversity.fixed_point
    low = fixed_point(NUMPY, k_given=np.zeros(count), **controls).k
    k = fixed_point(NUMPY, k_given=np.full(count, 1e100), **controls).k  # S = 1, its largest value
    high, active, iterations = k.copy(), np.arange(count), np.zeros(count, dtype=int)
    for _ in range(limit):
        at = {name: value[active] for name, value in controls.items()}
        old = k[active]
        mapped, slope = fixed_point(NUMPY, k_given=old, **at)
        high[active] = np.where(mapped <= old, np.minimum(high[active], mapped), high[active])
        low[active] = np.where(mapped >= old, np.maximum(low[active], mapped), low[active])
        newton = old + (mapped - old) / (1 - slope)
        clipped = np.clip(newton, low[active], high[active])  # rounding may put it just outside
        inside = np.abs(clipped - newton) <= 1e-9 * old
        k[active] = np.where(inside, clipped, np.sqrt(low[active] * high[active]))
        iterations[active] += 1
        moved = np.abs(k[active] - old) > 4e-16 * old
        active = active[moved]
        if not active.size:
            break
    return k, iterations


def solve_task_diversity(point: Ratios, sizes: Any = None, model: Model | None = None) -> Solution:
    """Solve the limit theory of finite task diversity on a whole grid of ratios at once.

    Args:
        point: control parameters with kappa, numbers or arrays.
        sizes: token dimension D, for log Z at leading order (with finite beta_tilde).
        model: lowered theories; by default the package's own.

    Returns:
        Solution at level "limit", of the shape that the ratios broadcast to.
    """
    model = model or LINEAR_ATTENTION
    shape = point.shape
    flat = [np.ravel(np.broadcast_to(np.asarray(getattr(point, name), dtype=float), shape)) for name in NAMES]
    pieces = [_solve_piece(model, *(x[i : i + CHUNK] for x in flat)) for i in range(0, flat[0].size, CHUNK)] or [
        _solve_piece(model, *flat)
    ]
    joined = {name: np.concatenate([piece[name] for piece in pieces]).reshape(shape) for name in pieces[0]}
    status, residual = joined.pop("status").astype(int), joined.pop("residual")
    iterations = joined.pop("iterations")
    density = joined.pop("free_entropy")
    if np.isinf(flat[-1]).all():
        for name in ("V", "e_gibbs", "train_gibbs"):
            joined.pop(name)
    elif sizes is not None:
        size = np.asarray(sizes, dtype=float)
        joined["log_Z"] = model.task_diversity.log_partition(NUMPY, D=size, free_entropy=density).log_Z
    joined.pop("v")
    return solution_of("limit", status, residual, iterations, joined, shape)


def _solve_piece(
    model: Model, alpha: Any, nu: Any, lam: Any, noise: Any, kappa: Any, beta_tilde: Any
) -> dict[str, Any]:
    controls = {"alpha": alpha, "nu": nu, "lam": lam, "rho": noise, "kappa": kappa}
    functions = model.task_diversity
    with np.errstate(all="ignore"):
        k, iterations = effective_ridge(model, controls)
        solution = functions.solution(NUMPY, k=k, **controls)
        values = solution._asdict()
        s, S = values.pop("s"), values.pop("S")
        values["v"] = values.pop("v_s") / s
        given = {"k": k, "s": s, "S": S, "e": solution.e_idg, **controls}
        residual = imbalance(functions.stationarity(NUMPY, m=solution.m, q=solution.q, **given).balances)
        status = classify(values, residual, (lam == 0) & (alpha == 1), TOLERANCE)
        thermal = functions.thermal(NUMPY, e_icl=solution.e_icl, **given, beta_tilde=beta_tilde)
    found = {**values, **thermal._asdict(), "status": status, "residual": residual, "iterations": iterations}
    return {name: np.broadcast_to(value, k.shape) for name, value in found.items()}
