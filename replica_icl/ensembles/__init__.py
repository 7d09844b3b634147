"""The ensembles: one file each, which states a law and its order parameters and hands them to the replica machinery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from replica_icl.ensembles import (
    finite_diversity,
    fresh_tasks,
    fresh_tasks_derivation,
    fresh_tasks_limit,
    given_tasks,
    hessian_spectrum,
    missing_onsager,
    sample_spread,
)
from replica_icl.errors import ParameterError

if TYPE_CHECKING:
    from replica_icl.symbolic.derivation import Derivation

PROGRAMS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "finite_diversity": finite_diversity.programs,
    "fresh_tasks": fresh_tasks.programs,
    "fresh_tasks_limit": fresh_tasks_limit.programs,
    "given_tasks": given_tasks.programs,
    "hessian_spectrum": hessian_spectrum.programs,
    "missing_onsager": missing_onsager.programs,
    "sample_spread": sample_spread.programs,
}
"""Lowered module -> the functions that it holds."""

DERIVATIONS: dict[str, Callable[[], Derivation]] = {"fresh-tasks": fresh_tasks_derivation.chain}
"""Name on the command line -> the chain of steps from the transformer to the observables."""


def derive(name: str = "fresh-tasks") -> Derivation:
    """The derivation of an ensemble, step by step, to be rendered or checked.

    Raises:
        ParameterError: for an unknown name.
    """
    if name not in DERIVATIONS:
        raise ParameterError("name", name, f"must be one of {', '.join(DERIVATIONS)}")
    return DERIVATIONS[name]()
