"""The derivations by name."""

from __future__ import annotations

from collections.abc import Callable

from replica_icl.errors import ParameterError
from replica_icl.narration import fresh_tasks
from replica_icl.narration.derivation import Derivation

DERIVATIONS: dict[str, Callable[[], Derivation]] = {"fresh-tasks": fresh_tasks.chain}
"""Name on the command line -> the chain of steps from the transformer to the observables."""


def derive(name: str = "fresh-tasks") -> Derivation:
    """The derivation of an ensemble, step by step, to be rendered or checked.

    Raises:
        ParameterError: for an unknown name.
    """
    if name not in DERIVATIONS:
        raise ParameterError("name", name, f"must be one of {', '.join(DERIVATIONS)}")
    return DERIVATIONS[name]()
