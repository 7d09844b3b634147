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
from replica_icl.lowered import load
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import prompt_nodes
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.next_order import ORDER
from replica_icl.numeric.solution import Solution, Status
from replica_icl.setting import Setting

Array = NDArray[np.floating[Any]]

SOURCED = ("m", "q", "u")
"""Observables with a source in the energy; the others follow from these and the energy itself."""
SPREAD = ("e_icl", "train_error", *SOURCED, "contrast")


def sample_spread(settings: Sequence[Setting], tolerance: float = 1e-5) -> dict[str, Array]:
    """Standard deviation over samples of e_icl, train_error, m, q, u and contrast, for any mixture of settings.

    Args:
        settings: fresh tasks; their temperature has no influence.
        tolerance: relative accuracy of the prompt averages.

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
    singular = [setting.ridge == 0 and setting.P == setting.acting_weights for setting in settings]
    regular = [i for i, without in enumerate(singular) if not without]
    solved = solve_finite_size([replace(settings[i], beta=float(settings[i].P)) for i in regular], min(tolerance, 1e-7))
    spreads = {name: np.full(len(settings), np.nan) for name in SPREAD}
    for k, i in enumerate(regular):
        if solved.status[k] == Status.CONVERGED:
            for name, value in _standard_deviations(settings[i], solved.point(k), tolerance).items():
                spreads[name][i] = value
    return spreads


def _standard_deviations(setting: Setting, saddle: Solution, tolerance: float) -> dict[str, float]:
    """At one saddle point, solved at beta = P."""
    steepest = max(1.0, 1 / saddle.replicon)
    law = (load("fresh_tasks"), setting.D, setting.N, setting.noise)
    out = load("sample_spread").sample_covariance(
        NUMPY,
        prompt_nodes(*law, tolerance, steepest, degree=2).average,
        **{x: np.full((1, 1), getattr(saddle, x)) for x in ORDER},
        D=float(setting.D),
        P=float(setting.P),
        c=1.0,
        field=setting.ridge,
        field_u=setting.ridge,
        rho=setting.noise,
    )
    value = {name: float(np.ravel(x)[0]) for name, x in out.items()}

    def symmetric(name: str, keys: Sequence[str]) -> Array:
        """The matrix of derivatives in `keys`, of which the upper half is there."""
        upper = [[value[f"{name}_{x}_{y}" if i <= j else f"{name}_{y}_{x}"] for j, y in enumerate(keys)]
                 for i, x in enumerate(keys)]  # fmt: skip
        return np.array(upper)

    across = ("q_across", "u_across")
    mixed, curvature = symmetric("mixed", ORDER), symmetric("across", across)
    to_across = np.array([[value[f"mixed_{x}_{z}"] for z in across] for x in ORDER])
    mixed = mixed - to_across @ np.linalg.solve(curvature, to_across.T)  # the overlaps across stay stationary
    sources = np.array([[value[f"source_{name}_by_{x}"] for name in SOURCED] for x in ORDER])
    scale = np.array([abs(getattr(saddle, x)) for x in ORDER])
    hessian = symmetric("hessian", ORDER) * np.outer(scale, scale)
    response = -scale[:, None] * np.linalg.solve(hessian, scale[:, None] * sources)
    covariance = response.T @ mixed @ response

    variances = dict(zip(SOURCED, np.diag(covariance), strict=True))
    for name in ("e_icl", "contrast"):
        slopes = np.array([value[f"{name}_by_{x}"] for x in SOURCED])
        variances[name] = slopes @ covariance @ slopes
    # The training error is twice the energy without the ridge's part, lambda_0 (D q + u) / 2; log Z = -P E_0 + ...
    energy, with_energy = value["value"] / setting.P**2, [value[f"slope_{x}"] for x in ORDER] @ response / setting.P
    norm = setting.ridge * np.array([0.0, setting.D, 1.0])
    variances["train_error"] = 4 * energy - 4 * norm @ with_energy + norm @ covariance @ norm
    return {name: math.sqrt(max(variance, 0.0)) for name, variance in variances.items()}
