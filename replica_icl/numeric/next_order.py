"""What the next order of the free entropy adds at a solved saddle point: one linear solve per point.

Source: `symbolic.next_order`, by way of the lowered function `next_order` of the ensemble.
"""

from __future__ import annotations

from collections import defaultdict
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes
from replica_icl.numeric.saddle import ELEMENTS, Points, chunks

Array = NDArray[np.floating[Any]]

ORDER = ("m", "q", "V", "u", "V_u")
"""Order parameters, in the order of the linear system."""
MEAN = ("e_icl", "train_error", "contrast")
"""Observables of the mean weights."""
THERMAL = ("thermal_test", "thermal_training")
"""What a Gibbs sample adds to e_icl and to the training error, at the solver's beta = P / c."""


def next_order(functions: ModuleType, points: Points, nodes: PromptNodes, saddle: dict[str, Array]) -> dict[str, Array]:
    """First corrections of the order parameters and observables, in the solver's units.

    Args:
        saddle: m, q, u, v and v_u at the saddle, each of shape (points,).

    Returns:
        What is to be added to m, q, V, u, V_u, MEAN and THERMAL, and the two parts `thermal` and `shared` of the free
        entropy's next order; each of shape (points,), NaN where there is no saddle.
    """
    results: dict[str, list[Array]] = defaultdict(list)
    for piece in chunks(len(saddle["m"]), nodes, ELEMENTS // 4):  # four times as many arrays as elsewhere
        part = points.take(piece)
        order = {
            name: saddle[key][piece][:, None] for name, key in zip(ORDER, ("m", "q", "v", "u", "v_u"), strict=True)
        }
        out = functions.next_order(NUMPY, nodes.average, **order, **part.sizes, rho=part.noise)
        values = {name: np.broadcast_to(value, part.P.shape)[:, 0] for name, value in out.items()}
        scale = np.stack([np.abs(order[x][:, 0]) for x in ORDER], axis=1)
        scale = np.where(scale > 0, scale, 1.0)  # relative changes: V and V_u span many orders of magnitude
        hessian = np.stack([np.stack([_curvature(values, x, y) for y in ORDER], axis=1) for x in ORDER], axis=1)
        hessian *= scale[:, :, None] * scale[:, None, :]
        gradient = np.stack([values[f"gradient_{x}"] for x in ORDER], axis=1) * scale
        moved = -scale * _solve(hessian, gradient)
        for i, x in enumerate(ORDER):
            results[x].append(moved[:, i])
        for name in (*MEAN, *THERMAL):
            slopes = np.stack([values[f"{name}_by_{x}"] for x in ORDER], axis=1)
            results[name].append(np.sum(slopes * moved, axis=1) + values.get(f"{name}_gain", 0.0))
        for name in ("thermal", "shared"):
            results[name].append(values[name])
    return {name: np.concatenate(pieces) for name, pieces in results.items()}


def _curvature(values: dict[str, Array], x: str, y: str) -> Array:
    first, second = sorted((x, y), key=ORDER.index)
    return values[f"hessian_{first}_{second}"]


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
