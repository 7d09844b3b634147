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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replica_icl.errors import ParameterError
from replica_icl.numeric.levels import Level, level_of
from replica_icl.numeric.levels.points import known_of, point_of
from replica_icl.numeric.questions.errors import Errors
from replica_icl.parameter import LARGEST_SIZE, check_real
from replica_icl.parameters import Broadcasting
from replica_icl.priors import prior_of
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting

if TYPE_CHECKING:
    from replica_icl.numeric.questions.crossing import Axis
    from replica_icl.numeric.solution import Solution

SOUGHT_SIZES = ("P", "N", "K")
SOUGHT_RATIOS = ("alpha", "nu", "kappa")
SMALLEST_RATIO, LARGEST_RATIO = 1e-6, 1e12


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

    @property
    def converged(self) -> bool:
        """Always: a search without a solved point is an error."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """The value under its parameter's name, target and floor, then the keys of the solution."""
        head = {self.parameter: self.value, "target_error": self.target, "floor": self.floor}
        return head | self.solution.to_dict()

    def table(self) -> str:
        """Text: the value, the floor, then the solution."""
        head = f"{self.parameter} = {self.value!r} reaches e_icl {self.target:.10g} (its floor is {self.floor:.10g})"
        return f"{head}\n{self.solution.table()}"


class SmallestSize:
    """The smallest value of a parameter that reaches an error."""

    name = "target-error"
    label = "the smallest value that reaches an error"
    asked_by: tuple[str, ...] = ("target_error", "sought")

    def finds(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return (options["sought"],) if "sought" in options else ()

    def level(self, known: Mapping[str, Any], name: str | None, options: Mapping[str, Any]) -> Level:
        return level_of_search(known, name, options.get("sought", ""))

    def options_at(self, level: Level) -> tuple[str, ...]:
        return (*level.options, *self.asked_by)

    def ask(self, known: Mapping[str, Any], level: Level, *, model: Any = None, **options: Any) -> Any:
        for name, other in (("sought", "target_error"), ("target_error", "sought")):
            if name not in options:
                raise ParameterError(other, options[other], f"must be given with --{name.replace('_', '-')}")
        return smallest_value(known, level=level.name, model=model, **options)


def smallest_value(
    point: Broadcasting | Mapping[str, Any],
    target_error: float,
    sought: str,
    *,
    level: str | None = None,
    tolerance: float = 1e-7,
    prior: Any = None,
    model: Any = None,
) -> Reached:
    """The smallest P, N, K, alpha, nu or kappa with e_icl <= target_error at everything else of a point.

    Args:
        point: a `Setting` or `Ratios` whose own value of what is sought is not used, or its parameters by name.
            Without a ridge, unless minimum_norm is set, P starts above D (D + 1), and alpha at its transition, 1.
        target_error: e_icl to be reached.
        sought: "P", "N" or "K" (which ends at P, where every prompt may have its own task) for raw numbers, "alpha",
            "nu" or "kappa" (1e-6 to 1e12) for ratios.
        level: "finite-size" or "limit" (for raw numbers the ratios of integers); with K the limit, otherwise
            finite-size; ratios have the limit alone.
        tolerance: relative accuracy of the finite-size prompt averages.
        prior, model: as in `solve`.

    Returns:
        `Reached`; where even the smallest value reaches the target, that value.

    Raises:
        ParameterError: for a parameter or level that this cannot answer, or a target below the floor, which is named.
        SolveError: if no value could be solved.
    """
    wanted = check_real("target_error", target_error, positive=True)
    known = known_of(point)
    raw = "D" in known
    if sought not in (SOUGHT_SIZES if raw else SOUGHT_RATIOS):
        kind = "raw numbers" if raw else "ratios"
        raise ParameterError("for", sought, f"must be {', '.join(SOUGHT_SIZES if raw else SOUGHT_RATIOS)} with {kind}")
    if isinstance(point, Mapping) and sought in known:
        raise ParameterError(sought, known[sought], "must not be given: it is what is found")
    known.pop(sought, None)
    one = point_of({**known, sought: _stand_in(sought, known)})
    if one.shape:
        raise ParameterError("point", f"grid of shape {one.shape}", "must be one point to find what reaches an error")
    chosen = level_of_search(known, level, sought)

    from replica_icl.numeric.questions.crossing import least_value

    def solved(values: Any, accuracy: float) -> Solution:
        at = point_of({**known, sought: values})
        options: dict[str, Any] = {"tolerance": accuracy} if "tolerance" in chosen.options else {}
        options |= {} if prior is None else {"prior": prior}
        return Errors().of_point(at, chosen, model=model, **options)

    if isinstance(one, Setting):
        axis = _sizes(one, sought, chosen.name, solved, tolerance)
    else:
        axis = _ratios(one, sought, solved)
    value, floor = least_value(axis, wanted, sought, unbounded=sought != "K")
    exact = int(value) if raw else float(value)
    return Reached(sought, exact, wanted, floor, solved(exact, tolerance).or_raise())


def _stand_in(sought: str, known: Mapping[str, Any]) -> Any:
    """A value with which the rest of the parameters can be checked: a large one that everything allows."""
    if sought == "K":
        return 1
    return LARGEST_SIZE if sought in SOUGHT_SIZES else LARGEST_RATIO


def level_of_search(known: Mapping[str, Any], name: str | None, sought: str) -> Level:
    """The level at which a value is sought: the limit for ratios and with K tasks, otherwise finite size.

    Raises:
        ParameterError: a level that cannot answer.
    """
    diverse = sought == "K" or "K" in known
    chosen = level_of(known, name or ("limit" if diverse or "D" not in known else "finite-size"), {})
    if chosen.name not in ("finite-size", "limit"):
        raise ParameterError("level", name, "must be finite-size or limit to find what reaches an error")
    if diverse and chosen.name == "finite-size":
        raise ParameterError("level", name, "must be limit to find what reaches an error with K tasks")
    return chosen


def _sizes(one: Setting, sought: str, level: str, solved: Callable[[Any, float], Solution], tolerance: float) -> Axis:
    """The axis of P, N or K."""
    unique = one.ridge > 0 or one.minimum_norm or prior_of(one) is not None
    dense = 1e3 * one.D
    if sought == "P":
        least, largest = max(one.K or 1, 1 if unique else one.acting_weights + 1), LARGEST_SIZE
        dense *= one.D
    else:
        least, largest = (2, LARGEST_SIZE) if sought == "N" else (1, one.P)
    costly = sought == "N" and level == "finite-size"  # every N has a prompt law of its own

    import numpy as np

    from replica_icl.numeric.questions.crossing import Axis, integers

    grid = integers(least, largest, dense, 1.2 if costly else 1.1)

    def at(values: Any, accuracy: float) -> Solution:
        return solved(values.astype(np.int64), accuracy)

    return Axis(grid, at, integer=True, sections=3 if costly else 15, tolerance=tolerance)


def _ratios(one: Ratios, sought: str, solved: Callable[[Any, float], Solution]) -> Axis:
    """The axis of alpha, nu or kappa."""
    transition = sought == "alpha" and one.lam == 0 and not one.minimum_norm
    least = 1.0 if transition else SMALLEST_RATIO

    import numpy as np

    from replica_icl.numeric.questions.crossing import Axis

    count = int(np.ceil(np.log(LARGEST_RATIO / least) / np.log(1.05)))
    return Axis(np.geomspace(least, LARGEST_RATIO, count), solved, integer=False)
