"""What lowered functions ask an average of: groups of a kernel and the factors that multiply it."""

from __future__ import annotations

from typing import Any, TypeAlias

Groups: TypeAlias = tuple[tuple[Any, tuple[Any, ...]], ...]
"""Kernels, with all that depends on a function's arguments, each with factors of the law's scalars alone."""


def multiplied_out(groups: Groups) -> tuple[Any, ...]:
    """The integrands, kernel times factor, in their order."""
    return tuple(kernel * factor for kernel, factors in groups for factor in factors)
