"""State evolution: the dynamics of message passing, one undamped round through both halves per iteration.

From W = 0 the fields that prompts put on the weights, then the overlaps that the weights have in these fields, and so
on: what message passing has on average over samples after each of its iterations. Its fixed point is the saddle point.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.averages.prompt_nodes import prompt_nodes
from replica_icl.numeric.priors.finite_size import Halves, PriorPoints, check_ground_state, logs_of
from replica_icl.parameter import check_integer
from replica_icl.priors import Prior
from replica_icl.setting import Setting

STEEPEST = 1e3
"""How steep integrands the nodes of the prompt law are made for, in units of the 1 beside T chi."""


def state_evolution(
    setting: Setting, prior: Prior, iterations: int, tolerance: float = 1e-6, model: Model | None = None
) -> dict[str, Any]:
    """Overlaps and test error of undamped message passing after 0, 1, ..., `iterations` iterations from W = 0.

    Args:
        setting: one point; a ridge acts beside the prior.
        prior: penalties that are numbers.
        iterations: how many.
        tolerance: relative accuracy of the prompt averages.
        model: lowered theories; by default the package's own.

    Returns:
        m, q, V, u, V_u and e_icl, arrays of shape (iterations + 1,).

    Raises:
        ParameterError: for a finite task diversity or temperature, or a negative number of iterations.
    """
    check_ground_state([setting])
    count, model = check_integer("iterations", iterations, 0), model or LINEAR_ATTENTION
    halves = Halves(model, model.prior(type(prior)))
    one = np.ones((1, 1))
    points = PriorPoints(
        D=setting.D,
        N=setting.N,
        noise=setting.noise,
        P=setting.P * one,
        ridge=setting.ridge * one,
        penalties=tuple(float(x) * one for x in prior.penalties.values()),
    )
    nodes = prompt_nodes(model, setting.D, setting.N, setting.noise, tolerance, STEEPEST)
    names = model.prompt_fields.ORDER_PARAMETERS
    overlaps = tuple(np.zeros((1, 1)) for _ in names)
    rows = []
    with np.errstate(invalid="ignore"):  # W = 0 has no contrast
        for _ in range(count + 1):
            prompts = halves.fields(points, nodes, overlaps)
            rows.append([*(x.item() for x in overlaps), prompts.e_icl.item()])
            overlaps = halves.overlaps(points, logs_of(prompts.fields, (1, 1))).overlaps
    return dict(zip((*names, "e_icl"), np.array(rows).T, strict=True))
