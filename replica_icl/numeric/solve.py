"""One entry point to the theory: every level and every question, with the options that act there and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from replica_icl.errors import ParameterError
from replica_icl.numeric.levels import Level, level_of, refuse_idle_at
from replica_icl.numeric.levels.points import known_of
from replica_icl.numeric.questions.errors import Errors
from replica_icl.numeric.questions.protocol import Question
from replica_icl.numeric.questions.registry import question_of
from replica_icl.options import given
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting

if TYPE_CHECKING:
    from replica_icl.numeric.solution import Solution


def solve(
    point: Setting | Sequence[Setting] | Ratios,
    level: str | None = None,
    tolerance: float | None = None,
    throw: bool = True,
    *,
    prior: Any = None,
    tasks: Any = None,
    shares: Any = None,
    draws: int | None = None,
    seed: int | None = None,
    sphere: bool | None = None,
    usage: str | None = None,
    task_covariance: Any = None,
    token_covariance: Any = None,
    test_task_covariance: Any = None,
    test_token_covariance: Any = None,
    test_N: int | None = None,
    test_noise: float | None = None,
    spread: bool | None = None,
    model: Any = None,
) -> Solution:
    """Solve the theory at one point or on a grid.

    Every option acts or is refused; None stands for one that is not given.

    Args:
        point: a setting in raw numbers, or the limit's ratios; fields that are arrays make a grid. A sequence of
            settings is a grid with one axis.
        level: "finite-size" (D, N, P as they are, with the full prompt law; fresh tasks), "limit" (D -> infinity at
            fixed ratios) or "given-tasks" (D, N, P and the task matrix as they are). By default limit for ratios, and
            for settings given-tasks where they have K, otherwise finite-size.
        tolerance: relative accuracy of averages over prompts (finite-size: 1e-7, given-tasks: 1e-5).
        throw: raise when a point does not converge; with False the status says so and the values are NaN.
        prior: a weight prior beside the ridge (`priors.Laplace`, or one of your own), in raw numbers; fresh tasks in
            their ground state, without a next order.
        tasks: (K, D) task matrix of level given-tasks; without it the mean over `draws` random ones of `seed`.
        shares: fraction of the prompts of each given task, (K,); by default every task is used equally often.
        draws, seed: random task sets (default 1) and their seed (default 0).
        sphere: drawn tasks have norm sqrt(D), otherwise they are Gaussian.
        usage: of drawn tasks: "equal" (default), or "random": every prompt draws its task.
        task_covariance, token_covariance: of the training: "identity", "power-law:EXPONENT", "low-rank:FRACTION",
            "spike:INDEX" (of trace D), a .npy file or a (D, D) matrix.
        test_task_covariance, test_token_covariance, test_N, test_noise: of test prompts other than the training ones,
            for the observable e_icl_test.
        spread: also the standard deviation of observables from one sample to another (finite-size).
        model: lowered theories of another forward pass; by default the package's own.

    Returns:
        `Solution`, with a status beside every value.

    Raises:
        ParameterError: bad input, an option that would not act, or a point that this level has no theory for.
        SolveError: if a point did not converge and `throw` is set.
    """
    at = checked_point(point)
    options = given(
        {
            "tolerance": tolerance,
            "prior": prior,
            "tasks": tasks,
            "shares": shares,
            "draws": draws,
            "seed": seed,
            "sphere": sphere,
            "usage": usage,
            "task_covariance": task_covariance,
            "token_covariance": token_covariance,
            "test_task_covariance": test_task_covariance,
            "test_token_covariance": test_token_covariance,
            "test_N": test_N,
            "test_noise": test_noise,
            "spread": spread,
        }
    )
    chosen = level_of(known_of(at), level, options)
    errors = Errors()
    refuse_idle_at(chosen, options, errors.options_at)
    solution = errors.of_point(at, chosen, model=model, **options)
    return solution.or_raise() if throw else solution


def checked_point(point: Any) -> Setting | Ratios:
    """A setting or ratios as they are, a sequence of settings as one grid.

    Raises:
        ParameterError: something else, or a sequence that is empty or holds something else.
    """
    if isinstance(point, Setting | Ratios):
        return point
    if isinstance(point, list | tuple):
        return Setting.stack(point)
    raise ParameterError("point", point, "must be a Setting, Ratios, or a list of settings")


def check_answerable(
    known: Mapping[str, Any], level: str | None = None, **options: Any
) -> tuple[Question, Level, dict[str, Any]]:
    """Which question is asked at which level, with the options that were given; nothing is solved.

    Args:
        known: parameters by name, those that the question finds left out.
        options: by name, None where not given.

    Raises:
        ParameterError: no such level, an option that would not act, or a parameter that is to be found.
    """
    acting = given(options)
    question = question_of(acting)
    chosen = question.level(known, level, acting)
    refuse_idle_at(chosen, acting, question.options_at, f" with --{question.name}" if question.asked_by else "")
    for name in question.finds(acting):
        if name in known:
            raise ParameterError(name, known[name], f"must not be given with --{question.name}, which finds it")
    return question, chosen, acting


def answer(known: Mapping[str, Any], level: str | None = None, model: Any = None, **options: Any) -> Any:
    """What the command line asks: the question that the options ask, at the level that is named or natural.

    Arguments and errors as in `check_answerable`.

    Returns:
        The question's answer, with `to_dict()`, `table()` and `converged`.
    """
    question, chosen, acting = check_answerable(known, level, **options)
    return question.ask(known, chosen, model=model, **acting)
