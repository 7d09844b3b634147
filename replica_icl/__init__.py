"""The analytic theory of in-context learning in linear attention."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Setting": "replica_icl.setting",
    "Ratios": "replica_icl.ratios",
    "setting_at": "replica_icl.ratios",
    "ParameterError": "replica_icl.errors",
    "SolveError": "replica_icl.errors",
    "Prior": "replica_icl.priors",
    "Laplace": "replica_icl.priors",
    "solve": "replica_icl.numeric.solve",
    "Solution": "replica_icl.numeric.solution",
    "Status": "replica_icl.status",
    "optimal_penalty": "replica_icl.numeric.questions.optimal_penalty",
    "optimal_ridge": "replica_icl.numeric.questions.optimal_penalty",
    "smallest_value": "replica_icl.numeric.questions.target",
    "sample_spread": "replica_icl.numeric.questions.sample_spread",
    "transfer_error": "replica_icl.numeric.questions.transfer",
    "susceptibility": "replica_icl.numeric.questions.susceptibility",
    "hessian_density": "replica_icl.numeric.questions.spectrum",
    "token_density": "replica_icl.numeric.questions.spectrum",
    "gradient_flow": "replica_icl.numeric.questions.gradient_flow",
    "refine_limit": "replica_icl.numeric.questions.precision",
    "simulate": "replica_icl.simulator.ensemble",
    "Training": "replica_icl.simulator.optimisers",
    "MessagePassing": "replica_icl.meeting.message_passing",
    "icl_error": "replica_icl.simulator.observables",
    "validate": "replica_icl.meeting.validation",
    "read_weights": "replica_icl.meeting.checkpoint",
    "read_grid": "replica_icl.sweep.grid",
    "run_sweep": "replica_icl.sweep.run",
    "read_dataset": "replica_icl.sweep.dataset",
    "derive": "replica_icl.narration.catalogue",
}

if TYPE_CHECKING:
    from replica_icl.errors import ParameterError, SolveError
    from replica_icl.meeting.checkpoint import read_weights
    from replica_icl.meeting.message_passing import MessagePassing
    from replica_icl.meeting.validation import validate
    from replica_icl.narration.catalogue import derive
    from replica_icl.numeric.questions.gradient_flow import gradient_flow
    from replica_icl.numeric.questions.optimal_penalty import optimal_penalty, optimal_ridge
    from replica_icl.numeric.questions.precision import refine_limit
    from replica_icl.numeric.questions.sample_spread import sample_spread
    from replica_icl.numeric.questions.spectrum import hessian_density, token_density
    from replica_icl.numeric.questions.susceptibility import susceptibility
    from replica_icl.numeric.questions.target import smallest_value
    from replica_icl.numeric.questions.transfer import transfer_error
    from replica_icl.numeric.solution import Solution
    from replica_icl.numeric.solve import solve
    from replica_icl.priors import Laplace, Prior
    from replica_icl.ratios import Ratios, setting_at
    from replica_icl.setting import Setting
    from replica_icl.simulator.ensemble import simulate
    from replica_icl.simulator.observables import icl_error
    from replica_icl.simulator.optimisers import Training
    from replica_icl.status import Status
    from replica_icl.sweep.dataset import read_dataset
    from replica_icl.sweep.grid import read_grid
    from replica_icl.sweep.run import run_sweep

__all__ = [
    "Laplace",
    "MessagePassing",
    "ParameterError",
    "Prior",
    "Ratios",
    "Setting",
    "Solution",
    "SolveError",
    "Status",
    "Training",
    "__version__",
    "derive",
    "gradient_flow",
    "hessian_density",
    "icl_error",
    "optimal_penalty",
    "optimal_ridge",
    "read_dataset",
    "read_grid",
    "read_weights",
    "refine_limit",
    "run_sweep",
    "sample_spread",
    "setting_at",
    "simulate",
    "smallest_value",
    "solve",
    "susceptibility",
    "token_density",
    "transfer_error",
    "validate",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import replica_icl` stays light."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
