"""The error of trained weights on prompts of another context length or noise than in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.solution import Solution
from replica_icl.parameter import check_integer, check_real
from replica_icl.setting import Setting


def transfer_error(
    setting: Setting,
    solution: Solution,
    N: int | None = None,
    noise: float | None = None,
    *,
    model: Model | None = None,
) -> Any:
    """e_icl of the trained weights on prompts of another context length or noise than in training.

    The weights enter through m, q and u alone, and the prompts through exact moments, so that the only approximation
    is the one of the order parameters.

    Args:
        setting: what the weights were trained on, a point or a grid.
        solution: its solution at a finite size.
        N: test context length, by default the training one.
        noise: test label noise (on context labels and target), by default the training one.
        model: lowered theories of another forward pass; by default the package's own.

    Returns:
        A float, or an array of the shape of the grid.

    Raises:
        ParameterError: for a bad N or noise, or a solution of the limit (which has no u).
    """
    if not isinstance(setting, Setting):
        raise ParameterError("setting", setting, "must be a setting in raw numbers")
    if not isinstance(solution, Solution):
        raise ParameterError("solution", solution, "must be what `solve` gives for the setting")
    test_N: Any = setting.N if N is None else check_integer("test_N", N, 1)
    test_noise: Any = setting.noise if noise is None else check_real("test_noise", noise)
    if solution.u is None:
        raise ParameterError("level", solution.level, "must be finite-size or given-tasks to ask for test contexts")
    found = (model or LINEAR_ATTENTION).fresh_tasks.transfer(
        NUMPY,
        m=solution.m,
        q=solution.q,
        u=solution.u,
        D=np.asarray(setting.D, dtype=float),
        N=np.asarray(test_N, dtype=float),
        rho=test_noise,
    )
    value = np.asarray(found.e_icl)
    return value if value.ndim else float(value)
