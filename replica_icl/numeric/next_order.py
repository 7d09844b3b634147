"""What the next order of the free entropy adds at a solved saddle point.

Source: `symbolic.next_order` and `symbolic.hard_edge`, by way of the lowered functions of `fresh_tasks_next_order`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes
from replica_icl.numeric.curvature import Curvature, arguments_of, columns
from replica_icl.numeric.hard_edge import edge
from replica_icl.numeric.saddle import Points, chunks
from replica_icl.numeric.sample_covariance import contrast_of_samples

Array = NDArray[np.floating[Any]]

ELEMENTS = 1 << 18
"""Elements of an intermediate array: few kernels and many factors, so that products of matrices take the time."""


def next_order(
    model: Model, points: Points, nodes: PromptNodes, saddle: dict[str, Array], paired: PromptNodes | None = None
) -> dict[str, Array]:
    """First corrections of the order parameters and observables, in the solver's units.

    Args:
        saddle: m, q, u, v and v_u at the saddle, each of shape (points,).
        paired: nodes for integrands of second degree in the task, for what the mean of the contrast over samples is
            more than the contrast of the mean weights; by default it is left out.

    Returns:
        What is to be added to the order parameters and to the observables of the lowered `next_order` (of the mean
        weights, and what a Gibbs sample adds to e_icl at the solver's beta = P / c), and the two parts `thermal` and
        `shared` of the free entropy's next order; each of shape (points,), not finite where there is none: no saddle,
        or without a ridge at |P - D (D + 1)| < 2, where the mean over samples does not exist.
    """
    functions = model.fresh_tasks_next_order
    results: dict[str, list[Array]] = defaultdict(list)
    for piece in chunks(len(saddle["m"]), nodes, ELEMENTS):
        part = points.take(piece)
        arguments = arguments_of(model, part, {name: value[piece] for name, value in saddle.items()})
        at_edge = hard_edge(model, part, nodes, arguments)
        out = functions.next_order(NUMPY, nodes.average, **arguments, edge=tuple(x[:, None] for x in at_edge))
        count, curvature = len(part.P), Curvature.at(model, nodes, arguments)
        moved = curvature.moved(dict(zip(functions.ORDER_PARAMETERS, columns(out.pull, count).T, strict=True)))
        changes = np.stack([moved[name] for name in functions.ORDER_PARAMETERS], axis=1)
        for name, slopes, gain in zip(functions.OBSERVABLES, out.slopes, columns(out.gains, count).T, strict=True):
            moved[name] = np.sum(columns(slopes, count) * changes, axis=1) + gain
        if paired is not None:
            moved["contrast"] = moved["contrast"] + contrast_of_samples(model, paired, curvature, arguments)
        moved |= {"thermal": columns([out.thermal], count)[:, 0], "shared": columns([out.shared], count)[:, 0]}
        for name, value in moved.items():
            results[name].append(value)
    return {name: np.concatenate(pieces) for name, pieces in results.items()}


def hard_edge(model: Model, points: Points, nodes: PromptNodes, arguments: dict[str, Any]) -> tuple[Array, ...]:
    """W, W', W'' kappa' and W' kappa' of each point, from the side of which fewer directions are left.

    Both sides count the same at the saddle point, kappa = P < s > = P - n + (directions of weights not determined); but
    where the smaller number is next to nothing only its own side knows its digits.
    """
    count, weights = len(points.P), points.D * (points.D + 1)
    out = model.fresh_tasks_next_order.hard_edge(NUMPY, nodes.average, **arguments)
    side = points.P > weights
    kappa, shared = np.where(side, columns(out.weights, count), columns(out.prompts, count)).T
    P = points.P[:, 0]
    law = edge(model, np.rint(np.abs(P - weights)).astype(int), kappa)
    counted = model.fresh_tasks_next_order.matched(
        NUMPY,
        W=law.entropy,
        W_slope=law.slope,
        W_bend=law.bend,
        kappa=kappa,
        smaller=np.minimum(P, weights),
        larger=np.maximum(P, weights),
    )
    bend = np.where(kappa > 0, counted.bend * shared, 0.0)  # without a ridge kappa does not move
    return counted.entropy, counted.slope, bend, counted.slope * shared
