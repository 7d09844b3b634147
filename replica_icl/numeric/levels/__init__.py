"""The levels of theory: how exactly a point is solved. One object each, found by name in one registry.

What a level says of itself (name, options, what it accepts, its bias) needs no NumPy, so that wrong usage is refused
at once; its solver is imported when it solves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.numeric.levels.finite_size import FiniteSize
from replica_icl.numeric.levels.given_tasks import GivenTasks
from replica_icl.numeric.levels.limit import Limit
from replica_icl.numeric.levels.protocol import Level
from replica_icl.options import refuse_idle

LEVELS: dict[str, Level] = {level.name: level for level in (FiniteSize(), Limit(), GivenTasks())}
"""Name -> level. A level defined elsewhere is added with `register`."""


def register(level: Level) -> None:
    """Make a level known by its name to `solve`, `validate`, sweeps and the command line.

    Raises:
        ParameterError: another level has that name.
    """
    if level.name in LEVELS and LEVELS[level.name] is not level:
        raise ParameterError("level", level.name, "must be a name that no other level has")
    LEVELS[level.name] = level


def level_named(name: Any) -> Level:
    """The level of a name.

    Raises:
        ParameterError: no such level.
    """
    if not isinstance(name, str) or name not in LEVELS:
        raise ParameterError("level", name, f"must be one of {', '.join(LEVELS)}")
    return LEVELS[name]


def level_of(known: Mapping[str, Any], name: str | None, options: Mapping[str, Any]) -> Level:
    """The level that is named, or the first that takes what is given for its own.

    Args:
        known: parameters by name; with D they are raw numbers.
        options: those given.

    Raises:
        ParameterError: no such level, or one that takes raw numbers where ratios are given.
    """
    level = None if name is None else level_named(name)
    if "D" not in known and level is not None and level.name != "limit":
        raise ParameterError("level", name, "must be limit when ratios are given; other levels need raw numbers")
    return level or next(level for level in LEVELS.values() if level.natural(known, options))


def refuse_idle_at(level: Level, options: Mapping[str, Any], options_at: Callable[[Level], tuple[str, ...]],
                   asked: str = "") -> None:  # fmt: skip
    """Refuse the first option that would not act at a level.

    Args:
        options: those given.
        options_at: names of the options that act at a level, for what is asked.
        asked: what is asked, as in " with the best ridge".

    Raises:
        ParameterError: naming the option, and the levels at which it acts.
    """
    acts = {one.name: options_at(one) for one in LEVELS.values()}
    refuse_idle(options, options_at(level), f"at level {level.name}{asked}", acts)


__all__ = ["LEVELS", "Level", "level_named", "level_of", "refuse_idle_at", "register"]
