"""The ridge of least error on new tasks, at any level of theory.

The error may have several minima, so the whole range is scanned first, in steps below those over which the error
changes. Around the lowest value the range is then narrowed, many ridges at once: all of them have the same law of
prompts, which costs more than the ridges do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replica_icl.errors import ParameterError
from replica_icl.numeric.levels import Level, level_of, refuse_idle_at
from replica_icl.numeric.levels.points import known_of, point_of
from replica_icl.numeric.questions.errors import FINITE, Errors
from replica_icl.options import CONTEXTS, given
from replica_icl.parameter import check_real
from replica_icl.parameters import Broadcasting

if TYPE_CHECKING:
    from replica_icl.numeric.solution import Solution


@dataclass(frozen=True)
class OptimalRidge:
    """The ridge of least error on new tasks.

    Attributes:
        parameter: "ridge" (lambda_0), or "lam" (lambda_0 D) where ratios were given.
        value: where the error is least.
        solution: the theory at it.
        test_error: error at it, on the test contexts that were asked for.
        interior: False when the error still falls at an end of the range that was searched.
    """

    parameter: str
    value: float
    solution: Solution
    test_error: float
    interior: bool

    @property
    def ridge(self) -> float:
        """The best ridge, or lam where ratios were given."""
        return self.value

    @property
    def converged(self) -> bool:
        """Always: a search without a solved point is an error."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the ridge, whether it is inside of the range, the error, then the keys of the solution."""
        head = {f"optimal_{self.parameter}": self.value, "interior": self.interior, "e_icl_test": self.test_error}
        return {**self.solution.to_dict(), **head}

    def table(self) -> str:
        """Text: the ridge and the error, then the solution."""
        where = "" if self.interior else " (the error still falls at this end of the range)"
        head = f"optimal {self.parameter} {self.value:.10g}{where}, error on test prompts {self.test_error:.10g}"
        return f"{head}\n{self.solution.table()}"


class BestRidge:
    """The ridge of least error on new tasks, as a question."""

    name = "optimal-ridge"
    label = "the ridge of least error"
    asked_by: tuple[str, ...] = ("optimal_ridge",)

    def finds(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("ridge", "lam")

    def level(self, known: Mapping[str, Any], name: str | None, options: Mapping[str, Any]) -> Level:
        return level_of(known, name, options)

    def options_at(self, level: Level) -> tuple[str, ...]:
        return (*level.options, *tuple(CONTEXTS) * (level.name in FINITE), *self.asked_by)

    def ask(self, known: Mapping[str, Any], level: Level, *, model: Any = None, **options: Any) -> OptimalRidge:
        return optimal_ridge(
            known, level.name, model=model, **{name: x for name, x in options.items() if name not in self.asked_by}
        )


def optimal_ridge(
    point: Broadcasting | Mapping[str, Any],
    level: str | None = None,
    *,
    lowest: float = 1e-8,
    highest: float = 1e3,
    model: Any = None,
    **options: Any,
) -> OptimalRidge:
    """Minimise e_icl over the ridge at everything else of a point.

    Args:
        point: a `Setting` or `Ratios` whose own ridge is not used, or its parameters by name without one.
        level: as in `solve`.
        lowest, highest: range of lambda_0 (for ratios of lam).
        model: as in `solve`.
        options: as in `solve` (tolerance, test_N, test_noise; tasks, draws ...), refused where they would not act.

    Returns:
        `OptimalRidge`.

    Raises:
        ParameterError: bad input, a temperature or the minimum norm (which would not act), or a grid.
        SolveError: if no ridge in the range could be solved.
    """
    low, high = check_real("lowest", lowest, positive=True), check_real("highest", highest, positive=True)
    if low >= high:
        raise ParameterError("lowest", lowest, f"must be below highest, {highest:g}")
    known = known_of(point)
    parameter = "ridge" if "D" in known else "lam"
    own = None if isinstance(point, Mapping) else known.pop(parameter, None)
    if parameter in known:
        raise ParameterError(parameter, known[parameter], "must not be given: it is what is found")
    for name, idle in (("beta", math.inf), ("beta_tilde", math.inf), ("minimum_norm", False)):
        if own is None and known.get(name, idle) != idle:
            raise ParameterError(name, known[name], "must not be given with the best ridge: it would not act")
        known.pop(name, None)
    acting, question = given(options), Errors()
    chosen = level_of(known, level, acting)
    refuse_idle_at(chosen, acting, BestRidge().options_at, " with the best ridge")
    test = "e_icl_test" if any(name in acting for name in CONTEXTS) else "e_icl"
    first = point_of({**known, parameter: high})
    if first.shape:
        raise ParameterError("point", f"grid of shape {first.shape}", "must be one point to find its best ridge")
    chosen.check(first, {name: x for name, x in acting.items() if name not in CONTEXTS})

    import numpy as np

    from replica_icl.numeric.questions.search import least

    def solved(values: Any) -> Solution:
        return question.of_point(point_of({**known, parameter: values}), chosen, model=model, **acting)

    def errors(logs: Any) -> Any:
        found = solved(np.exp(logs))
        return np.where(found.converged, found[test], np.nan)

    log, interior = least(errors, math.log(low), math.log(high))
    value = math.exp(log)
    solution = solved(value).or_raise()
    return OptimalRidge(parameter, value, solution, float(solution[test]), interior)
