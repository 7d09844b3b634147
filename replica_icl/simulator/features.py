"""The sufficient statistics of a set of prompts: context vector, query and target.

A linear-attention prediction is y^ = c~^T W (x~; 0), so a prompt enters the energy only through
s = c~ (outer) x~ and y~. Source: Li et al., arXiv:2408.02288 (features divided by N).

Order of the acting weights everywhere in the simulator: sigma = W[:, :D].ravel(), row-major, so that
sigma[i D + j] = W[i, j] acts on c~_i x~_j, i = 0..D the context side and j = 0..D-1 the query side.

Every product with the P x D(D+1) feature matrix Phi is done block by block of prompts, in blocks that fit the
processor's cache and never as a matrix of that size: a `FeatureSource` is anything that can pass over its blocks.
`Features` holds the prompts in memory; `streaming.py` draws them again on every pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting, check_integer
from replica_icl.simulator.attention import check_weights
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, PromptLaw
from replica_icl.simulator.prompts import Prompts, check_tasks, draw_tasks, prompt_batches
from replica_icl.simulator.sufficient import draw_statistics
from replica_icl.threads import one_thread

Array = NDArray[np.float64]

_PAIR_PROMPTS = 512  # prompts whose pair products are in memory at once
_BLOCK_BYTES = 2**19


def block_size(D: int) -> int:
    """Prompts in a block: half a MiB of context and query, at least 64; a function of D only.

    A block is drawn from a random stream of its own and is the unit of every product.
    """
    return max(64, _BLOCK_BYTES // (8 * (2 * D + 1)))


class FeatureSource(ABC):
    """P prompts compressed to what the energy sees, passed over block by block.

    Attributes:
        target: y~, shape (P,).
    """

    target: Array

    @property
    @abstractmethod
    def P(self) -> int:
        """Number of prompts."""

    @property
    @abstractmethod
    def D(self) -> int:
        """Token dimension."""

    @abstractmethod
    def blocks(self, rows: int = 1) -> Iterator[Features]:
        """All prompts in order, in blocks of the smallest multiple of `block_size(D)` that reaches `rows`."""

    @property
    def acting_weights(self) -> int:
        """D (D + 1), the number of weights that act."""
        return self.D * (self.D + 1)

    def collect(self) -> Features:
        """The same prompts in memory."""
        context, query, target = np.empty((self.P, self.D + 1)), np.empty((self.P, self.D)), np.empty(self.P)
        start = 0
        for block in self.blocks():
            rows = slice(start, start := start + block.P)
            context[rows], query[rows], target[rows] = block.context, block.query, block.target
        return Features(context, query, target)

    def predict(self, W: ArrayLike) -> Array:
        """Predictions y^ = c~^T W (x~; 0) of a (D+1, D+1) weight matrix, shape (P,)."""
        return self.apply(check_weights(W, self.D)[:, : self.D])

    def mean_squared_residual(self, W: ArrayLike) -> float:
        """(1/P) sum (y~ - y^)^2 of a (D+1, D+1) weight matrix, in one pass."""
        acting = np.ascontiguousarray(check_weights(W, self.D)[:, : self.D])
        with one_thread():
            squares = [float(np.sum((block.target - _rowwise(block, acting)) ** 2)) for block in self.blocks()]
        return sum(squares) / self.P

    def apply(self, acting: Array) -> Array:
        """Phi sigma for acting weights of shape (D+1, D), by one thin product; shape (P,)."""
        return np.concatenate([_rowwise(block, acting) for block in self.blocks()])

    def apply_transpose(self, dual: Array) -> Array:
        """Phi^T alpha = C^T diag(alpha) X for one number per prompt, shape (D+1, D)."""
        total, start = np.zeros((self.D + 1, self.D)), 0
        for block in self.blocks():
            rows = slice(start, start := start + block.P)
            total += block.context.T @ (dual[rows, None] * block.query)
        return total

    def apply_gram(self, acting: Array) -> Array:
        """S sigma = (1/P) Phi^T Phi sigma in one pass, two thin products and no D^2 x D^2 matrix; shape (D+1, D)."""
        total = np.zeros((self.D + 1, self.D))
        for block in self.blocks():
            total += block.context.T @ (_rowwise(block, acting)[:, None] * block.query)
        return total / self.P

    def fields(self) -> Array:
        """h = (1/P) Phi^T y~ in one pass, shape (D+1, D)."""
        total = np.zeros((self.D + 1, self.D))
        for block in self.blocks():
            total += block.context.T @ (block.target[:, None] * block.query)
        return total / self.P

    def side_moments(self) -> tuple[Array, Array]:
        """(1/P) sum c~ c~^T and (1/P) sum x~ x~^T, shapes (D+1, D+1) and (D, D), in one pass."""
        context, query = np.zeros((self.D + 1, self.D + 1)), np.zeros((self.D, self.D))
        for block in self.blocks():
            context += block.context.T @ block.context
            query += block.query.T @ block.query
        return context / self.P, query / self.P

    def explicit(self, all_weights: bool = False) -> Array:
        """Feature rows s = vec c~ (outer) x~, shape (P, D(D+1)), or (P, (D+1)^2) with (x~; 0) for x~."""
        memory = self.collect()
        query = np.pad(memory.query, ((0, 0), (0, 1))) if all_weights else memory.query
        return (memory.context[:, :, None] * query[:, None, :]).reshape(self.P, -1)

    def gram(self) -> Array:
        """Second moment S = (1/P) sum s s^T over the acting weights, shape (D(D+1), D(D+1)).

        S_(ij),(kl) = (1/P) sum c~_i c~_k x~_j x~_l is symmetric under i <-> k and under j <-> l, so only a
        quarter of it is computed, as one product of pair products, in chunks of prompts of bounded memory.
        """
        D = self.D
        rows, columns = np.triu_indices(D + 1)
        left, right = np.triu_indices(D)
        moments = np.zeros((len(rows), len(left)))
        for block in self.blocks(_PAIR_PROMPTS):
            for start in range(0, block.P, _PAIR_PROMPTS):
                part = slice(start, start + _PAIR_PROMPTS)
                c, x = np.ascontiguousarray(block.context[part].T), np.ascontiguousarray(block.query[part].T)
                moments += (c[rows] * c[columns]) @ (x[left] * x[right]).T
        moments /= self.P
        pair_c = _pair_index(D + 1, rows, columns)
        pair_x = _pair_index(D, left, right)
        gram = np.empty((D + 1, D, D + 1, D))
        for i in range(D + 1):
            gram[i] = moments[pair_c[i]][:, pair_x].transpose(1, 0, 2)
        return gram.reshape(self.acting_weights, self.acting_weights)

    def kernel(self, context_metric: Array | None = None) -> Array:
        """Inner products of the feature rows, (C C^T) * (X X^T) elementwise, shape (P, P).

        Args:
            context_metric: g >= 0, shape (D+1,): a diagonal metric on the context side,
                (C diag(g) C^T) * (X X^T).
        """
        memory = self.collect()
        context = memory.context if context_metric is None else memory.context * np.sqrt(context_metric)
        kernel = context @ context.T
        kernel *= memory.query @ memory.query.T
        return kernel


@dataclass(frozen=True, eq=False)
class Features(FeatureSource):
    """P prompts compressed to what the energy sees, in memory.

    Attributes:
        context: c~ = (c, l), shape (P, D+1); c has entries of order 1/sqrt(D), l is of order one.
        query: x~, shape (P, D), entries of order one.
        target: y~, shape (P,).

    Raises:
        ParameterError: the shapes do not belong together.
    """

    context: Array
    query: Array
    target: Array

    def __post_init__(self) -> None:
        shapes = (self.context.shape, self.query.shape, self.target.shape)
        if self.query.ndim != 2 or self.query.shape[0] < 1 or self.query.shape[1] < 1:
            raise ParameterError("query", f"array of shape {self.query.shape}", "must have shape (P, D)")
        P, D = self.query.shape
        if shapes != ((P, D + 1), (P, D), (P,)):
            raise ParameterError("features", f"arrays of shapes {shapes}", "must be (P, D+1), (P, D), (P,)")

    @property
    def P(self) -> int:
        """Number of prompts."""
        return self.query.shape[0]

    @property
    def D(self) -> int:
        """Token dimension."""
        return self.query.shape[1]

    def blocks(self, rows: int = 1) -> Iterator[Features]:
        """Slices of the arrays, as in `FeatureSource.blocks`."""
        size = merged_size(self.D, rows)
        for start in range(0, self.P, size):
            part = slice(start, start + size)
            yield Features(self.context[part], self.query[part], self.target[part])

    def collect(self) -> Features:
        """These."""
        return self


def merged_size(D: int, rows: int) -> int:
    """The smallest multiple of `block_size(D)` that reaches `rows`."""
    return block_size(D) * -(-rows // block_size(D))


def _rowwise(block: Features, acting: Array) -> Array:
    """c~^T A x~ for every prompt of a block."""
    product = block.context @ acting
    product *= block.query
    return product.sum(axis=1)


def _pair_index(size: int, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
    """Position of the unordered pair {i, k} in a list of pairs, shape (size, size)."""
    index = np.zeros((size, size), dtype=np.intp)
    index[first, second] = index[second, first] = np.arange(len(first))
    return index


def compress(prompts: Prompts) -> Features:
    """Features of prompts: c~ = (1/N) sum_i y_i (x_i; y_i), without building Z."""
    labels = prompts.labels
    context = np.empty((prompts.n, prompts.D + 1))
    context[:, :-1] = (labels[:, None, :] @ prompts.tokens)[:, 0, :]
    context[:, -1] = np.sum(labels**2, axis=1)
    context /= prompts.N
    return Features(context, prompts.query, prompts.target)


def draw_features(
    setting: Setting,
    rng: np.random.Generator,
    tasks: ArrayLike | None = None,
    *,
    n: int | None = None,
    law: PromptLaw = GAUSSIAN_PROMPTS,
    first: int = 0,
) -> Features:
    """Draw n prompts by the sampler of the law, from one generator, and keep their features.

    Args:
        setting: D, N, noise and K are used.
        rng: source of randomness, advanced by the call.
        tasks: (K, D) task matrix; without it, at finite K, one is drawn first.
        n: number of prompts; None: `setting.P`.
        law: of the prompts. Token by token, memory is bounded by batches beside 16 n (D+1) bytes.
        first: number of the first prompt, as in `prompts.prompt_batches`.

    Raises:
        ParameterError: bad n or tasks.
    """
    count = setting.P if n is None else check_integer("n", n, 1)
    used = draw_tasks(setting, rng, law) if tasks is None else check_tasks(tasks, setting.D, setting.K)
    if law.sampler == "sufficient":
        return Features(*draw_statistics(setting, count, rng, used, law, first))
    context, query, target = np.empty((count, setting.D + 1)), np.empty((count, setting.D)), np.empty(count)
    start = 0
    for batch in prompt_batches(setting, count, rng, used, law, first):
        part, rows = compress(batch), slice(start, start := start + batch.n)
        context[rows], query[rows], target[rows] = part.context, part.query, part.target
    return Features(context, query, target)
