"""A solved point or grid: values, beside every value a status, and what each value is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np

from replica_icl.answers import Answer, lines, shown
from replica_icl.errors import ParameterError, SolveError
from replica_icl.parameters import OBSERVABLES, Broadcasting
from replica_icl.priors import Prior, penalties_of
from replica_icl.setting import Setting
from replica_icl.status import NextOrderStatus, Status

__all__ = ["NextOrderStatus", "Solution", "Status", "solution_of"]

LEVEL_PARTS = ("next_order", "theory_error")
"""Parts of a value that a solver may give beside it."""
KEPT = ("level", "draws", "parameters", "prior")
"""Attributes that a grid has once, not at every point."""
NOWHERE = Broadcasting()
"""Stands for the parameters until a level says whose solution it is."""


@dataclass(frozen=True, eq=False, repr=False)
class Solution(Answer):
    """The theory at one point (numbers) or on a grid (arrays of its shape); what failed is NaN beside its status.

    `solution["e_icl"]` or `solution.e_icl` is the best value that the level has: the saddle point with its next order
    added where that is known. The parts are beside it, by name.

    Attributes:
        level: "limit", "finite-size" or "given-tasks".
        status: `Status` of each point.
        residual: largest relative imbalance of the saddle-point equations, undamped, at the returned point.
        iterations: of the solver; 0 for a closed form.
        values: observable -> best value (`parameters.OBSERVABLES` says what each is).
        next_order: observable -> what the next order of the free energy, a relative O(1/D^2), adds; None at a level
            that has none, NaN where it is absent.
        theory_error: observable -> estimate of the theory's own error: an order of magnitude of what is left out.
        next_order_status: `NextOrderStatus` of each point, None at a level that has no next order.
        spread: observable -> standard deviation over task sets or over samples, None where it was not asked for.
        draws: task sets that the values are means over, 0 where none were drawn.
        parameters: the `Setting` or `Ratios`.
        saddle: observable -> value at the saddle point.
        prior: of the weights, where it was given beside the setting.
    """

    level: str
    status: Any
    residual: Any
    iterations: Any
    values: Mapping[str, Any]
    next_order: Mapping[str, Any] | None = None
    theory_error: Mapping[str, Any] | None = None
    spread: Mapping[str, Any] | None = None
    draws: int = 0
    parameters: Broadcasting = field(default=NOWHERE)
    at_saddle: Mapping[str, Any] | None = None
    next_order_status: Any = None
    prior: Prior | None = None

    @property
    def saddle(self) -> Mapping[str, Any]:
        """Observable -> value at the saddle point, before the next order is added."""
        return self.values if self.at_saddle is None else self.at_saddle

    @property
    def converged(self) -> Any:
        """True where the status is CONVERGED."""
        return np.asarray(self.status) == Status.CONVERGED if np.ndim(self.status) else self.status == Status.CONVERGED

    def names(self) -> tuple[str, ...]:
        """The observables that are there."""
        return tuple(name for name in OBSERVABLES if name in self.values)

    def _value(self, name: str) -> Any:
        return self.values[name]

    def rests_on(self) -> tuple[str, ...]:
        """The level, the parts of its values, and what the parameters add."""
        penalties = (penalties_of(self.parameters) if isinstance(self.parameters, Setting) else {}) | (
            {} if self.prior is None else self.prior.penalties
        )
        return (
            *("model", "replicas", self.level),
            *("next-order",) * (self.next_order is not None),
            *("spread",) * (self.spread is not None and not self.draws),
            *(name for name in ("K", "kappa") if getattr(self.parameters, name, None) is not None),
            *("kappa",) * (self.level == "limit" and getattr(self.parameters, "K", None) is not None),
            *("beta",) * ("e_gibbs" in self.values),
            *penalties,
        )

    def observables(self) -> dict[str, Any]:
        """The best values, by name."""
        return {name: self.values[name] for name in self.names()}

    def parts(self) -> dict[str, Mapping[str, Any]]:
        """What stands beside the values: saddle, next_order, theory_error, spread, those that there are."""
        found = {
            "saddle": self.at_saddle,
            "next_order": self.next_order,
            "theory_error": self.theory_error,
            "spread": self.spread,
        }
        return {name: by_name for name, by_name in found.items() if by_name is not None}

    def columns(self) -> dict[str, Any]:
        """status, residual, iterations, the best values, and observable_PART for each part."""
        found = {"status": self.status, "residual": self.residual, "iterations": self.iterations, **self.observables()}
        if self.next_order_status is not None:
            found["next_order_status"] = self.next_order_status
        for part, by_name in self.parts().items():
            found |= {f"{name}_{part}": value for name, value in by_name.items() if value is not None}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; a failed point has null values beside its status name."""

        def plain(value: Any) -> Any:
            if value is None:
                return None
            if np.ndim(value):
                return [plain(x) for x in np.asarray(value)]
            return float(value) if np.isfinite(value) else None

        def named(status: Any, kind: type[IntEnum] = Status) -> Any:
            return [named(x, kind) for x in status] if np.ndim(status) else kind(int(status)).name.lower()

        head = {"level": self.level, "status": named(self.status), "residual": plain(self.residual)}
        iterations = int(self.iterations) if np.ndim(self.iterations) == 0 else np.asarray(self.iterations).tolist()
        drawn = {"draws": self.draws} if self.draws else {}
        parts: dict[str, Any] = {} if self.next_order_status is None else {
            "next_order_status": named(self.next_order_status, NextOrderStatus)
        }  # fmt: skip
        parts |= {part: {name: plain(x) for name, x in by_name.items()} for part, by_name in self.parts().items()}
        values = {name: plain(value) for name, value in self.observables().items()}
        return {**head, "iterations": iterations, **drawn, **values, **parts}

    def table(self) -> str:
        """Text: of a point how it was solved, then each observable with its parts; of a grid a row per point."""
        return self._point_table() if np.ndim(self.status) == 0 else self._grid_table()

    __str__ = table

    def _point_table(self) -> str:
        head = f"{self.level}: {Status(int(self.status)).name.lower()}, residual {self.residual:.2g}"
        head += f", {self.iterations} iterations" if self.iterations else ""
        head += f", mean of {self.draws} task sets" if self.draws > 1 else ""
        if self.next_order_status:
            head += f", next order {NextOrderStatus(self.next_order_status).name.lower().replace('_', ' ')}"
        columns = {"observable": list(self.names()), "value": [f"{x:.10g}" for x in self.observables().values()]}
        titles = {"next_order": "next order", "theory_error": "own error", "spread": "spread"}
        for part, title in titles.items():
            if (by_name := getattr(self, part)) is not None:
                sign = "+" if part == "next_order" else ""
                found = [by_name.get(name, "") for name in self.names()]
                columns[title] = [_shown_part(x, sign) for x in found]
        return f"{head}\n{lines(columns)}"

    def _grid_table(self) -> str:
        axes = [name for name, value in self.parameters._arrays().items() if value.size > 1]
        columns = {name: [shown(x) for x in self.parameters._column(name).tolist()] for name in axes}
        columns["status"] = [Status(int(x)).name.lower() for x in np.ravel(self.status)]
        for name, value in self.observables().items():
            columns[name] = [f"{x:.6g}" for x in np.ravel(value)]
        return f"{self.level}, {np.size(self.status)} points\n{lines(columns, left=len(axes) + 1)}"

    def __repr__(self) -> str:
        if np.ndim(self.status) == 0:
            values = ", ".join(f"{name}={x:.6g}" for name, x in self.observables().items())
            return f"<Solution {self.level} {Status(int(self.status)).name.lower()}: {values}>"
        good = int(np.sum(self.converged))
        return f"<Solution {self.level}, grid of shape {np.shape(self.status)}, {good} of {self.status.size} converged>"

    def _attributes(self) -> dict[str, Any]:
        return {**super()._attributes(), "level": self.level}

    def with_next_order(self) -> Solution:
        """This solution with the next order added to its values; itself at a level that has none.

        Where the next order is absent (NaN, `next_order_status` says why) the saddle point's values stay. What is left
        of `theory_error` is the estimate of the orders after it. Residual, status and replicon stay those of the saddle
        point.
        """
        if self.next_order is None or self.at_saddle is not None:
            return self
        added = {name: np.where(np.isfinite(x), x, 0.0)[()] for name, x in self.next_order.items()}
        best = {name: _number(value + added[name]) if name in added else value for name, value in self.values.items()}
        errors = self.theory_error or {}
        left = {name: _number(x - np.abs(added.get(name, 0.0))) for name, x in errors.items()}
        return replace(self, values=best, theory_error=left or None, at_saddle=self.values)

    def of(self, parameters: Broadcasting) -> Solution:
        """The same solution, known to be that of these parameters and in their shape."""

        def shaped(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: shaped(x) for name, x in value.items()}
            return value.reshape(parameters.shape) if getattr(value, "ndim", 0) else value

        names = [name for name in self.__dataclass_fields__ if name not in KEPT]
        return replace(self, parameters=parameters, **{name: shaped(getattr(self, name)) for name in names})

    def point(self, *index: int) -> Solution:
        """One point of a grid, with plain numbers.

        Raises:
            IndexError: outside of the grid, or another number of indices than it has axes.
        """
        shape = np.shape(self.status)
        if len(index) != len(shape):
            raise IndexError(f"a grid of shape {shape} has {len(shape)} indices, not {len(index)}")

        def at(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: at(x) for name, x in value.items()}
            return None if value is None else np.asarray(value)[index].item()

        values = {name: at(getattr(self, name)) for name in self.__dataclass_fields__ if name not in (*KEPT, "status")}
        here = self.parameters if self.parameters is NOWHERE else self.parameters.point(*index)
        status = Status(int(np.asarray(self.status)[index]))
        if self.next_order_status is not None:
            values["next_order_status"] = NextOrderStatus(values["next_order_status"])
        return Solution(level=self.level, status=status, parameters=here, draws=self.draws, prior=self.prior, **values)

    def or_raise(self) -> Solution:
        """This solution if every point converged.

        Raises:
            SolveError: with the number of failed points and the status of the first.
        """
        failed = np.flatnonzero(~np.atleast_1d(self.converged))
        if failed.size:
            first = Status(int(np.ravel(self.status)[failed[0]]))
            where = "" if np.ndim(self.status) == 0 else f" ({failed.size} of {np.size(self.status)} points)"
            raise SolveError(f"the {self.level} solve ended with status {first.name.lower()}{where}")
        return self

    @classmethod
    def mean(cls, draws: Sequence[Solution]) -> Solution:
        """The mean over task sets, with their standard deviation as spread (unknown for one); not converged where one
        of them is not, with the worst status."""
        worst = max(draws, key=lambda one: int(one.status))

        def averaged(values: Sequence[Mapping[str, Any]]) -> dict[str, float]:
            return {name: float(np.mean([one[name] for one in values])) for name in values[0]}

        best = [one.with_next_order() for one in draws]
        names = draws[0].names()
        deviations = {name: float(np.std([one.values[name] for one in best], ddof=1)) for name in names} if (
            len(draws) > 1
        ) else dict.fromkeys(names)  # fmt: skip
        known = [one.next_order_status for one in draws]
        parts: dict[str, Any] = {"next_order_status": None if None in known else max(known)}
        parts |= {
            part: averaged(each) for part in LEVEL_PARTS if None not in (each := [getattr(x, part) for x in draws])
        }
        return cls(
            level=draws[0].level,
            status=worst.status,
            residual=max(one.residual for one in draws),
            iterations=max(one.iterations for one in draws),
            values=averaged([one.values for one in draws]),
            spread=deviations,
            draws=len(draws),
            **parts,
        )

    @classmethod
    def stack(cls, points: Sequence[Solution], parameters: Broadcasting) -> Solution:
        """Solutions of the points of a grid, the last axis fastest, as one.

        Raises:
            ParameterError: a grid without a point.
        """
        if not points:
            raise ParameterError("point", f"grid of shape {parameters.shape}", "must have at least one point")
        shape = parameters.shape
        if not shape:
            return points[0].of(parameters)
        first = points[0]

        def joined(values: Sequence[Any]) -> Any:
            if isinstance(values[0], Mapping):
                return {name: joined([one.get(name) for one in values]) for name in values[0]}
            return None if any(x is None for x in values) else np.array(values).reshape(shape)

        names = [name for name in cls.__dataclass_fields__ if name not in KEPT]
        columns = {name: joined([getattr(one, name) for one in points]) for name in names}
        columns["status"] = columns["status"].astype(np.int8)
        return cls(level=first.level, draws=first.draws, parameters=parameters, prior=first.prior, **columns)


def _shown_part(value: Any, sign: str) -> str:
    if value == "":
        return ""
    return "unknown" if value is None else "absent" if value != value else f"{value:{sign}.3g}"


def _number(value: Any) -> Any:
    return value if np.ndim(value) else float(value)


def solution_of(
    level: str, status: Any, residual: Any, iterations: Any, values: dict[str, Any], shape: Any
) -> Solution:
    """Assemble a solution: failed points become NaN, arrays take `shape`, one point becomes plain numbers.

    Args:
        values: observables at the saddle point, and the parts of LEVEL_PARTS by their names.
    """
    status = np.broadcast_to(np.asarray(status), shape)
    good = status == Status.CONVERGED

    def shaped(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: shaped(x) for name, x in value.items()}
        array = np.where(good, np.broadcast_to(value, shape), np.nan)
        return array if shape else float(array)

    parts = {name: shaped(values[name]) for name in LEVEL_PARTS if name in values}
    if "next_order_status" in values:
        known = np.broadcast_to(values.pop("next_order_status"), shape).astype(np.int8)
        parts["next_order_status"] = known if shape else NextOrderStatus(int(known))
    return Solution(
        level=level,
        status=status.astype(np.int8) if shape else Status(int(status)),
        residual=np.array(np.broadcast_to(residual, shape)) if shape else float(np.asarray(residual)),
        iterations=np.array(np.broadcast_to(iterations, shape)) if shape else int(np.asarray(iterations)),
        values={name: shaped(value) for name, value in values.items() if name not in LEVEL_PARTS},
        **parts,
    )
