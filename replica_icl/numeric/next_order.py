"""What the next order of the free entropy adds at a solved saddle point: one linear solve per point.

Source: `symbolic.next_order`, by way of the lowered function `next_order` of the ensemble.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes
from replica_icl.numeric.saddle import ELEMENTS, Points, chunks

Array = NDArray[np.floating[Any]]


def next_order(model: Model, points: Points, nodes: PromptNodes, saddle: dict[str, Array]) -> dict[str, Array]:
    """First corrections of the order parameters and observables, in the solver's units.

    Args:
        saddle: m, q, u, v and v_u at the saddle, each of shape (points,).

    Returns:
        What is to be added to the order parameters, to the observables of the lowered `next_order` (of the mean
        weights, and what a Gibbs sample adds to e_icl and to the training error at the solver's beta = P / c), and the
        two parts `thermal` and `shared` of the free entropy's next order; each of shape (points,), NaN where there is
        no saddle.
    """
    functions = model.fresh_tasks
    names = functions.ORDER_PARAMETERS
    results: dict[str, list[Array]] = defaultdict(list)
    for piece in chunks(len(saddle["m"]), nodes, ELEMENTS // 4):  # four times as many arrays as elsewhere
        part = points.take(piece)
        order = {name: saddle[_SOLVED.get(name, name)][piece] for name in names}
        columns = {name: value[:, None] for name, value in order.items()}
        out = functions.next_order(NUMPY, nodes.average, **columns, **part.sizes, rho=part.noise)
        scale = np.stack([np.abs(order[x]) for x in names], axis=1)
        scale = np.where(scale > 0, scale, 1.0)  # relative changes: V and V_u span many orders of magnitude
        count = len(part.P)
        hessian = np.stack([_columns(row, count) for row in out.hessian], axis=1)
        hessian *= scale[:, :, None] * scale[:, None, :]
        moved = -scale * _solve(hessian, _columns(out.gradient, count) * scale)
        for name, change in zip(names, moved.T, strict=True):
            results[name].append(change)
        for name, slopes, gain in zip(functions.OBSERVABLES, out.slopes, _columns(out.gains, count).T, strict=True):
            results[name].append(np.sum(_columns(slopes, count) * moved, axis=1) + gain)
        for name, value in (("thermal", out.thermal), ("shared", out.shared)):
            results[name].append(np.broadcast_to(value, (count, 1))[:, 0])
    return {name: np.concatenate(pieces) for name, pieces in results.items()}


_SOLVED = {"V": "v", "V_u": "v_u"}
"""What the solver calls the fluctuations at its own temperature."""


def _columns(values: Sequence[Any], count: int) -> Array:
    """The values of `count` points side by side, shape (count, len(values))."""
    return np.concatenate([np.broadcast_to(value, (count, 1)) for value in values], axis=1)


def _solve(matrices: Array, vectors: Array) -> Array:
    """Solutions of each system; NaN where a matrix is singular or not finite."""
    good = np.isfinite(matrices).all(axis=(1, 2)) & np.isfinite(vectors).all(axis=1)
    solved = np.full(vectors.shape, np.nan)
    try:
        solved[good] = np.linalg.solve(matrices[good], vectors[good][:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        for i in np.flatnonzero(good):
            if np.linalg.cond(matrices[i]) < 1 / np.finfo(float).eps:
                solved[i] = np.linalg.solve(matrices[i], vectors[i])
    return solved
