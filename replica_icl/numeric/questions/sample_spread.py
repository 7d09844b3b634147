"""How far one sample is from the average over samples, by theory: standard deviations of observables.

Source: `theory.sample_spread`. One training set is one sample; its ground state has exact m, q, u and errors, and
the standard deviation of these over training sets is what a simulation shows as spread, 1/D relative to the values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import prompt_nodes
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.solution import Solution, Status
from replica_icl.setting import Setting

Array = NDArray[np.floating[Any]]

SPREAD = ("e_icl", "train_error", "m", "q", "u", "contrast")


def sample_spread(settings: Sequence[Setting], tolerance: float = 1e-5, model: Model | None = None) -> dict[str, Array]:
    """Standard deviation over samples of e_icl, train_error, m, q, u and contrast, for any mixture of settings.

    Args:
        settings: fresh tasks; their temperature has no influence.
        tolerance: relative accuracy of the prompt averages.
        model: lowered theories; by default the package's own.

    Returns:
        By name, arrays over the settings: the leading order 1/D, and the part of the next that is due to the direction
        of a query (about 1 % off at D = 6 to 14 where it was compared); NaN where the saddle point did not converge.

    Raises:
        ParameterError: without a ridge below P = D (D + 1), where zero modes have no variance; for finite K.
    """
    for setting in settings:
        if setting.ridge == 0 and setting.P < setting.acting_weights:
            raise ParameterError(
                "ridge", 0.0, "must be positive below P = D (D + 1) to ask for the spread over samples"
            )
    model = model or LINEAR_ATTENTION
    singular = [setting.ridge == 0 and setting.P == setting.acting_weights for setting in settings]
    regular = [i for i, without in enumerate(singular) if not without]
    warm = [replace(settings[i], beta=float(settings[i].P)) for i in regular]
    solved = solve_finite_size(warm, min(tolerance, 1e-7), model=model)
    spreads = {name: np.full(len(settings), np.nan) for name in SPREAD}
    for k, i in enumerate(regular):
        if solved.status[k] == Status.CONVERGED:
            for name, value in _standard_deviations(settings[i], solved.point(k), tolerance, model).items():
                spreads[name][i] = value
    return spreads


def _standard_deviations(setting: Setting, saddle: Solution, tolerance: float, model: Model) -> dict[str, float]:
    """At one saddle point, solved at beta = P."""
    steepest = max(1.0, 1 / saddle.replicon)
    law = (model, setting.D, setting.N, setting.noise)
    functions = model.sample_spread
    order = {x: getattr(saddle, x) for x in functions.ORDER_PARAMETERS}
    out = functions.sample_covariance(
        NUMPY,
        prompt_nodes(*law, tolerance, steepest, degree=2).average,
        **{x: np.full((1, 1), value) for x, value in order.items()},
        D=float(setting.D),
        P=float(setting.P),
        c=1.0,
        field=setting.ridge,
        field_u=setting.ridge,
        rho=setting.noise,
    )
    across, to_across = _numbers(out.across), _numbers(out.mixed_across)
    mixed = _numbers(out.mixed) - to_across @ np.linalg.solve(
        across, to_across.T
    )  # the overlaps across stay stationary
    scale = np.abs(np.array(list(order.values())))
    hessian = _numbers(out.hessian) * np.outer(scale, scale)
    response = -scale[:, None] * np.linalg.solve(hessian, scale[:, None] * _numbers(out.sources).T)
    covariance = response.T @ mixed @ response

    variances = dict(zip(functions.SOURCED, np.diag(covariance), strict=True))
    for name, slopes in zip(functions.FOLLOWING, _numbers(out.following), strict=True):
        variances[name] = slopes @ covariance @ slopes
    # The training error is twice the energy without the ridge's part, lambda_0 (D q + u) / 2; log Z = -P E_0 + ...
    energy = _numbers([[out.value]]).item() / setting.P**2
    with_energy = _numbers([out.slope])[0] @ response / setting.P
    norm = setting.ridge * np.array([0.0, setting.D, 1.0])
    variances["train_error"] = 4 * energy - 4 * norm @ with_energy + norm @ covariance @ norm
    return {name: math.sqrt(max(variance, 0.0)) for name, variance in variances.items()}


def _numbers(matrix: Sequence[Sequence[Any]]) -> Array:
    """A matrix of a lowered record, evaluated at one point."""
    return np.array([[float(np.ravel(x)[0]) for x in row] for row in matrix])
