"""Solving the thermodynamic limit of fresh tasks: closed forms, checked against the saddle-point equations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.solution import Solution, Status, solution_of
from replica_icl.ratios import Ratios

TOLERANCE = 1e-11
"""Largest relative imbalance of the saddle-point equations that counts as solved."""

CHUNK = 1 << 14
"""Points per pass: the intermediate arrays of a lowered function stay in the cache."""


def imbalance(balances: Iterable[Sequence[Any]]) -> Any:
    """The largest |left| / size over the saddle-point equations: `balances` of a lowered `stationarity`."""
    worst: Any = 0.0
    for left, size in balances:
        worst = np.maximum(worst, np.abs(left) / np.where(size == 0, 1.0, size))
    return worst


def classify(values: dict[str, Any], residual: Any, singular: Any, tolerance: float) -> Any:
    """Status of each point: from the residual, finiteness, and admissibility v > 0, q >= m^2, replicon > 0."""
    finite = np.isfinite(residual)
    for name in ("m", "q", "e_icl", "train_error"):
        finite = finite & np.isfinite(values[name])
    slack = 1e-12 * np.abs(values["q"])
    admissible = (values["v"] > 0) & (values["q"] >= values["m"] ** 2 - slack) & (values["replicon"] > 0)
    status = np.where(residual <= tolerance, Status.CONVERGED, Status.MAX_ITERATIONS)
    status = np.where(admissible, status, Status.INADMISSIBLE)
    status = np.where(finite, status, Status.NON_FINITE)
    return np.where(singular, Status.SINGULAR, status)


def solve_limit(point: Ratios, sizes: Any = None, model: Model | None = None) -> Solution:
    """Solve the limit theory on a whole grid of ratios at once.

    Args:
        point: control parameters, numbers or arrays.
        sizes: token dimension D, for log Z at leading order (with finite beta_tilde).
        model: lowered theories; by default the package's own.

    Returns:
        Solution at level "limit", of the shape that the ratios broadcast to.

    Raises:
        ParameterError: for a finite task diversity, which is another ensemble (see `numeric.task_diversity`).
    """
    if point.kappa is not None:
        raise ParameterError("kappa", point.kappa, "must be absent: this theory has fresh tasks, one per prompt")
    functions = (model or LINEAR_ATTENTION).fresh_tasks_limit
    shape = point.shape
    names = ("alpha", "nu", "lam", "noise", "beta_tilde")
    flat = [np.ravel(np.broadcast_to(np.asarray(getattr(point, name), dtype=float), shape)) for name in names]
    count = flat[0].size
    pieces = [_solve_piece(functions, *(x[i : i + CHUNK] for x in flat)) for i in range(0, count, CHUNK)] or [
        _solve_piece(functions, *flat)
    ]
    joined = {name: np.concatenate([piece[name] for piece in pieces]).reshape(shape) for name in pieces[0]}
    status, residual = joined.pop("status").astype(int), joined.pop("residual")
    if np.isinf(flat[4]).all():
        for name in ("V", "e_gibbs", "train_gibbs", "free_entropy"):
            joined.pop(name)
    else:
        density = joined.pop("free_entropy")
        if sizes is not None:
            joined["log_Z"] = functions.log_partition(
                NUMPY, D=np.asarray(sizes, dtype=float), free_entropy=density
            ).log_Z
    joined.pop("v")
    joined["e_idg"] = joined["e_icl"]
    return solution_of("limit", status, residual, 0, joined, shape)


def _solve_piece(functions: Any, alpha: Any, nu: Any, lam: Any, noise: Any, beta_tilde: Any) -> dict[str, Any]:
    controls = {"alpha": alpha, "nu": nu, "lam": lam, "rho": noise}
    with np.errstate(all="ignore"):
        found = functions.solution(NUMPY, **controls)
        order = {"m": found.m, "q": found.q}
        residual = imbalance(functions.stationarity(NUMPY, **order, k=found.k, s=found.s, **controls).balances)
        singular = (lam == 0) & (alpha == 1)
        values = found._asdict()
        status = classify(values, residual, singular, TOLERANCE)
        thermal = functions.thermal(
            NUMPY, **order, v=found.v, s=found.s, e=found.e_icl, **controls, beta_tilde=beta_tilde
        )
    for name in ("k", "s"):
        values.pop(name)
    return {**values, **thermal._asdict(), "status": status, "residual": residual}
