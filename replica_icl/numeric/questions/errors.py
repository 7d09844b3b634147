"""Errors and order parameters at a point or on a grid: what `solve` answers where no option asks anything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.numeric.levels import Level, level_of
from replica_icl.numeric.levels.points import point_of
from replica_icl.options import CONTEXTS
from replica_icl.priors import refuse_penalties
from replica_icl.setting import Setting

FINITE = ("finite-size", "given-tasks")
"""Levels whose solution scores test contexts of any length: they know u, the last row's share of the weights."""


class Errors:
    """Errors and order parameters at a point or on a grid."""

    name = "errors"
    label = "errors and order parameters"
    asked_by: tuple[str, ...] = ()

    def finds(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ()

    def level(self, known: Mapping[str, Any], name: str | None, options: Mapping[str, Any]) -> Level:
        return level_of(known, name, options)

    def options_at(self, level: Level) -> tuple[str, ...]:
        own = tuple(CONTEXTS) * (level.name in FINITE) + ("spread",) * (level.name == "finite-size")
        return (*level.options, *own)

    def ask(self, known: Mapping[str, Any], level: Level, *, model: Any = None, **options: Any) -> Any:
        return self.of_point(point_of(known), level, model=model, **options)

    def of_point(self, point: Any, level: Level, *, model: Any = None, **options: Any) -> Any:
        """The same for a `Setting` or `Ratios`."""
        contexts = {name: options.pop(name) for name in CONTEXTS if name in options}
        spread = options.pop("spread", False)
        level.check(point, options)
        if spread and isinstance(point, Setting):
            refuse_penalties(point, "with spread")
        if spread and "prior" in options:
            raise ParameterError("spread", True, "must not be given with a prior: it is derived for the ridge")
        if spread:
            _check_spread(point)
        solution = replace(level.solve(point, model=model, **options).with_next_order(), prior=options.get("prior"))
        if contexts:
            from replica_icl.numeric.questions.transfer import transfer_error

            found = transfer_error(point, solution, **{name.removeprefix("test_"): x for name, x in contexts.items()},
                                   model=model)  # fmt: skip
            solution = replace(solution, values={**solution.values, "e_icl_test": found})
        if spread:
            from replica_icl.numeric.questions.sample_spread import sample_spread

            found = sample_spread(list(point.points()), model=model)
            shaped = {name: x.reshape(point.shape)[()] for name, x in found.items()}
            solution = replace(solution, spread={name: x if point.shape else float(x) for name, x in shaped.items()})
        return solution


def _check_spread(grid: Setting) -> None:
    for one in grid.points():
        if one.ridge == 0 and one.P < one.acting_weights:
            raise ParameterError("ridge", 0.0, "must be positive below P = D (D + 1) to ask for the spread")
