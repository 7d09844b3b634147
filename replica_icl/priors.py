"""Weight priors as they are declared: a name, and penalties in raw numbers, in the energy (1/2P) sum r^2 + sum r(W).

What theory and simulator share of a prior is this and nothing else; each finds its own half by the name. The sum runs
over the D (D + 1) acting weights. The ridge of a `Setting` acts beside any prior, so that Laplace with a ridge is the
elastic net.

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

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from replica_icl.errors import ParameterError
from replica_icl.parameters import check_real, is_array


class Prior:
    """Base of weight priors: frozen dataclasses whose fields are penalties, positive numbers or arrays of them.

    Attributes:
        name: of the prior; both halves of the package's own are found by it.
        potential: of a separable prior from outside the package, w and penalties to r(w): one expression, or branches
            (upper end, expression). It is called with symbols.
        entropic: of a prior from outside that is not separable, its entropic part (`symbolic.action.EntropicPart`, of
            which the ground state and the curvature are used), from weight blocks, their fields, P and lambda_0 as
            symbols, and penalties.

    Raises:
        ParameterError: a penalty that is not positive.
    """

    name: ClassVar[str] = ""
    potential: ClassVar[Callable[..., Any] | None] = None
    entropic: ClassVar[Callable[..., Any] | None] = None

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
