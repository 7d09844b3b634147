"""What a question to the theory has to give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from replica_icl.numeric.levels import Level


class Question(Protocol):
    """One question.

    Attributes:
        name: in messages; label: in words.
        asked_by: options whose presence asks this question.
        finds: the parameter that it finds, which is then no part of what is given; "" for none.
    """

    name: str
    label: str
    asked_by: tuple[str, ...]

    def finds(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Parameters that are found and must not be given."""

    def level(self, known: Mapping[str, Any], name: str | None, options: Mapping[str, Any]) -> Level:
        """The level that is named, or the natural one for this question.

        Raises:
            ParameterError: the question cannot be asked at this level.
        """

    def options_at(self, level: Level) -> tuple[str, ...]:
        """Names of the options that act when the question is asked at a level, those of the level included."""

    def ask(self, known: Mapping[str, Any], level: Level, *, model: Any = None, **options: Any) -> Any:
        """The answer, with `to_dict()`, `table()` and `converged`.

        Args:
            known: parameters of the point (`point_of` makes a `Setting` or `Ratios` of them).
            options: those that were given, out of `options_at`.
        """
