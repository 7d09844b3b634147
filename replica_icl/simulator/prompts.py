"""Prompts, token by token: tasks, labelled context tokens, a query and its target.

Source: Li et al., arXiv:2408.02288 (fresh Gaussian tasks); label noise and a finite number of tasks as in
Lu et al., arXiv:2405.11751, drawn uniformly at random or used equally often. Entries of another law: `laws.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting, check_integer
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, PromptLaw

Array = NDArray[np.float64]

BATCH_BYTES = 4 * 2**20
"""Bytes of context tokens in one batch. A batch holds max(1, BATCH_BYTES // (8 N D)) prompts, whatever the
machine, so the numbers drawn depend on the random stream and the setting alone. A cache-sized batch is also
twice as fast as one of 64 MiB."""


SMALLEST_TASK = 1e-20
"""Tasks with a largest entry below it (and no zero), or above its inverse, have powers that are no numbers."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """A set of n prompts, all numbers of order one.

    Attributes:
        tasks: w, shape (n, D), the task vector of each prompt.
        tokens: x_i, shape (n, N, D), context tokens, standard normal unless the law says otherwise.
        labels: y_i = w.x_i/sqrt(D) + eps_i, shape (n, N).
        query: x~, shape (n, D), of the law of the tokens.
        target: y~ = w.x~/sqrt(D) + eps~, shape (n,); the target is as noisy as the labels.
    """

    tasks: Array
    tokens: Array
    labels: Array
    query: Array
    target: Array

    @property
    def n(self) -> int:
        """Number of prompts."""
        return len(self.target)

    @property
    def D(self) -> int:
        """Token dimension."""
        return self.query.shape[1]

    @property
    def N(self) -> int:
        """Context length."""
        return self.labels.shape[1]


def check_tasks(tasks: ArrayLike, D: int, K: int | None = None) -> Array:
    """Return a task matrix as a C-ordered (K, D) float64 array; K = None takes K from the matrix.

    Raises:
        ParameterError: no real (K, D) matrix with K >= 1, not finite, a task whose squares are no numbers any more, or
            another K than the one given.
    """
    try:
        matrix = np.ascontiguousarray(tasks)
    except ValueError as error:
        raise ParameterError("tasks", "ragged", f"must be a (K, {D}) matrix") from error
    if matrix.dtype.kind not in "iuf":
        raise ParameterError("tasks", f"array of {matrix.dtype}", "must be real numbers")
    matrix = matrix.astype(np.float64)
    if matrix.ndim != 2 or matrix.shape[0] < 1 or matrix.shape[1] != D:
        raise ParameterError("tasks", f"array of shape {matrix.shape}", f"must have shape (K, {D})")
    if not np.isfinite(matrix).all():
        raise ParameterError("tasks", "array with nan or inf", "must be finite")
    sizes = np.abs(matrix).max(axis=1)
    sizes = sizes[sizes > 0]
    if sizes.size and (sizes.min() < SMALLEST_TASK or sizes.max() > 1 / SMALLEST_TASK):
        wanted = f"must hold tasks with a largest entry from {SMALLEST_TASK:g} to {1 / SMALLEST_TASK:g}"
        raise ParameterError("tasks", f"array with largest entries {sizes.min():.2g} to {sizes.max():.2g}", wanted)
    if K is not None and matrix.shape[0] != K:
        raise ParameterError("K", K, f"must equal the number of given tasks, {matrix.shape[0]}")
    return matrix


def draw_tasks(setting: Setting, rng: np.random.Generator, law: PromptLaw = GAUSSIAN_PROMPTS) -> Array | None:
    """Draw the task matrix of one realisation, shape (K, D), entries of the task law; None for fresh tasks."""
    return None if setting.K is None else law.draw_tasks(rng, setting.K, setting.D)


def batch_size(setting: Setting) -> int:
    """Prompts per batch: the fixed rule of `BATCH_BYTES`, a function of N and D only."""
    return max(1, BATCH_BYTES // (8 * setting.N * setting.D))


def _draw(
    setting: Setting, n: int, rng: np.random.Generator, tasks: Array | None, law: PromptLaw, first: int = 0
) -> Prompts:
    """Draw prompts `first` to `first` + n - 1: task, tokens, label noise, query, target noise (no noise at rho = 0)."""
    D, N = setting.D, setting.N
    own = law.draw_fresh_tasks(rng, n, D) if tasks is None else tasks[law.assigned(rng, len(tasks), first, n)]
    tokens = law.draw_tokens(rng, (n, N, D))
    labels = (tokens @ own[:, :, None])[:, :, 0] / np.sqrt(D)
    if setting.noise > 0:
        labels += np.sqrt(setting.noise) * rng.standard_normal((n, N))
    query = law.draw_tokens(rng, (n, D))
    target = np.sum(own * query, axis=1) / np.sqrt(D)
    if setting.noise > 0:
        target += np.sqrt(setting.noise) * rng.standard_normal(n)
    return Prompts(own, tokens, labels, query, target)


def _used_tasks(setting: Setting, rng: np.random.Generator, tasks: ArrayLike | None, law: PromptLaw) -> Array | None:
    """Given tasks, checked; without any, those drawn at finite K and None for fresh ones."""
    return draw_tasks(setting, rng, law) if tasks is None else check_tasks(tasks, setting.D, setting.K)


def draw_prompts(
    setting: Setting,
    n: int,
    rng: np.random.Generator,
    tasks: ArrayLike | None = None,
    law: PromptLaw = GAUSSIAN_PROMPTS,
) -> Prompts:
    """Draw n prompts at once (all in memory: 8 n N D bytes).

    Args:
        setting: D, N, noise and K are used. At finite K without `tasks` a (K, D) matrix is drawn first.
        n: number of prompts, >= 1 (`setting.P` is not used).
        rng: source of randomness, advanced by the call.
        tasks: (K, D) task matrix from which each prompt takes a row, as the law's `usage` says.
        law: of the entries of tokens, queries and drawn tasks; its sampler is not used.

    Raises:
        ParameterError: bad n or tasks.
    """
    count = check_integer("n", n, 1)
    return _draw(setting, count, rng, _used_tasks(setting, rng, tasks, law), law)


def prompt_batches(
    setting: Setting,
    n: int,
    rng: np.random.Generator,
    tasks: ArrayLike | None = None,
    law: PromptLaw = GAUSSIAN_PROMPTS,
    first: int = 0,
) -> Iterator[Prompts]:
    """Yield n prompts in batches of `batch_size(setting)`; memory is bounded by a few times `BATCH_BYTES`.

    Arguments and errors as in `draw_prompts`, and the number of the first prompt, which decides its task where tasks
    are used equally often. The stream is consumed batch by batch, so from two batches on
    the prompts are other ones than `draw_prompts` makes from the same seed.
    """
    left = check_integer("n", n, 1)
    matrix = _used_tasks(setting, rng, tasks, law)
    while left > 0:
        size = min(left, batch_size(setting))
        yield _draw(setting, size, rng, matrix, law, first + n - left)
        left -= size
