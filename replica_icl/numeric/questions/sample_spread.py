"""How far one sample is from the average over samples, by theory: standard deviations of observables.

Source: `theory.sample_spread`. One training set is one sample; its ground state has exact m, q, u and errors, and
the standard deviation of these over training sets is what a simulation shows as spread, 1/D relative to the values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import prompt_nodes
from replica_icl.numeric.curvature import SOLVED, Curvature, arguments_of, columns
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.saddle import Points
from replica_icl.numeric.sample_covariance import Covariance, responses
from replica_icl.numeric.solution import Solution
from replica_icl.priors import refuse_penalties
from replica_icl.setting import Setting, single_settings

Array = NDArray[np.floating[Any]]

VARYING = ("e_icl", "train_error", "m", "q", "u", "contrast")


def sample_spread(
    settings: Setting | Sequence[Setting], tolerance: float = 1e-5, model: Model | None = None
) -> dict[str, Array]:
    """Standard deviation over samples of e_icl, train_error, m, q, u and contrast, for any mixture of settings.

    Args:
        settings: one, a grid (its points, the last axis fastest) or a list; fresh tasks, whose
            temperature has no influence.
        tolerance: relative accuracy of the prompt averages.
        model: lowered theories; by default the package's own.

    Returns:
        By name, arrays over the settings: the leading order 1/D, and the part of the next that is due to the direction
        of a query (about 1 % off at D = 6 to 14 where it was compared); NaN where the saddle point did not converge.

    Raises:
        ParameterError: without a ridge below P = D (D + 1), where zero modes have no variance; for finite K.
    """
    settings = single_settings(settings)
    for setting in settings:
        refuse_penalties(setting, "for the spread")
        if setting.ridge == 0 and setting.P < setting.acting_weights:
            raise ParameterError(
                "ridge", 0.0, "must be positive below P = D (D + 1) to ask for the spread over samples"
            )
    model = model or LINEAR_ATTENTION
    singular = [setting.ridge == 0 and setting.P == setting.acting_weights for setting in settings]
    regular = [i for i, without in enumerate(singular) if not without]
    warm = [replace(settings[i], beta=float(settings[i].P)) for i in regular]  # V in the solver's units
    solved = solve_finite_size(warm, min(tolerance, 1e-7), model=model)
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for k in np.flatnonzero(solved.converged).tolist():
        groups[warm[k].D, warm[k].N, warm[k].noise].append(k)
    spreads = {name: np.full(len(settings), np.nan) for name in VARYING}
    for members in groups.values():
        found = _standard_deviations([warm[k] for k in members], solved, members, tolerance, model)
        for name, values in found.items():
            spreads[name][[regular[k] for k in members]] = values
    return spreads


def _standard_deviations(
    settings: Sequence[Setting], solved: Solution, members: Sequence[int], tolerance: float, model: Model
) -> dict[str, Array]:
    """At the saddle points of one prompt law, solved at beta = P."""
    ridges = np.array([setting.ridge for setting in settings])
    points = Points.of(settings, np.stack([ridges, ridges], axis=1))
    steepest = max(1.0, float(np.max(1 / solved["replicon"][members])))
    nodes = prompt_nodes(model, points.D, points.N, points.noise, tolerance, steepest, degree=2)
    saddle = {SOLVED.get(x, x): solved[x][members] for x in model.fresh_tasks.ORDER_PARAMETERS}
    arguments = arguments_of(model, points, saddle)
    move = responses(Curvature.at(model, nodes, arguments), points.D)
    functions, P = model.sample_spread, points.P[:, 0]
    shared = {name: arguments[name] for name in (*functions.ORDER_PARAMETERS, "D", "P", "c", "rho")}
    following = functions.following(NUMPY, nodes.average, **shared).slopes
    for name, slopes in zip(functions.FOLLOWING, following, strict=True):
        each = list(zip(columns(slopes, len(P)).T, (move[x] for x in functions.SOURCED), strict=True))
        move[name] = {x: sum(slope * moved[x] for slope, moved in each) for x in move["m"]}
    found = {name: Covariance.of(model, nodes, arguments, moved, moved) for name, moved in move.items()}
    variances = {name: covariance.observables for name, covariance in found.items()}
    # The training error is twice the energy without the ridge's part, lambda_0 |W|^2 / 2; log Z = -P E_0 + ...
    norm = found["weight_norm"]
    variances["train_error"] = 4 * norm.energy / P**2 - 4 * ridges * norm.with_energy / P + ridges**2 * norm.observables
    return {name: np.sqrt(np.maximum(variances[name], 0.0)) for name in VARYING}
