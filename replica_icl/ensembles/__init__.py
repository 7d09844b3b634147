"""The ensembles: one file each, which states a law and its order parameters and hands them to the replica machinery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replica_icl.ensembles import fresh_tasks_limit

PROGRAMS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "fresh_tasks_limit": fresh_tasks_limit.programs,
}
"""Lowered module -> the functions that it holds."""
