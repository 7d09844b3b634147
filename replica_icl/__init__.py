"""The analytic theory of in-context learning in linear attention."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Setting": "replica_icl.setting",
    "ParameterError": "replica_icl.errors",
    "Ratios": "replica_icl.ratios",
    "Solution": "replica_icl.numeric.solution",
    "Status": "replica_icl.numeric.solution",
    "solve": "replica_icl.numeric.solve",
    "simulate": "replica_icl.simulator.ensemble",
    "validate": "replica_icl.meeting.validation",
    "derive": "replica_icl.narration",
}

__all__ = ["Setting", "__version__", *sorted(set(_PUBLIC) - {"Setting"})]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import replica_icl` stays light."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
