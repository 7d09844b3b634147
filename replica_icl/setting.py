"""The raw numbers of one experiment, or of a grid of them. Theory and simulation share this type and nothing else.

There is no scaling in it: no ratio, no factor of D. The theory and the simulator each put their own
powers of D in, so that a scaling mistake cannot be made once and agree with itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.parameter import LARGEST_SIZE, check_integer, check_real, is_array
from replica_icl.parameters import SETTING, Broadcasting
from replica_icl.priors import PENALTIES, penalties_of, prior_of

__all__ = ["LARGEST_SIZE", "Setting", "check_integer", "check_real", "one_setting", "single_settings"]


@dataclass(frozen=True, eq=False)
class Setting(Broadcasting):
    """Experiments in raw numbers, in the units of Li et al. with features divided by N.

    Every field is a number, or a list or array of numbers; arrays broadcast together as NumPy's do, to a grid of
    experiments. Two settings are equal if their numbers are.

    Attributes:
        D: token dimension, integer >= 2.
        N: context length, the number of labelled tokens in a prompt, integer >= 2.
        P: number of pre-training prompts, integer >= 1.
        ridge: lambda_0, the ridge of the energy (1/2P) sum (y - y_hat)^2 + (lambda_0/2) |W|^2, >= 0.
        noise: rho, variance of the label noise, on context labels and on the target, >= 0.
        beta: inverse temperature of the weight exp(-beta E); infinity is the ground state.
        K: number of distinct pre-training tasks; None: every prompt has its own task.
        minimum_norm: at ridge 0 with P < D (D + 1) the ground state is not unique; True asks for the one of
            least norm (the limit of vanishing ridge).
        l1: lambda_1, weight of sum |W_ij| over the acting weights in the energy (`priors.Laplace`); zero: absent.

    Raises:
        ParameterError: naming the field, its value and what is allowed.
    """

    D: Any
    N: Any
    P: Any
    ridge: Any
    noise: Any = 0.0
    beta: Any = math.inf
    K: Any = None
    minimum_norm: Any = False
    l1: Any = 0.0

    _table = SETTING

    def __post_init__(self) -> None:
        self._check_fields()
        if not self.shape:
            _check_point(self)
        else:
            _check_grid(self)

    @property
    def acting_weights(self) -> Any:
        """D (D + 1): the weights that act on a prediction (the last column of W never does)."""
        D = self.D.astype(float) if is_array(self.D) else self.D  # beyond 64-bit integers for large D
        return D * (D + 1)

    @classmethod
    def stack(cls, settings: Sequence[Setting]) -> Setting:
        """Many settings as one grid along one axis.

        Raises:
            ParameterError: something that is no single setting, none at all, or K for some of them alone.
        """
        for one in settings:
            if not isinstance(one, cls) or one.shape:
                raise ParameterError("point", one, "must be a setting, or a list of single settings")
        if not settings:
            raise ParameterError("point", "[]", "must hold at least one setting")
        diverse = [one.K for one in settings if one.K is not None]
        if diverse and len(diverse) < len(settings):
            raise ParameterError("K", diverse[0], "must be given for every setting of a grid or for none")
        columns = {name: [getattr(one, name) for one in settings] for name in SETTING}
        return cls(**{name: values for name, values in columns.items() if values[0] is not None})

    def without_penalties(self) -> Setting:
        """The same experiments under the ridge alone, where that is zero of least norm."""
        return replace(self, **dict.fromkeys(PENALTIES, 0.0), minimum_norm=True) if penalties_of(self) else self


def one_setting(given: Any) -> Setting:
    """A single setting as it is.

    Raises:
        ParameterError: (`setting`) something else.
    """
    if not isinstance(given, Setting) or given.shape:
        raise ParameterError("setting", given, "must be one setting in raw numbers")
    return given


def single_settings(given: Any) -> tuple[Setting, ...]:
    """The points of a setting, of a grid, or of a sequence of single settings.

    Raises:
        ParameterError: (`settings`) something else, or nothing at all.
    """
    if isinstance(given, Setting):
        return given.points()
    if not isinstance(given, Sequence) or not given or not all(isinstance(x, Setting) and not x.shape for x in given):
        raise ParameterError("settings", given, "must be a setting in raw numbers, or a list of single ones")
    return tuple(given)


def _check_point(one: Setting) -> None:
    """What the numbers of one experiment must be to each other."""
    if one.K is not None and one.K > one.P:
        raise ParameterError("K", one.K, f"must be at most the number of prompts, P = {one.P}")
    if prior_of(one) is not None:
        if math.isfinite(one.beta):
            name = next(iter(penalties_of(one)))
            raise ParameterError("beta", one.beta, f"must be inf with {name}: this prior has its ground state")
        if one.minimum_norm:
            raise ParameterError("minimum_norm", True, "must not be given with a penalty: the optimum is unique")
    elif one.ridge == 0 and one.P < one.acting_weights:
        if not one.minimum_norm:
            raise ParameterError(
                "ridge",
                one.ridge,
                f"must be positive when P = {one.P} is below D (D + 1) = {one.acting_weights}: the ground "
                "state is not unique (ask for the minimum-norm solution by name, or give a ridge or another penalty)",
            )
        if math.isfinite(one.beta):
            raise ParameterError(
                "beta", one.beta, "must be inf at ridge 0 with P < D (D + 1): the Boltzmann weight has no norm"
            )


def _check_grid(grid: Setting) -> None:
    """The same for every point of a grid: the first that is wrong is told."""
    import numpy as np

    D, P, ridge, beta = (np.asarray(getattr(grid, name), dtype=float) for name in ("D", "P", "ridge", "beta"))
    degenerate = (ridge == 0) & (P < D * (D + 1)) & (prior_of(grid) is None)
    wrong = degenerate & (~np.asarray(grid.minimum_norm) | np.isfinite(beta))
    if grid.K is not None:
        wrong = wrong | (np.asarray(grid.K) > P)
    if prior_of(grid) is not None:
        wrong = wrong | np.isfinite(beta) | np.asarray(grid.minimum_norm)
    if np.any(wrong):
        index = np.unravel_index(int(np.argmax(np.broadcast_to(wrong, grid.shape))), grid.shape)
        grid.point(*(int(i) for i in index))  # raises
