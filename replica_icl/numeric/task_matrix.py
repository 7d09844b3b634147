"""Task matrices: what is allowed, random ones, and the share of the prompts that each task gets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.keys import entropy
from replica_icl.setting import Setting, check_integer

Array = NDArray[np.floating[Any]]

SMALLEST_TASK = 1e-20
"""Tasks beyond this, or its inverse, have squared norms whose powers are no numbers any more."""


def check_task_matrix(tasks: ArrayLike, setting: Setting) -> Array:
    """The (K, D) task matrix as float64.

    Raises:
        ParameterError: wrong shape, no real numbers, NaN, a task that is zero, another K than the setting's, or K > P.
    """
    matrix = np.asarray(tasks)
    if matrix.dtype.kind not in "iuf":
        raise ParameterError("tasks", f"array of {matrix.dtype}", "must be real numbers")
    matrix = matrix.astype(float)
    if matrix.ndim != 2 or matrix.shape[0] < 1 or matrix.shape[1] != setting.D:
        raise ParameterError("tasks", f"array of shape {matrix.shape}", f"must have shape (K, {setting.D})")
    if not np.all(np.isfinite(matrix)):
        raise ParameterError("tasks", "array with NaN or infinity", "must be finite")
    zero = np.flatnonzero(~matrix.any(axis=1))
    if zero.size:
        raise ParameterError("tasks", f"array whose row {zero[0]} is zero", "must hold no zero task")
    sizes = np.abs(matrix).max(axis=1)
    if not (SMALLEST_TASK <= sizes.min() and sizes.max() <= 1 / SMALLEST_TASK):
        wanted = f"must hold tasks with a largest entry from {SMALLEST_TASK:g} to {1 / SMALLEST_TASK:g}"
        raise ParameterError("tasks", f"array with entries up to {sizes.max():.2g}", wanted)
    if setting.K is not None and setting.K != len(matrix):
        raise ParameterError("K", setting.K, f"must equal the number of given tasks, {len(matrix)}")
    if len(matrix) > setting.P:
        raise ParameterError("K", len(matrix), f"must be at most the number of prompts, P = {setting.P}")
    return matrix


def check_shares(shares: ArrayLike, K: int) -> Array:
    """Shares of the prompts, (K,), as float64.

    Raises:
        ParameterError: another shape, no numbers >= 0, or a sum that is not 1.
    """
    values = np.asarray(shares)
    if values.dtype.kind not in "iuf" or values.shape != (K,):
        raise ParameterError("shares", f"{values.dtype} array of shape {values.shape}", f"must be {K} real numbers")
    if not (np.all(values >= 0) and abs(values.sum() - 1) < 1e-9):
        raise ParameterError("shares", values.tolist(), "must be non-negative and sum to 1")
    return values.astype(float)


def equal_shares(P: int, K: int) -> Array:
    """Shares of K tasks that P prompts use in turn, (K,): P/K rounded up or down, over P."""
    return (P // K + (np.arange(K) < P % K)) / P


def draw_task_set(setting: Setting, seed: int = 0, index: int = 0, sphere: bool = False) -> tuple[Array, Array]:
    """K random tasks, and the share of the P prompts that each gets when every prompt draws its task.

    Args:
        seed, index: of the random stream; the same for any order of calls.
        sphere: |w| = sqrt(D) and every task used equally often (Lu et al.) instead of Gaussian tasks.
    """
    if setting.K is None:
        raise ParameterError("K", "(not given)", "is required to draw tasks (or give a task matrix)")
    sizes = (setting.D, setting.N, setting.P, setting.K)
    words = entropy(check_integer("seed", seed, 0), check_integer("index", index, 0))
    rng = np.random.default_rng(np.random.SeedSequence([*words, *sizes]))
    tasks = rng.standard_normal((setting.K, setting.D))
    if sphere:
        tasks *= np.sqrt(setting.D) / np.linalg.norm(tasks, axis=1, keepdims=True)
        return tasks, equal_shares(setting.P, setting.K)
    return tasks, rng.multinomial(setting.P, np.full(setting.K, 1 / setting.K)) / setting.P
