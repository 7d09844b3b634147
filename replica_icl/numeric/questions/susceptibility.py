"""Spin-glass susceptibility and the transition at P = D (D + 1), by linear response of the fluctuations V and V_u.

The spins sigma are the n = D (D + 1) acting weights. Their Boltzmann covariance is (1/beta) G, G = (S + lambda_0)^-1,
so that

    (1/n) sum_ij (beta <sigma_i sigma_j>_c)^2 = (1/n) tr G^2

does not depend on temperature. Measured in units of the mean variance it is the susceptibility of a spin glass,

    chi_SG = sum_ij <sigma_i sigma_j>_c^2 / [n (mean_i <sigma_i^2>_c)^2] = n tr G^2 / (tr G)^2 >= 1,

one for independent spins and n for a single soft mode. In theory P D V = tr G over the D^2 weights on tokens and
P V_u = tr G over the last row (at beta = P), and a ridge of its own for each block gives the squared elements of G,
block by block: -d (tr_A G) / d lambda_B = sum over i in A, j in B of G_ij^2. The response is the inverse of I - X, the
stability matrix of the replica-symmetric saddle: where its smallest eigenvalue vanishes, chi_SG diverges. With one
block alone chi_SG = 1 / (1 - X).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import prompt_nodes
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.solution import Status
from replica_icl.priors import refuse_penalties
from replica_icl.setting import Setting, single_settings

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Susceptibility:
    """Second-order response of the Boltzmann measure, arrays over the settings; NaN where status is not CONVERGED.

    Attributes:
        chi_SG: n tr G^2 / (tr G)^2, in units of the mean variance of a weight; from 1 to n.
        raw: (1/n) tr G^2 = (1/n) sum_ij (beta covariance_ij)^2, in units of 1 / ridge^2.
        trace: (1/n) tr G, beta times the mean thermal variance of a weight.
        blocks: sum of G_ij^2 over i in block A, j in block B (tokens, last row), shape (settings, 2, 2).
        replicon: smallest eigenvalue of I - X, as in `Solution`.
        status: `Status` of each setting.
    """

    chi_SG: Array
    raw: Array
    trace: Array
    blocks: Array
    replicon: Array
    status: NDArray[np.int8]


def susceptibility(
    settings: Setting | Sequence[Setting], tolerance: float = 1e-7, model: Model | None = None
) -> Susceptibility:
    """Spin-glass susceptibility of fresh tasks at finite size, for any mixture of settings.

    Args:
        settings: one, a grid (its points, the last axis fastest) or a list; their temperature has no influence.
        tolerance: relative accuracy of the prompt averages.
        model: lowered theories; by default the package's own.

    Raises:
        ParameterError: without a ridge below P = D (D + 1), where zero modes make tr G infinite; for finite K.
    """
    settings = single_settings(settings)
    for setting in settings:
        refuse_penalties(setting, "for the susceptibility")
        if setting.ridge == 0 and setting.P < setting.acting_weights:
            raise ParameterError("ridge", 0.0, "must be positive below P = D (D + 1): zero modes have no variance")
    model = model or LINEAR_ATTENTION
    status = np.full(len(settings), Status.SINGULAR, dtype=np.int8)
    blocks, trace = np.full((len(settings), 2, 2), np.nan), np.full(len(settings), np.nan)
    replicon = np.full(len(settings), np.nan)
    # At ridge 0 and P = n there is no saddle point: tr G is infinite.
    regular = [i for i, s in enumerate(settings) if s.ridge > 0 or s.P > s.acting_weights]
    warm = [replace(settings[i], beta=float(settings[i].P)) for i in regular]
    solution = solve_finite_size(warm, tolerance, model=model)
    for k, i in enumerate(regular):
        setting, status[i], replicon[i] = settings[i], solution.status[k], solution.replicon[k]
        if status[i] != Status.CONVERGED:
            continue
        sizes = {"D": float(setting.D), "P": float(setting.P), "c": 1.0}
        ridges = {"field": setting.ridge, "field_u": setting.ridge}
        steepest = max(1.0, float(1 / replicon[i]))
        nodes = prompt_nodes(model, setting.D, setting.N, setting.noise, tolerance, steepest)
        V, V_u = (np.full((1, 1), value[k]) for value in (solution.V, solution.V_u))
        out = model.fresh_tasks.fluctuations(NUMPY, nodes.average, V=V, V_u=V_u, **sizes, **ridges)
        jacobian = np.array([[x.item() for x in row] for row in out.jacobian])
        traces = setting.P * np.array([setting.D * V.item(), V_u.item()])
        weights = np.array([setting.D**2, setting.D])
        # left_A holds -lambda_A tr_A G / (weights of A), so that its derivative in lambda_A is this.
        response = np.linalg.solve(jacobian, np.diag(traces / weights))  # d log tr_A G / d lambda_B
        blocks[i] = -traces[:, None] * response
        trace[i] = traces.sum() / weights.sum()
    raw = blocks.sum(axis=(1, 2)) / np.array([s.acting_weights for s in settings])
    return Susceptibility(raw / trace**2, raw, trace, blocks, replicon, status)


@dataclass(frozen=True)
class SusceptibilityPeak:
    """Where chi_SG is largest as a function of the number of prompts.

    Attributes:
        P: number of prompts there, an integer.
        relative: P / (D (D + 1)); the transition is at 1.
        height: chi_SG there.
        replicon: smallest stability eigenvalue there.
    """

    P: int
    relative: float
    height: float
    replicon: float


def susceptibility_peak(
    D: int, N: int, ridge: float, noise: float = 0.0, model: Model | None = None
) -> SusceptibilityPeak:
    """Maximum of chi_SG over P at given D, N, ridge lambda_0 > 0 and noise.

    Below the transition zero modes share the variance, above it there are none: chi_SG peaks between, sharper the
    smaller the ridge. At a fixed lambda = lambda_0 D it stays finite in the limit; at ridge 0 it diverges.

    Raises:
        ParameterError: for ridge 0.
        SolveError: if a point near the peak did not converge.
    """
    if not ridge > 0:
        raise ParameterError("ridge", ridge, "must be positive: at ridge 0 the peak is infinite")
    n = D * (D + 1)
    candidates = np.unique(np.rint(n * np.geomspace(0.2, 5, 41)).astype(int))
    while True:
        settings = [Setting(D=D, N=N, P=int(P), ridge=ridge, noise=noise) for P in candidates]
        found = susceptibility(settings, model=model)
        best = int(np.nanargmax(found.chi_SG))
        low, high = candidates[max(best - 1, 0)], candidates[min(best + 1, len(candidates) - 1)]
        if high - low <= 2 or len(candidates) == high - low + 1:
            break
        candidates = np.unique(np.rint(np.linspace(low, high, 15)).astype(int))
    P = int(candidates[best])
    return SusceptibilityPeak(P, P / n, float(found.chi_SG[best]), float(found.replicon[best]))
