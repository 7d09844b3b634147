"""The sufficient statistics of a set of prompts: context vector, query and target.

A linear-attention prediction is y^ = c~^T W (x~; 0), so a prompt enters the energy only through
s = c~ (outer) x~ and y~. Source: Li et al., arXiv:2408.02288 (features divided by N).

Order of the acting weights everywhere in the simulator: sigma = W[:, :D].ravel(), row-major, so that
sigma[i D + j] = W[i, j] acts on c~_i x~_j, i = 0..D the context side and j = 0..D-1 the query side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator.attention import check_weights
from replica_icl.simulator.prompts import Prompts, prompt_batches

Array = NDArray[np.float64]

_CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True, eq=False)
class Features:
    """P prompts compressed to what the energy sees.

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

    @property
    def acting_weights(self) -> int:
        """D (D + 1), the number of weights that act."""
        return self.D * (self.D + 1)

    def predict(self, W: ArrayLike) -> Array:
        """Predictions y^ = c~^T W (x~; 0) of a (D+1, D+1) weight matrix, shape (P,)."""
        return self.apply(check_weights(W, self.D)[:, : self.D])

    def apply(self, acting: Array) -> Array:
        """Phi sigma for acting weights of shape (D+1, D), by one thin product; shape (P,)."""
        return np.sum((self.context @ acting) * self.query, axis=1)

    def apply_transpose(self, dual: Array) -> Array:
        """Phi^T alpha = C^T diag(alpha) X for one number per prompt, shape (D+1, D)."""
        return self.context.T @ (dual[:, None] * self.query)

    def explicit(self, all_weights: bool = False) -> Array:
        """Feature rows s = vec c~ (outer) x~, shape (P, D(D+1)), or (P, (D+1)^2) with (x~; 0) for x~."""
        query = np.pad(self.query, ((0, 0), (0, 1))) if all_weights else self.query
        return (self.context[:, :, None] * query[:, None, :]).reshape(self.P, -1)

    def gram(self) -> Array:
        """Second moment S = (1/P) sum s s^T over the acting weights, shape (D(D+1), D(D+1)).

        S_(ij),(kl) = (1/P) sum c~_i c~_k x~_j x~_l is symmetric under i <-> k and under j <-> l, so only a
        quarter of it is computed, as one product of pair products, in chunks of prompts of bounded memory.
        """
        D = self.D
        rows, columns = np.triu_indices(D + 1)
        left, right = np.triu_indices(D)
        moments = np.zeros((len(rows), len(left)))
        chunk = max(1, _CHUNK_BYTES // (8 * len(rows)))
        for start in range(0, self.P, chunk):
            c, x = self.context[start : start + chunk], self.query[start : start + chunk]
            moments += (c[:, rows] * c[:, columns]).T @ (x[:, left] * x[:, right])
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
        context = self.context if context_metric is None else self.context * np.sqrt(context_metric)
        kernel = context @ context.T
        kernel *= self.query @ self.query.T
        return kernel


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


def draw_features(setting: Setting, rng: np.random.Generator, tasks: ArrayLike | None = None) -> Features:
    """Draw `setting.P` prompts token by token and keep their features (16 P (D+1) bytes).

    Arguments and errors as in `prompts.prompt_batches`.
    """
    context = np.empty((setting.P, setting.D + 1))
    query = np.empty((setting.P, setting.D))
    target = np.empty(setting.P)
    start = 0
    for batch in prompt_batches(setting, setting.P, rng, tasks):
        part, rows = compress(batch), slice(start, start + batch.n)
        context[rows], query[rows], target[rows] = part.context, part.query, part.target
        start += batch.n
    return Features(context, query, target)
