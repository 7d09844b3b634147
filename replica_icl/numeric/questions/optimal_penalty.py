"""The penalty of least error on new tasks, at any level of theory: the ridge, another one, or one of your own prior.

The error may have several minima, so the whole range is scanned first, in steps below those over which the error
changes. Around the lowest value the range is then narrowed, many penalties at once: all of them have the same law of
prompts, which costs more than the penalties do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replica_icl.errors import ParameterError
from replica_icl.numeric.levels import Level, level_of, refuse_idle_at
from replica_icl.numeric.levels.points import known_of, point_of
from replica_icl.numeric.questions.errors import FINITE, Errors
from replica_icl.options import CONTEXTS, given
from replica_icl.parameter import check_real
from replica_icl.parameters import Broadcasting
from replica_icl.priors import PENALTIES, Prior
from replica_icl.setting import Setting

if TYPE_CHECKING:
    from replica_icl.numeric.solution import Solution

RIDGES = ("ridge", "lam")
"""Names of the ridge."""
RIDGE_RANGE, PENALTY_RANGE = (1e-8, 1e3), (1e-6, 10.0)
"""What is searched by default, for the ridge and for other penalties: at 1/D all weights are about to vanish, and where
off-diagonal weights matter the best one is of order D^(-3/2)."""

SCAN_TOLERANCE = 1e-3
"""Accuracy of averages with which the whole range of a penalty is scanned: tiny ones are steep, and not the best."""

Family = Callable[[Any], Prior]
"""Penalties, an array, to a prior with them."""


@dataclass(frozen=True)
class OptimalPenalty:
    """The penalty of least error on new tasks.

    Attributes:
        parameter: "ridge" (lambda_0), "lam" (lambda_0 D) where ratios were given, the name of another penalty, or
            "penalty" of a family.
        value: where the error is least.
        solution: the theory at it.
        test_error: error at it, on the test contexts that were asked for.
        interior: False when no error inside of the range that was searched is below those at its ends.
    """

    parameter: str
    value: float
    solution: Solution
    test_error: float
    interior: bool

    @property
    def converged(self) -> bool:
        """Always: a search without a solved point is an error."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the penalty, whether it is inside of the range, the error, then the keys of the solution."""
        head = {f"optimal_{self.parameter}": self.value, "interior": self.interior, "e_icl_test": self.test_error}
        return {**self.solution.to_dict(), **head}

    def table(self) -> str:
        """Text: the penalty and the error, then the solution."""
        where = "" if self.interior else " (an end of the range; no error inside is smaller)"
        head = f"optimal {self.parameter} {self.value:.10g}{where}, error on test prompts {self.test_error:.10g}"
        return f"{head}\n{self.solution.table()}"


class BestPenalty:
    """The penalty of least error on new tasks, as a question.

    Attributes:
        penalty: "ridge", or one beside it.
    """

    def __init__(self, penalty: str) -> None:
        self.penalty = penalty
        self.name = f"optimal-{penalty}"
        self.label = f"the {penalty} of least error"
        self.asked_by: tuple[str, ...] = (f"optimal_{penalty}",)

    def finds(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return RIDGES if self.penalty == "ridge" else (self.penalty,)

    def level(self, known: Mapping[str, Any], name: str | None, options: Mapping[str, Any]) -> Level:
        chosen = level_of(known, name, options)
        if self.penalty != "ridge":
            if "D" not in known:
                raise ParameterError(self.asked_by[0], True, "must be given with raw numbers: it has a scale in D")
            if "prior" not in chosen.options:
                advice = f"must be finite-size or limit with {self.name}: under a prior the theory has fresh tasks"
                raise ParameterError("level", chosen.name, advice)
        return chosen

    def options_at(self, level: Level) -> tuple[str, ...]:
        return (*_acting_at(level, self.penalty), *self.asked_by)

    def ask(self, known: Mapping[str, Any], level: Level, *, model: Any = None, **options: Any) -> OptimalPenalty:
        own = {name: x for name, x in options.items() if name not in self.asked_by}
        return optimal_penalty(known, self.penalty, level.name, model=model, **own)


def optimal_ridge(point: Broadcasting | Mapping[str, Any], level: str | None = None, **how: Any) -> OptimalPenalty:
    """The ridge of least e_icl, beside the penalties of the point if it has any; as `optimal_penalty`."""
    return optimal_penalty(point, "ridge", level, **how)


def optimal_penalty(
    point: Broadcasting | Mapping[str, Any],
    penalty: str | Family,
    level: str | None = None,
    *,
    lowest: float | None = None,
    highest: float | None = None,
    model: Any = None,
    **options: Any,
) -> OptimalPenalty:
    """Minimise e_icl over one penalty at everything else of a point.

    Args:
        point: a `Setting` or `Ratios` whose own value of the penalty is not used, or its parameters by name without
            it; beside another penalty no ridge is a ridge of zero.
        penalty: "ridge", a penalty beside it ("l1"), or of a prior of your own a family with one parameter:
            `lambda x: Huber(l1=x, width=0.05)`, called with arrays.
        level: as in `solve`.
        lowest, highest: range that is searched; by default from 1e-8 to 1e3 for the ridge (for ratios lam), and from
            1e-6 to 10 for other penalties.
        model: as in `solve`.
        options: as in `solve` (tolerance, test_N, test_noise; tasks, draws ...), refused where they would not act.

    Returns:
        `OptimalPenalty`.

    Raises:
        ParameterError: bad input, a temperature or the minimum norm (which would not act), or a grid.
        SolveError: if no penalty in the range could be solved.
    """
    known, family = known_of(point), penalty if callable(penalty) else None
    parameter = _parameter(penalty, known)
    low, high = (
        check_real(name, default if value is None else value, positive=True)
        for name, value, default in zip(
            ("lowest", "highest"), (lowest, highest), RIDGE_RANGE if parameter in RIDGES else PENALTY_RANGE, strict=True
        )
    )
    if low >= high:
        raise ParameterError("lowest", low, f"must be below highest, {high:g}")
    own = None if isinstance(point, Mapping) else known.pop(parameter, None)
    if parameter in known:
        raise ParameterError(parameter, known[parameter], "must not be given: it is what is found")
    if family is None:
        _drop_idle(known, refused=own is None)
    acting, question = given(options), Errors()
    chosen = level_of(known, level, acting)
    refuse_idle_at(chosen, acting, lambda level: _acting_at(level, parameter), f" with the best {parameter}")
    test = "e_icl_test" if any(name in acting for name in CONTEXTS) else "e_icl"

    coarse = dict(acting)
    if parameter not in RIDGES and "tolerance" in chosen.options:
        coarse["tolerance"] = max(SCAN_TOLERANCE, acting.get("tolerance", 0.0))

    def posed(values: Any, acting: dict[str, Any] = acting) -> tuple[Any, dict[str, Any]]:
        """A point, or a grid along `values`, and the options that solve it."""
        if family is None:
            return point_of({**known, parameter: values}), acting
        points: list[Any] = [point_of(known)] * len(values)
        return Setting.stack(points), {**acting, "prior": _of_family(family, values)}

    import numpy as np

    first = point_of(known if family else {**known, parameter: high})
    if first.shape:
        raise ParameterError("point", f"grid of shape {first.shape}", f"must be one point to find its best {parameter}")
    grid, taken = posed(np.array([high]))
    chosen.check(grid, {name: x for name, x in taken.items() if name not in CONTEXTS})

    from replica_icl.numeric.questions.search import least

    def solved(values: Any, acting: dict[str, Any] = acting) -> Solution:
        at, how = posed(values, acting)
        return question.of_point(at, chosen, model=model, **how)

    def errors(logs: Any, acting: dict[str, Any] = acting) -> Any:
        found = solved(np.exp(logs), acting)
        return np.where(found.converged, found[test], np.nan)

    log, interior = least(errors, math.log(low), math.log(high), lambda logs: errors(logs, coarse))
    value = math.exp(log)
    solution = (solved(value) if family is None else solved(np.array([value])).point(0)).or_raise()
    return OptimalPenalty(parameter, value, solution, float(solution[test]), interior)


def _acting_at(level: Level, parameter: str) -> tuple[str, ...]:
    """Names of the options that act on the search; a prior of one's own beside the ridge alone, as anywhere."""
    taken = (name for name in level.options if name != "prior" or parameter in RIDGES)
    return (*taken, *tuple(CONTEXTS) * (level.name in FINITE))


def _parameter(penalty: str | Family, known: Mapping[str, Any]) -> str:
    """The name of what is found."""
    sized = "D" in known
    if callable(penalty):
        if not sized:
            raise ParameterError("penalty", penalty, "must be ridge with ratios: a prior has a scale in D")
        return "penalty"
    if penalty == "ridge":
        return "ridge" if sized else "lam"
    if penalty not in PENALTIES:
        names = ", ".join(("ridge", *PENALTIES))
        raise ParameterError("penalty", penalty, f"must be one of {names}, or a function from penalties to a prior")
    if not sized:
        raise ParameterError("penalty", penalty, "must be ridge with ratios: others have a scale in D")
    return penalty


def _drop_idle(known: dict[str, Any], refused: bool) -> None:
    """Drop temperature and minimum norm, which would not act, or refuse those that were given with intent."""
    for name, idle in (("beta", math.inf), ("beta_tilde", math.inf), ("minimum_norm", False)):
        if refused and known.get(name, idle) != idle:
            raise ParameterError(name, known[name], "must not be given with the best penalty: it would not act")
        known.pop(name, None)


def _of_family(family: Family, values: Any) -> Prior:
    """The priors of penalties.

    Raises:
        ParameterError: no prior.
    """
    prior = family(values)
    if not isinstance(prior, Prior):
        raise ParameterError("penalty", prior, "must be a function from an array of penalties to a prior")
    return prior
