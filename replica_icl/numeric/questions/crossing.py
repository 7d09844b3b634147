"""The first value of a parameter at which a function of it reaches a target: scanned, then narrowed down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.numeric.solution import Solution

Array = NDArray[np.floating[Any]]

RATIO_STEP = 1e-12
"""Relative width to which a ratio is refined."""
COARSE = 1e-3
"""Tolerance of the scan. Values within three times as much of the target are solved again at the full tolerance."""


@dataclass(frozen=True, eq=False)
class Axis:
    """e_icl along one parameter.

    Attributes:
        grid: values to scan, rising, from the least to the largest that is allowed.
        solved: solution at an array of values, to a tolerance.
        integer: the parameter takes integers only.
        sections: how many values are solved at once to narrow a bracket down.
        tolerance: of the values that decide.
        known: e_icl of every (value, tolerance) that was solved.
    """

    grid: Array
    solved: Callable[[Array, float], Solution]
    integer: bool
    sections: int = 15
    tolerance: float = 1e-7
    known: dict[tuple[float, float], float] = field(default_factory=dict)

    def errors(self, values: Array, tolerance: float | None = None) -> Array:
        """e_icl at the full tolerance or another one, shape of `values`; infinite where there is no solution."""
        tolerance = tolerance or self.tolerance
        new = np.array([x for x in values if (x, tolerance) not in self.known])
        if new.size:
            solution = self.solved(new, tolerance)
            found = np.where(solution.converged, solution.e_icl, np.inf)
            self.known.update({(x, tolerance): float(e) for x, e in zip(new, found, strict=True)})
        return np.array([self.known[x, tolerance] for x in values])

    def near(self, values: Array, target: float) -> Array:
        """e_icl at the tolerance of the scan, and at the full one where this leaves in doubt if it reaches a target."""
        errors = self.errors(values, COARSE)
        doubtful = ~np.isfinite(errors) | (np.abs(errors - target) <= 3 * COARSE * target)
        errors[doubtful] = self.errors(values[doubtful])
        return errors

    def between(self, low: float, high: float) -> Array:
        """At most `sections` values strictly inside a bracket, none where it cannot be narrowed down."""
        if not self.integer:
            inside = np.geomspace(low, high, self.sections + 2)[1:-1]
            return inside if high > low * (1 + RATIO_STEP) else inside[:0]
        if high - low - 1 <= self.sections:
            return np.arange(low + 1, high)
        return np.unique(np.clip(np.round(np.geomspace(low, high, self.sections + 2)[1:-1]), low + 1, high - 1))

    def crossing(self, low: float, high: float, target: float) -> float:
        """First value that reaches the target in a bracket whose lower end does not and whose upper end does."""
        while (inside := self.between(low, high)).size:
            reached = np.append(self.near(inside, target) <= target, True)
            first = int(np.argmax(reached))
            low, high = np.array([low, *inside, high])[[first, first + 1]]
        return high

    def lowest(self, index: int) -> float:
        """Where e_icl is least around a minimum of the grid."""
        low, high = self.neighbours(index)
        while True:
            values = np.array([low, *self.between(low, high), high])
            best = int(np.argmin(self.errors(values)))
            narrower = values[max(best - 1, 0)], values[min(best + 1, values.size - 1)]
            flat = not self.integer and narrower[1] < narrower[0] * (1 + 1e-7)
            if narrower == (low, high) or flat:
                return float(values[best])
            low, high = narrower

    def neighbours(self, index: int) -> tuple[float, float]:
        return float(self.grid[max(index - 1, 0)]), float(self.grid[min(index + 1, self.grid.size - 1)])

    def floor(self) -> tuple[float, float]:
        """The least e_icl, and where it is: the upper end of the range if that is as low to the tolerance."""
        errors = self.errors(self.grid, COARSE)
        least = np.flatnonzero(errors <= np.min(errors) * (1 + 3 * COARSE))
        exact = self.errors(self.grid[least])
        end = self.errors(self.grid[-1:])[0]
        if end <= np.min(exact) * (1 + self.tolerance):
            return float(end), float(self.grid[-1])
        at = self.lowest(int(least[np.argmin(exact)]))
        return float(self.errors(np.array([at]))[0]), at

    def first(self, target: float) -> float | None:
        """The first value that reaches the target, None if none does."""
        errors = self.near(self.grid, target)
        for i, error in enumerate(errors):
            low, _ = self.neighbours(i)
            if error <= target:
                return self.crossing(low, float(self.grid[i]), target) if i else float(self.grid[0])
            if _may_dip(errors, i, target):
                bottom = self.lowest(i)
                if self.errors(np.array([bottom]))[0] <= target:
                    return self.crossing(low, bottom, target)
        return None


def _may_dip(errors: Array, i: int, target: float) -> bool:
    """Whether e_icl may fall to the target between grid points around i, where the grid has a minimum.

    A parabola through three points is lower than the middle one by at most an eighth of the second difference.
    Four times as much is allowed.
    """
    if not 0 < i < errors.size - 1 or errors[i] > min(errors[i - 1], errors[i + 1]) or np.isinf(errors[i]):
        return False
    return bool(errors[i] - (errors[i - 1] + errors[i + 1] - 2 * errors[i]) / 2 <= target)


def integers(least: int, largest: int, dense: float, step: float) -> Array:
    """Integers from least to largest, geometric in `step` up to `dense` and in factors of 100 above."""
    top = min(max(dense, 10.0 * least), float(largest))
    count = max(2, int(np.ceil(np.log(top / least) / np.log(step))) + 1)
    tail = np.geomspace(top, largest, 1 + int(np.ceil(np.log(largest / top) / np.log(100))))
    return np.unique(np.round(np.concatenate([np.geomspace(least, top, count), tail])))


def least_value(axis: Axis, target: float, parameter: str, unbounded: bool) -> tuple[float, float]:
    """The smallest value that reaches the target, and the floor.

    Raises:
        ParameterError: for a target below the floor.
        SolveError: if no value could be solved.
    """
    if np.isinf(axis.errors(axis.grid, COARSE)).all():
        axis.solved(axis.grid[-1:], COARSE).or_raise()
    floor, at = axis.floor()
    value = replace(axis, grid=np.union1d(axis.grid, at)).first(target)
    if value is None:
        shown = int(at) if axis.integer else f"{at:.6g}"
        where = f"approached as {parameter} grows" if unbounded and at == axis.grid[-1] else f"at {parameter} = {shown}"
        allowed = f"must be at least the floor {floor!r}, the least e_icl over {parameter} at the rest of the setting"
        raise ParameterError("target_error", target, f"{allowed} ({where})")
    return value, floor
