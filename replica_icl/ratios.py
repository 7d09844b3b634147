"""The control parameters of the thermodynamic limit, and the one conversion between them and raw numbers.

This module belongs to the theory's side: the simulator knows nothing of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.parameter import is_array
from replica_icl.parameters import RATIOS, SETTING, SIZES, STANDS_FOR, Broadcasting
from replica_icl.priors import refuse_penalties
from replica_icl.setting import Setting

POWERS = {"alpha": 2, "nu": 1, "kappa": 1, "lam": -1, "beta_tilde": 2}
"""Each ratio times this power of D is the raw number that it stands for."""


@dataclass(frozen=True, eq=False)
class Ratios(Broadcasting):
    """Control parameters of the limit; each a number, or a list or array, broadcast against each other.

    Attributes:
        alpha: P / D^2, pre-training prompts per weight, > 0.
        nu: N / D, context length per dimension, > 0.
        lam: lambda_0 D, the ridge at its thermodynamic scale, >= 0.
        noise: rho, variance of the label noise, >= 0.
        beta_tilde: beta / D^2, inverse temperature at its thermodynamic scale; infinity: ground state.
        kappa: K / D, task diversity; None: every prompt has its own task.
        minimum_norm: at lam = 0 below alpha = 1 the ground state is not unique; True asks for the one of least norm.

    Raises:
        ParameterError: naming the field, its value and what is allowed.
    """

    alpha: Any
    nu: Any
    lam: Any
    noise: Any = 0.0
    beta_tilde: Any = math.inf
    kappa: Any = None
    minimum_norm: Any = False

    _table = RATIOS

    def __post_init__(self) -> None:
        self._check_fields()
        import numpy as np

        degenerate = (np.asarray(self.lam) == 0) & (np.asarray(self.alpha) < 1)
        if np.any(degenerate & ~np.asarray(self.minimum_norm)):
            raise ParameterError(
                "lam",
                0.0,
                "must be positive below alpha = 1: the ground state is not unique (ask for the minimum-norm "
                "solution by name, or give a ridge)",
            )
        if np.any(degenerate & np.isfinite(self.beta_tilde)):
            raise ParameterError("beta_tilde", self.beta_tilde, "must be inf at lam = 0 below alpha = 1")


def ratios(setting: Setting) -> Ratios:
    """alpha = P/D^2, nu = N/D, kappa = K/D, lam = lambda_0 D and beta_tilde = beta/D^2 of a setting or a grid."""
    refuse_penalties(setting, "in ratios, which have none of this penalty")
    values: dict[str, Any] = {}
    D = setting.D.astype(float) if is_array(setting.D) else setting.D  # beyond 64-bit integers for large D
    for ratio, name in STANDS_FOR.items():
        if (raw := getattr(setting, name)) is not None:
            scale = D ** abs(POWERS[ratio])
            values[ratio] = raw * scale if POWERS[ratio] < 0 else raw / scale
    # Between D^2 and D (D + 1) prompts the limit is above its transition although the finite system is below.
    return Ratios(**values, noise=setting.noise, minimum_norm=setting.minimum_norm)


def raw_number(ratio: str, value: Any, D: int, *, nearest: bool = False) -> Any:
    """The raw number that one value of a ratio stands for at dimension D.

    Args:
        nearest: take the nearest integer of at least one where the number must be an integer.

    Raises:
        ParameterError: if it must be an integer and is none.
    """
    power, name = POWERS[ratio], STANDS_FOR[ratio]
    number = value / D**-power if power < 0 else value * D**power
    if name not in SIZES:
        return number
    if nearest:
        return max(1, round(number))
    integer = round(number)
    if not math.isclose(number, integer, rel_tol=1e-9):
        raise ParameterError(name, number, f"must be an integer; at D = {D} these ratios give a fraction")
    return integer


def setting_at(point: Ratios, D: int, *, nearest: bool = False) -> Setting:
    """The setting of dimension D with the ratios of one `point`, the inverse of `ratios`.

    Args:
        nearest: round N = nu D, P = alpha D^2 and K = kappa D to the nearest integers.

    Raises:
        ParameterError: if one of these is no integer (unless `nearest`), or for a grid of points.
    """
    if not isinstance(point, Ratios) or point.shape:
        shown = f"grid of shape {point.shape}" if isinstance(point, Ratios) else point
        raise ParameterError("point", shown, "must be one point in ratios")
    D = SETTING["D"].check(D)
    values = {
        name: raw_number(ratio, value, D, nearest=nearest)
        for ratio, name in STANDS_FOR.items()
        if (value := getattr(point, ratio)) is not None
    }
    return Setting(D=D, **values, noise=point.noise, minimum_norm=point.minimum_norm)
