"""Ridges that message passing without the Onsager reaction effectively uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replica_icl.errors import SolveError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.solution import Solution
from replica_icl.priors import refuse_penalties
from replica_icl.setting import Setting


def effective_ridges(setting: Setting, model: Model | None = None) -> tuple[float, float]:
    """lambda_0 - V_i / beta of the D^2 token weights and of the last row's, at the fixed point without reaction.

    Raises:
        SolveError: if there is no fixed point (few prompts or a small ridge: the iteration diverges there, too).
    """
    refuse_penalties(setting, "without the Onsager reaction")
    moments = (model or LINEAR_ATTENTION).missing_onsager.coupling_moments(
        NUMPY, D=float(setting.D), N=float(setting.N), P=float(setting.P), rho=setting.noise
    )
    precision = setting.ridge + np.array(moments.precisions, dtype=float)
    squares = np.array(moments.squares, dtype=float)
    reduced = precision.copy()
    for _ in range(10_000):
        following = precision - squares @ (1 / reduced)
        if not np.all(following > 0):
            raise SolveError(f"message passing without the Onsager reaction has no fixed point at {setting}")
        if np.max(np.abs(following / reduced - 1)) < 1e-14:
            ridges = setting.ridge - squares @ (1 / following)
            return float(ridges[0]), float(ridges[1])
        reduced = following
    raise SolveError(f"the reduced precisions did not settle at {setting}")


def solve_without_reaction(settings: Sequence[Setting], model: Model | None = None) -> Solution:
    """Finite-size theory of the fixed point of message passing without the Onsager reaction.

    Raises:
        SolveError: where the iteration has no fixed point.
    """
    ridges = np.array([effective_ridges(setting, model) for setting in settings])
    return solve_finite_size(settings, block_ridges=ridges, model=model)
