"""The ensembles: one file each, which states a law and its order parameters and hands them to the replica machinery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replica_icl.theory import (
    fresh_tasks,
    fresh_tasks_limit,
    given_tasks,
    hessian_spectrum,
    missing_onsager,
    sample_spread,
    task_diversity,
)

PROGRAMS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "task_diversity": task_diversity.programs,
    "fresh_tasks": fresh_tasks.programs,
    "fresh_tasks_limit": fresh_tasks_limit.programs,
    "given_tasks": given_tasks.programs,
    "hessian_spectrum": hessian_spectrum.programs,
    "missing_onsager": missing_onsager.programs,
    "sample_spread": sample_spread.programs,
}
"""Lowered module -> the functions that it holds."""
