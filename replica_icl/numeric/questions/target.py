"""The smallest size that reaches a target error, or the floor that makes it impossible.

e_icl does not fall monotonically: few tasks make it rise with N, and at a small ridge it peaks near P = D (D + 1). So
a parameter is scanned over its whole range first, the first crossing of the scan is taken, and then refined. What is
guaranteed of the value n that is found, with e_icl as `solve` gives it at the tolerance that is asked for:

* n reaches the target and n - 1 does not (for ratios: n (1 - 1e-12) does not);
* no value of the scan below n reaches it, and no minimum between its values that their second difference lets expect.

A value without a solution, e.g. P = D (D + 1) without a ridge, counts as one that does not reach the target.

The scan holds every small integer and is geometric above, with steps below the factors over which e_icl changes: it is
a smooth function of log P, log N and log K but for the peak, which can hide no value that is lower.

The floor is the least e_icl over the range. Its upper end stands for infinity: e_icl approaches the limit of many
prompts like 1/P (the ridge solution of the exact average energy), that of long contexts like D/N (no more noise in c~)
and that of diverse tasks like D/K (fresh tasks), so that 1e15 (ratios: 1e12) is there to all digits that are given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import Model
from replica_icl.numeric.solution import Solution
from replica_icl.numeric.solve import solve
from replica_icl.ratios import Ratios
from replica_icl.setting import LARGEST_SIZE, Setting, check_real

Array = NDArray[np.floating[Any]]

SIZES = ("P", "N", "K")
RATIOS = ("alpha", "nu", "kappa")
SMALLEST_RATIO, LARGEST_RATIO = 1e-6, 1e12
RATIO_STEP = 1e-12
"""Relative width to which a ratio is refined."""
COARSE = 1e-3
"""Tolerance of the scan. Values within three times as much of the target are solved again at the full tolerance."""


@dataclass(frozen=True)
class Reached:
    """The smallest value of a parameter at which e_icl is at most the target.

    Attributes:
        parameter: which one: P, N, K, alpha, nu or kappa.
        value: its smallest value, an integer for the sizes.
        target: the error that was asked for.
        floor: least e_icl over the whole range of the parameter, at the rest of the setting.
        solution: the theory at the value.
    """

    parameter: str
    value: int | float
    target: float
    floor: float
    solution: Solution

    def to_dict(self) -> dict[str, Any]:
        """The value under its parameter's name, target and floor, then the keys of the solution."""
        head = {self.parameter: self.value, "target_error": self.target, "floor": self.floor}
        return head | self.solution.to_dict()


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


def _integers(least: int, largest: int, dense: float, step: float) -> Array:
    """Integers from least to largest, geometric in `step` up to `dense` and in factors of 100 above."""
    top = min(max(dense, 10.0 * least), float(largest))
    count = max(2, int(np.ceil(np.log(top / least) / np.log(step))) + 1)
    tail = np.geomspace(top, largest, 1 + int(np.ceil(np.log(largest / top) / np.log(100))))
    return np.unique(np.round(np.concatenate([np.geomspace(least, top, count), tail])))


def _least(axis: Axis, target: float, parameter: str, unbounded: bool) -> tuple[float, float]:
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


def smallest_size(
    setting: Setting,
    target: float,
    parameter: str,
    level: str | None = None,
    tolerance: float = 1e-7,
    model: Model | None = None,
) -> Reached:
    """The smallest P, N or K with e_icl <= target at everything else of `setting` (its own value is not used).

    Args:
        setting: the experiment. Without a ridge, unless minimum_norm is set, P starts above D (D + 1).
        target: e_icl to be reached.
        parameter: "P", "N" or "K" (which ends at P, where every prompt may have its own task).
        level: "finite-size" or "limit" (the ratios of integers); with K the limit, otherwise finite-size.
        tolerance: relative accuracy of the finite-size prompt averages.
        model: lowered theories; by default the package's own.

    Returns:
        `Reached`; where even the smallest size reaches the target, that size.

    Raises:
        ParameterError: for a parameter or level that this cannot answer, or a target below the floor, which is named.
    """
    wanted = check_real("target_error", target, positive=True)
    if parameter not in SIZES:
        raise ParameterError("for", parameter, f"must be {SIZES[0]}, {SIZES[1]} or {SIZES[2]} with raw numbers")
    diverse = parameter == "K" or setting.K is not None
    level = level or ("limit" if diverse else "finite-size")
    if level not in ("finite-size", "limit"):
        raise ParameterError("level", level, "must be finite-size or limit to find what reaches an error")
    if diverse and level == "finite-size":
        raise ParameterError("level", level, "must be limit to find what reaches an error with K tasks")
    D, unique = setting.D, setting.ridge > 0 or setting.minimum_norm
    dense = 1e3 * D
    if parameter == "P":
        least, largest = max(setting.K or 1, 1 if unique else setting.acting_weights + 1), LARGEST_SIZE
        dense *= D
    else:
        least, largest = (2, LARGEST_SIZE) if parameter == "N" else (1, setting.P)
    costly = parameter == "N" and level == "finite-size"  # every N has a prompt law of its own

    def at(value: float) -> Setting:
        sizes: dict[str, Any] = {parameter: int(value)}
        return replace(setting, **sizes)

    def solved(values: Array, accuracy: float) -> Solution:
        return solve([at(x) for x in values], level=level, tolerance=accuracy, throw=False, model=model)

    grid = _integers(least, largest, dense, 1.2 if costly else 1.1)
    axis = Axis(grid, solved, integer=True, sections=3 if costly else 15, tolerance=tolerance)
    value, floor = _least(axis, wanted, parameter, unbounded=parameter != "K")
    solution = solve(at(value), level=level, tolerance=tolerance, model=model)
    return Reached(parameter, int(value), wanted, floor, solution)


def smallest_ratio(point: Ratios, target: float, parameter: str, model: Model | None = None) -> Reached:
    """The smallest alpha, nu or kappa with e_icl <= target in the limit, at the rest of one `point`.

    The range is 1e-6 to 1e12; without a ridge, unless minimum_norm is set, alpha starts at its transition, 1.

    Raises:
        ParameterError: for an unknown parameter, a grid of points, or a target below the floor, which is named.
    """
    wanted = check_real("target_error", target, positive=True)
    if parameter not in RATIOS:
        raise ParameterError("for", parameter, f"must be {RATIOS[0]}, {RATIOS[1]} or {RATIOS[2]} with ratios")
    if point.shape:
        raise ParameterError("alpha", f"grid of shape {point.shape}", "must be one point to find what reaches an error")
    transition = parameter == "alpha" and point.lam == 0 and not point.minimum_norm
    least = 1.0 if transition else SMALLEST_RATIO
    count = int(np.ceil(np.log(LARGEST_RATIO / least) / np.log(1.05)))

    def at(value: Any) -> Ratios:
        ratio: dict[str, Any] = {parameter: value}
        return replace(point, **ratio)

    def solved(values: Array, _: float) -> Solution:
        return solve(at(values), throw=False, model=model)

    axis = Axis(np.geomspace(least, LARGEST_RATIO, count), solved, integer=False)
    value, floor = _least(axis, wanted, parameter, unbounded=True)
    return Reached(parameter, float(value), wanted, floor, solve(at(value), model=model))
