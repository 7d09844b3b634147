"""Every option of a solve or a question, declared once, and the one place that refuses an option that would not act.

Levels of theory and questions declare the options that they take, by name. What is asked for beyond them is an error
that names the option: an option that is silently dropped would be a wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from replica_icl.covariances import COVARIANCES, check_spec
from replica_icl.errors import ParameterError
from replica_icl.parameter import Parameter, is_array
from replica_icl.priors import PENALTIES, Prior

CONTEXTS: Mapping[str, Parameter] = {
    one.name: one
    for one in (
        Parameter("test_N", "", "context length of the test prompts of e_icl_test (default: as trained)", "integer", 1),
        Parameter("test_noise", "", "label noise of the test prompts of e_icl_test (default: as trained)",
                  metavar="RHO"),
    )
}  # fmt: skip
"""Options for test contexts other than those of the training."""

STRUCTURE: Mapping[str, Parameter] = {**COVARIANCES, **CONTEXTS}
"""Options for covariances, and for test prompts other than those of the training."""

OPTIONS: dict[str, Parameter] = {
    one.name: one
    for one in (
        Parameter("tolerance", "", "relative accuracy of averages over prompts", least=1e-11, most=0.1),
        Parameter("tasks", "", "(K, D) task matrix: it fixes K", "array", metavar="FILE.npy"),
        Parameter("prior", "", "weight prior beside the ridge, e.g. Laplace(l1=0.01)", "array"),
        Parameter("shares", "", "fraction of the prompts of each task, (K,)", "array"),
        Parameter("draws", "", "random task sets to average over (default 1)", "integer", 1, metavar="R"),
        Parameter("seed", "", "seed of the random streams (default 0)", "integer", 0, metavar="S"),
        Parameter("sphere", "", "drawn tasks have norm sqrt(D)", "flag"),
        Parameter("usage", "", "of K tasks: equal (each used equally often) or random (one drawn per prompt)", "choice",
                  choices=("equal", "random")),
        *STRUCTURE.values(),
        Parameter("spread", "", "also the standard deviation from one sample to another", "flag"),
        Parameter("optimal_ridge", "", "find the ridge of least test error", "flag"),
        *(Parameter(f"optimal_{name}", "", f"find the {name} of least test error at a given ridge (default 0)", "flag")
          for name in PENALTIES),
        Parameter("target_error", "", "find the smallest value that reaches this e_icl, of --for", positive=True,
                  metavar="E"),
        Parameter("sought", "", "what --target-error is to find", "choice", metavar="WHICH",
                  choices=("P", "N", "K", "alpha", "nu", "kappa")),
    )
}  # fmt: skip
"""Options of `solve`; None stands for an option that was not given. A question defined elsewhere may add its own."""


EXACT = ("dense", "dual", "cg", "proximal")
"""Algorithms that find the ground state."""
TRAINERS = ("gradient-flow", "gd", "sgd", "momentum", "adam", "adamw")
"""Algorithms that train towards it."""
OUTSIDE = ("gamp", "relaxed-bp")
"""Message passing towards it, which the simulator knows nothing of."""
UNDER_PRIORS = ("proximal", "gamp")
"""Those of them all that there are under a prior beside the ridge."""

SIMULATION: Mapping[str, Parameter] = {
    one.name: one
    for one in (
        Parameter("realisations", "", "disorder realisations (default 20)", "integer", 1, metavar="R"),
        Parameter("seed", "", "seed of the random streams (default 0)", "integer", 0, metavar="S"),
        Parameter("workers", "", "processes; results do not depend on it (default: chosen)", "integer", 1),
        Parameter("algorithm", "", "dense, dual or cg (default: the cheapest exact one); proximal with --l1; message "
                  "passing (gamp, also with --l1; relaxed-bp), or an optimiser", "choice",
                  choices=(*EXACT, *OUTSIDE, *TRAINERS)),
        Parameter("prompts", "", "tokens (default) or sufficient (their exact statistics)", "choice",
                  choices=("tokens", "sufficient")),
        Parameter("law", "", "of tokens: gaussian (default), rademacher, uniform, student-t[:DOF], sparse[:DENSITY]",
                  "text"),
        Parameter("task_law", "", "of tasks (default: as --law)", "text", metavar="LAW"),
        Parameter("usage", "", "of K tasks: random (one drawn per prompt) or equal (each used equally often)", "choice",
                  choices=("equal", "random")),
        Parameter("sphere", "", "drawn tasks have norm sqrt(D)", "flag"),
        *STRUCTURE.values(),
        Parameter("epochs", "", "passes over the prompts (default 1000)", "integer", 1),
        Parameter("learning_rate", "", "default 0.001 for adam and adamw, otherwise 0.05", positive=True,
                  metavar="ETA"),
        Parameter("batch", "", "prompts in a mini-batch (default: all)", "integer", 1),
        Parameter("initial_scale", "", "standard deviation of the initial weights (default 0)", metavar="S"),
        Parameter("inner", "", "inner dimension of separate W_Q and W_K (default: merged)", "integer", 1),
        Parameter("damping", "", "share of the old messages that is kept (default 0.05 for gamp, with --l1 0.2; 0.9 "
                  "for relaxed-bp)", metavar="THETA"),
        Parameter("max_iterations", "", "default 1000 for gamp, 100 for relaxed-bp", "integer", 1),
    )
}  # fmt: skip
"""Options of `simulate`."""
TRAINING = ("epochs", "learning_rate", "batch", "initial_scale", "inner")
"""Options that need a trainer."""
ITERATING = ("damping", "max_iterations")
"""Options that need message passing."""


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, checked.

    Raises:
        ParameterError: unknown option, or a value that it cannot have.
    """
    found = {}
    for name, value in options.items():
        if value is None:
            continue
        if name not in OPTIONS:
            raise ParameterError(name, value, f"must be one of {', '.join(OPTIONS)}")
        if name == "prior" and not isinstance(value, Prior):
            raise ParameterError(name, value, "must be a weight prior, e.g. Laplace(l1=0.01)")
        if name in COVARIANCES:
            check_spec(name, value)
        if OPTIONS[name].kind == "array" and isinstance(value, list | tuple):
            value = _regular(name, value)
        checked = OPTIONS[name].check(value)
        if checked is not False:
            found[name] = checked
    return found


def _regular(name: str, value: Any) -> Any:
    """Nested lists as an array.

    Raises:
        ParameterError: rows of different lengths.
    """
    import numpy as np

    try:
        return np.asarray(value)
    except ValueError:
        raise ParameterError(name, value, "must be an array: its rows differ in length") from None


def refuse_idle(
    options: Mapping[str, Any], taken: Iterable[str], where: str, acts: Mapping[str, Iterable[str]]
) -> None:
    """Refuse the first option that would not act.

    Args:
        options: those given.
        taken: names of those that act.
        where: what was asked for, as in "at level limit".
        acts: level -> names of the options that would act there.

    Raises:
        ParameterError: naming the option.
    """
    acting = tuple(taken)
    for name, value in options.items():
        if name not in acting:
            levels = " or ".join(level for level, others in acts.items() if name in others)
            advice = f"; it acts at level {levels}" if levels else ""
            shown = "array" if is_array(value) else value
            raise ParameterError(name, shown, f"must not be given {where}: it would not act{advice}")
