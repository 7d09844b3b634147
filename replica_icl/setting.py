"""The raw numbers of one experiment. Theory and simulation share this type and nothing else.

There is no scaling in it: no ratio, no factor of D. The theory and the simulator each put their own
powers of D in, so that a scaling mistake cannot be made once and agree with itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

from replica_icl.errors import ParameterError


def check_integer(name: str, value: object, least: int) -> int:
    """Return `value` as an int, or raise `ParameterError` when it is no integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ParameterError(name, value, f"must be an integer of at least {least}")
    return int(value)


def check_real(name: str, value: object, *, positive: bool = False, infinite: bool = False) -> float:
    """Return `value` as a float, or raise `ParameterError` when it is NaN, negative or not a number.

    Args:
        positive: zero is not allowed either.
        infinite: positive infinity is allowed.
    """
    wanted = ("must be a positive number" if positive else "must be a number of at least 0") + (
        " or inf" if infinite else ""
    )
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ParameterError(name, value, wanted)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number) or number < 0 or (positive and number == 0):
        raise ParameterError(name, value, wanted)
    if math.isinf(number) and not infinite:
        raise ParameterError(name, value, wanted)
    return number


LARGEST_SIZE = 10**15
"""Above it integers are no longer exact as floating-point numbers."""


@dataclass(frozen=True)
class Setting:
    """One experiment in raw numbers, in the units of Li et al. with features divided by N.

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

    Raises:
        ParameterError: naming the field, its value and what is allowed.
    """

    D: int
    N: int
    P: int
    ridge: float
    noise: float = 0.0
    beta: float = math.inf
    K: int | None = None
    minimum_norm: bool = False

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name, least in (("D", 2), ("N", 2), ("P", 1)):
            put(name, check_integer(name, getattr(self, name), least))
            if getattr(self, name) > LARGEST_SIZE:
                raise ParameterError(name, getattr(self, name), f"must be at most {LARGEST_SIZE:.0e}")
        put("ridge", check_real("ridge", self.ridge))
        put("noise", check_real("noise", self.noise))
        put("beta", check_real("beta", self.beta, positive=True, infinite=True))
        if self.K is not None:
            put("K", check_integer("K", self.K, 1))
            if self.K > self.P:
                raise ParameterError("K", self.K, f"must be at most the number of prompts, P = {self.P}")
        if self.ridge == 0 and self.P < self.acting_weights:
            if not self.minimum_norm:
                raise ParameterError(
                    "ridge",
                    self.ridge,
                    f"must be positive when P = {self.P} is below D (D + 1) = {self.acting_weights}: the ground "
                    "state is not unique (ask for the minimum-norm solution by name, or give a ridge)",
                )
            if math.isfinite(self.beta):
                raise ParameterError(
                    "beta",
                    self.beta,
                    "must be inf at ridge 0 with P < D (D + 1): the Boltzmann weight has no norm",
                )

    @property
    def acting_weights(self) -> int:
        """D (D + 1): the weights that act on a prediction (the last column of W never does)."""
        return self.D * (self.D + 1)
