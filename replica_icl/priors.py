"""Weight priors as they are declared: a name, and penalties in raw numbers, in the energy (1/2P) sum r^2 + sum r(W).

What theory and simulator share of a prior is this and nothing else; each finds its own half by the name. The sum runs
over the D (D + 1) acting weights. The ridge of a `Setting` acts beside any prior, so that Laplace with a ridge is the
elastic net. The penalties of the package's own priors are fields of a `Setting`, zero where absent; options, keys of
grid files, attributes of datasets and the documentation come from their declaration here.

A prior of your own is a class like these that also states its potential, for w = |W| >= 0, even, convex, and r in each
branch a polynomial of second degree at most:

    @dataclass(frozen=True)
    class Huber(Prior):
        l1: Any
        width: Any

        @staticmethod
        def potential(w, l1, width):
            return (width, l1 * w**2 / (2 * width)), (math.inf, l1 * (w - width / 2))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from replica_icl.errors import ParameterError
from replica_icl.parameter import Parameter, check_real, is_array

PENALTIES: Mapping[str, Parameter] = {
    one.name: one
    for one in (
        Parameter(
            "l1", r"\lambda_1", "Laplace prior: weight of sum |W_ij| in the energy; with a ridge the elastic net",
            default=0.0, metavar="LAMBDA_1",
        ),
    )
}  # fmt: skip
"""The penalties beside the ridge, by name."""


class Prior:
    """Base of weight priors: frozen dataclasses whose fields are penalties, positive numbers or arrays of them.

    Attributes:
        name: of the prior; both halves of the package's own are found by it.
        potential: of a separable prior from outside the package, w and penalties to r(w): one expression, or branches
            (upper end, expression). It is called with symbols.
        entropic: of a prior from outside that is not separable, its entropic part (`symbolic.action.EntropicPart`, of
            which the ground state and the curvature are used), from weight blocks, their fields, P and lambda_0 as
            symbols, and penalties.
        denoiser: of a prior that is not separable, what message passing needs of it: from numbers g, shape (D+1, D),
            A, shape (D+1, 1), P, lambda_0 and penalties to argmin A |W|^2 / 2 - g.W + P (r(W) + lambda_0 |W|^2 / 2)
            and its diagonal response dW_ij/dg_ij.

    Raises:
        ParameterError: a penalty that is not positive.
    """

    name: ClassVar[str] = ""
    potential: ClassVar[Callable[..., Any] | None] = None
    entropic: ClassVar[Callable[..., Any] | None] = None
    denoiser: ClassVar[Callable[..., Any] | None] = None

    def __post_init__(self) -> None:
        for name in self.penalty_names():
            object.__setattr__(self, name, _checked(name, getattr(self, name)))

    @classmethod
    def penalty_names(cls) -> tuple[str, ...]:
        """In the order of the fields."""
        return tuple(field.name for field in fields(cls))  # type: ignore[arg-type]

    @classmethod
    def states_itself(cls) -> bool:
        """Whether the class holds its own theory, i.e. comes from outside the package."""
        return cls.potential is not None or cls.entropic is not None

    @property
    def shown(self) -> str:
        """What messages call it: its name, or that of its class."""
        return self.name or type(self).__name__

    @property
    def penalties(self) -> dict[str, Any]:
        """By name."""
        return {name: getattr(self, name) for name in self.penalty_names()}


def _checked(name: str, value: Any) -> Any:
    if not is_array(value):
        return check_real(name, value, positive=True)
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ParameterError(name, value, "must be a positive number or an array of positive numbers")
    array = array.astype(float)
    for one in array.ravel():
        check_real(name, float(one), positive=True)
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class Ridge(Prior):
    """No penalty beside the ridge of the setting."""

    name = "ridge"


@dataclass(frozen=True)
class Laplace(Prior):
    """lambda_1 sum_ij |W_ij|: sparse attention.

    Attributes:
        l1: lambda_1 > 0.
    """

    l1: Any

    name = "laplace"


PRIORS: tuple[type[Prior], ...] = (Laplace,)
"""The package's own priors beside the ridge."""


def penalties_of(point: Any) -> dict[str, Any]:
    """The penalties beside the ridge that a setting, or parameters by name, give; those that are zero are absent."""
    values = {name: point.get(name, 0.0) if isinstance(point, Mapping) else getattr(point, name) for name in PENALTIES}
    return {name: value for name, value in values.items() if _acts(value)}


def _acts(value: Any) -> bool:
    if not is_array(value):
        return bool(value != 0)
    import numpy as np

    return bool(np.any(np.asarray(value) != 0))


def prior_of(point: Any) -> Prior | None:
    """The prior that the penalties of a setting make, None for the ridge alone.

    Raises:
        ParameterError: penalties that no prior has together, or one that is zero at points of a grid.
    """
    given = penalties_of(point)
    if not given:
        return None
    for prior in PRIORS:
        if set(prior.penalty_names()) == set(given):
            return prior(**given)
    name, *others = given
    raise ParameterError(name, given[name], f"must not be given beside {others[0]}: no prior has both")


def refuse_two_priors(setting: Any, options: Mapping[str, Any]) -> None:
    """Refuse an option `prior` beside the penalties of a setting.

    Raises:
        ParameterError: naming the penalty.
    """
    if options.get("prior") is not None:
        for name, value in penalties_of(setting).items():
            raise ParameterError(name, value, "must be absent beside an option prior: a prior is stated once")


def refuse_penalties(setting: Any, where: str) -> None:
    """Refuse a setting with a penalty beside the ridge, which would not act.

    Args:
        where: in words, e.g. "at level given-tasks".

    Raises:
        ParameterError: naming the penalty.
    """
    for name, value in penalties_of(setting).items():
        shown = "array" if is_array(value) else value
        raise ParameterError(name, shown, f"must be absent {where}: it would not act, the ridge alone does")
