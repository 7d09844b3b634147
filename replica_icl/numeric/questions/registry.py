"""The questions that `solve` answers on the command line, found by the options that ask them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.numeric.questions.errors import Errors
from replica_icl.numeric.questions.optimal_penalty import BestPenalty
from replica_icl.numeric.questions.protocol import Question
from replica_icl.numeric.questions.target import SmallestSize
from replica_icl.priors import PENALTIES

_OWN: tuple[Question, ...] = (*map(BestPenalty, ("ridge", *PENALTIES)), SmallestSize(), Errors())
QUESTIONS: dict[str, Question] = {question.name: question for question in _OWN}
"""Name -> question; the last one is asked where no option asks another. One defined elsewhere may be added."""


def question_of(options: Mapping[str, Any]) -> Question:
    """The question that the given options ask.

    Raises:
        ParameterError: options that ask two of them.
    """
    asked = [(option, one) for one in QUESTIONS.values() for option in one.asked_by if option in options]
    if not asked:
        return QUESTIONS["errors"]
    option, first = asked[0]
    other = next((name for name, question in asked if question is not first), None)
    if other is not None:
        beside = f"--{option.replace('_', '-')}"
        raise ParameterError(other, options[other], f"must not be given beside {beside}: one question at a time")
    return first
