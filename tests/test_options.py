"""No option is dropped silently: every one is run against every level and every question, and acts or is refused."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.numeric.levels import LEVELS, Level
from replica_icl.numeric.questions.errors import Errors
from replica_icl.numeric.questions.registry import QUESTIONS
from replica_icl.numeric.solve import answer, check_answerable, solve
from replica_icl.options import OPTIONS, given
from replica_icl.priors import PENALTIES, Laplace
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting

TASKS = np.random.default_rng(1).standard_normal((3, 5))
POINTS: dict[str, dict[str, Any]] = {
    "finite-size": {"D": 5, "N": 8, "P": 40, "ridge": 0.1},
    "limit": {"D": 5, "N": 8, "P": 40, "ridge": 0.1},
    "given-tasks": {"D": 5, "N": 8, "P": 40, "ridge": 0.1, "K": 3},
}
VALUES: dict[str, Any] = {
    "tolerance": 3e-2,
    "tasks": TASKS,
    "prior": Laplace(l1=0.02),
    "shares": [0.5, 0.3, 0.2],
    "draws": 2,
    "seed": 7,
    "sphere": True,
    "usage": "random",
    "task_covariance": "low-rank:0.5",
    "token_covariance": "power-law:1",
    "test_task_covariance": "spike:0",
    "test_token_covariance": np.diag([2.0, 1.0, 1.0, 0.5, 0.5]),
    "test_N": 50,
    "test_noise": 0.7,
    "spread": True,
    "optimal_ridge": True,
    **{f"optimal_{name}": True for name in PENALTIES},
    "target_error": 0.95,
    "sought": "P",
}
ASKED: dict[str, dict[str, Any]] = {
    "errors": {},
    "optimal-ridge": {"optimal_ridge": True},
    **{f"optimal-{name}": {f"optimal_{name}": True} for name in PENALTIES},
    "target-error": {"target_error": 0.95, "sought": "P"},
}


def without_what_is_found(question: str, level: str) -> dict[str, Any]:
    found = QUESTIONS[question].finds(ASKED[question])
    return {name: value for name, value in POINTS[level].items() if name not in found}


def cases() -> Iterator[tuple[str, str, str]]:
    for level in LEVELS:
        for question in QUESTIONS:
            for option in OPTIONS:
                yield level, question, option


def test_every_level_question_and_option_is_tried() -> None:
    assert set(POINTS) == set(LEVELS)
    assert set(ASKED) == set(QUESTIONS)
    assert set(VALUES) == set(OPTIONS)


class Asked(Exception):
    """What reached the solver."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions that search stop at their first solve and tell with which options it was asked for."""

    def stop(self: Errors, point: Any, level: Level, *, model: Any = None, **options: Any) -> None:
        raise Asked(options)

    monkeypatch.setattr(Errors, "of_point", stop)


def taken_at(level: str, question: str) -> tuple[str, ...]:
    return QUESTIONS[question].options_at(LEVELS[level])


@pytest.mark.parametrize(("level", "question", "option"), list(cases()))
def test_an_option_is_taken_or_refused_by_name(level: str, question: str, option: str, seen: None) -> None:
    known, asked = without_what_is_found(question, level), ASKED[question]
    if level == "given-tasks" and question in ("target-error", *(f"optimal-{name}" for name in PENALTIES)):
        with pytest.raises(ParameterError, match="level = given-tasks: must be finite-size or limit"):
            check_answerable(known, level, **asked)
        return
    asks_another = option in {name for other in QUESTIONS.values() for name in other.asked_by} - set(asked)
    if option in asked or (asks_another and question == "errors"):
        return  # asks the other question, which is tried by itself
    beside = {"tasks": TASKS} if option == "shares" and level == "given-tasks" else {}
    with_option = {**asked, **beside, option: VALUES[option]}
    if option in taken_at(level, question):
        with pytest.raises(Asked) as stopped:
            answer(known, level, **with_option)
        assert option in stopped.value.args[0]
        return
    with pytest.raises(ParameterError) as caught:
        answer(known, level, **with_option)
    another = "one question at a time" in caught.value.allowed
    assert caught.value.parameter == option or (asks_another and another)
    assert another or "would not act" in caught.value.allowed


@pytest.mark.parametrize(
    ("level", "option"), [(level, option) for level in LEVELS for option in taken_at(level, "errors")]
)
def test_an_option_that_is_taken_changes_the_answer(level: str, option: str) -> None:
    beside = {"tasks": TASKS} if option == "shares" else {}
    before = answer(POINTS[level], level, **beside).to_dict()
    assert answer(POINTS[level], level, **beside, **{option: VALUES[option]}).to_dict() != before


@pytest.mark.parametrize(
    ("level", "options", "named"),
    [
        ("limit", {"tolerance": 1e-3}, "tolerance"),
        ("limit", {"draws": 3}, "draws"),
        ("finite-size", {"draws": 3}, "draws"),
        ("finite-size", {"seed": 0}, "seed"),
        ("finite-size", {"sphere": True}, "sphere"),
        ("limit", {"test_N": 9}, "test_N"),
        ("limit", {"spread": True}, "spread"),
        ("given-tasks", {"spread": True}, "spread"),
        ("given-tasks", {"tasks": TASKS, "draws": 3}, "draws"),
        ("given-tasks", {"tasks": TASKS, "sphere": True}, "sphere"),
        ("given-tasks", {"shares": [1.0]}, "shares"),
        ("given-tasks", {"sphere": True, "usage": "random"}, "usage"),
    ],
)
def test_python_refuses_what_the_command_line_refuses(level: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterError) as caught:
        solve(Setting(**POINTS[level]), level, **options)
    assert caught.value.parameter == named


def test_two_questions_at_once_are_refused() -> None:
    known = without_what_is_found("optimal-ridge", "limit")
    with pytest.raises(ParameterError, match="one question at a time"):
        check_answerable(known, "limit", **ASKED["optimal-ridge"], **ASKED["target-error"])


def test_an_unknown_option_and_a_bad_value_are_refused() -> None:
    with pytest.raises(ParameterError, match="must be one of tolerance"):
        given({"temperature": 3.0})
    for name, value in (("tolerance", 3.0), ("tolerance", True), ("draws", 0), ("seed", -1), ("usage", "x")):
        with pytest.raises(ParameterError) as caught:
            given({name: value})
        assert (caught.value.parameter, caught.value.value) == (name, value)
    assert given({"sphere": False, "spread": None}) == {}


def test_the_natural_level_is_that_of_what_is_given() -> None:
    sizes = {"D": 5, "N": 8, "P": 40, "ridge": 0.1}
    assert solve(Setting(**sizes)).level == "finite-size"
    assert solve(Setting(**sizes, K=3)).level == "given-tasks"
    assert solve(Setting(**sizes), tasks=TASKS).level == "given-tasks"
    assert solve(Ratios(alpha=1.0, nu=1.0, lam=0.1)).level == "limit"
    for level in ("finite-size", "given-tasks"):
        with pytest.raises(ParameterError, match="must be limit"):
            solve(Ratios(alpha=1.0, nu=1.0, lam=0.1), level)
    with pytest.raises(ParameterError, match="level = exact: must be one of finite-size, limit, given-tasks"):
        solve(Setting(**sizes), "exact")


def test_what_is_no_point_is_refused_by_one_clear_error() -> None:
    for bad in (3, None, [], [3], "x", [Setting(D=5, N=8, P=40, ridge=0.1), 3]):
        with pytest.raises(ParameterError, match="point = "):
            solve(bad)  # type: ignore[arg-type]
