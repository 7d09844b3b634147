"""Linear algebra of a task set: quadratic forms on the context side that tasks, tokens and corner single out.

A form F is one of u u^T and u e^T + e u^T for each task (u = w/|w|, e the last unit vector), I_D on the tokens, and
e e^T: the modes, 2 K + 2 of them in the order task (K), cross (K), rest, corner. Prompts of a task see the parts of
`theory.task_contexts`, task, across (I_D - u u^T), corner and cross, four combinations of modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]

LOCAL = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""Parts (task, across, corner, cross) in the modes (task, rest, corner, cross) of one task."""


@dataclass(frozen=True, eq=False)
class TaskForms:
    """The modes of a task matrix.

    Attributes:
        tasks: (K, D).
    """

    tasks: Array

    @property
    def K(self) -> int:
        return self.tasks.shape[0]

    @property
    def D(self) -> int:
        return self.tasks.shape[1]

    @property
    def count(self) -> int:
        """Number of modes."""
        return 2 * self.K + 2

    @cached_property
    def directions(self) -> Array:
        """u = w / |w|, (K, D)."""
        return self.tasks / np.linalg.norm(self.tasks, axis=1, keepdims=True)

    @cached_property
    def scaled(self) -> Array:
        """w / sqrt(D), (K, D)."""
        return self.tasks / np.sqrt(self.D)

    @cached_property
    def places(self) -> Rows:
        """Of each task's modes task, rest, corner, cross, (K, 4)."""
        own = np.arange(self.K)
        return np.stack([own, np.full(self.K, 2 * self.K), np.full(self.K, 2 * self.K + 1), self.K + own], axis=1)

    @cached_property
    def pulls(self) -> Rows:
        """Of each task's pulls along u and e, beyond the modes, (K, 2)."""
        return self.count + np.stack([np.arange(self.K), self.K + np.arange(self.K)], axis=1)

    def gathered(self, parts: Sequence[Any], weights: Array) -> Array:
        """Coefficients of the modes, (2 K + 2,), of coefficients per part and task, times a weight per task."""
        local = weights[:, None] * (np.stack([np.broadcast_to(np.ravel(x), self.K) for x in parts], axis=1) @ LOCAL.T)
        return np.concatenate([local[:, 0], local[:, 3], [local[:, 1].sum(), local[:, 2].sum()]])

    def combine(self, y: Array) -> Array:
        """sum_i y_i F_i, (D + 1, D + 1)."""
        K, D, u = self.K, self.D, self.directions
        total = np.zeros((D + 1, D + 1))
        total[:D, :D] = (u * y[:K, None]).T @ u
        total[:D, :D].flat[:: D + 1] += y[2 * K]
        total[D, :D] = total[:D, D] = y[K : 2 * K] @ u
        total[D, D] = y[2 * K + 1]
        return total

    def traces(self, G: Array) -> Array:
        """tr(F_i G) of a symmetric matrix, (2 K + 2,)."""
        D, u = self.D, self.directions
        task = np.einsum("kd,kd->k", u @ G[:D, :D], u)
        return np.concatenate([task, 2 * u @ G[:D, D], [np.trace(G[:D, :D]), G[D, D]]])

    def seen(self, traces: Array) -> tuple[Array, ...]:
        """What prompts of each task see of `traces`: per part an array (K, 1)."""
        return tuple((traces[self.places] @ LOCAL).T[:, :, None])

    def pulled(self, M: Array) -> tuple[Array, Array]:
        """u.M w/sqrt(D) and e.M w/sqrt(D) of each task, (K, 1) each."""
        D, w = self.D, self.scaled
        return np.einsum("kd,kd->k", self.directions @ M[:D], w)[:, None], (w @ M[D])[:, None]

    def pull(self, task: Any, corner: Any) -> Array:
        """sum_k (task_k u + corner_k e) w^T / sqrt(D), (D + 1, D)."""
        tokens = (self.directions * np.reshape(task, (-1, 1))).T @ self.scaled
        return np.vstack([tokens, np.broadcast_to(np.ravel(corner), self.K) @ self.scaled])

    def embedded(self, local: Array) -> Array:
        """Sum over tasks of a matrix on parts (K, 4, 4), as one on modes."""
        return self.placed(LOCAL @ local @ LOCAL.T, self.places, self.places, (self.count, self.count))

    def placed(self, values: Array, rows: Rows, columns: Rows, shape: tuple[int, int]) -> Array:
        """Sum over tasks of blocks (K, r, c) at rows (K, r) and columns (K, c) of each."""
        total = np.zeros(shape)
        np.add.at(total, (rows[:, :, None], columns[:, None, :]), values)
        return total

    def local(self, matrix: Array) -> Array:
        """Blocks on the parts of each task, (K, 4, 4), of a matrix on modes."""
        return LOCAL.T @ matrix[self.places[:, :, None], self.places[:, None, :]] @ LOCAL

    def gram(self, X: Array, Y: Array | None = None) -> Array:
        """tr(F_i X F_j Y), symmetrised, of symmetric matrices; (2 K + 2, 2 K + 2)."""
        Y = X if Y is None else Y
        K, D, u = self.K, self.D, self.directions
        uX, uY = u @ X[:D, :D], u @ Y[:D, :D]
        (HX, HY), (rX, rY) = (uX @ u.T, uY @ u.T), (u @ X[:D, D], u @ Y[:D, D])
        (eX, eY), (cX, cY) = (X[:D, D], Y[:D, D]), (X[D, D], Y[D, D])
        gram = np.zeros((self.count, self.count))
        task, cross, rest, last = slice(0, K), slice(K, 2 * K), 2 * K, 2 * K + 1
        gram[task, task] = HX * HY
        gram[task, cross] = HX * rY[:, None] + HY * rX[:, None]
        gram[cross, cross] = HX * cY + HY * cX + np.outer(rX, rY) + np.outer(rY, rX)
        gram[task, rest], gram[task, last] = np.sum(uX * uY, axis=1), rX * rY
        gram[cross, rest], gram[cross, last] = uX @ eY + uY @ eX, rX * cY + rY * cX
        gram[rest, rest], gram[rest, last], gram[last, last] = np.sum(X[:D, :D] * Y[:D, :D]), eX @ eY, cX * cY
        upper = np.triu(np.ones_like(gram), 1).astype(bool)
        gram.T[upper] = gram[upper]
        return gram

    def gram_slope(self, W: Array, Y: Array) -> Array:
        """Gradient of sum_ij W_ij tr(F_i X F_j Y) by X, for symmetric W: sum_ij W_ij F_j Y F_i, symmetric."""
        K, D, u = self.K, self.D, self.directions
        task, cross, rest, last = slice(0, K), slice(K, 2 * K), 2 * K, 2 * K + 1
        tokens, e, corner = Y[:D, :D], Y[:D, D], Y[D, D]
        uY, r = u @ tokens, u @ e
        H = uY @ u.T
        on_tokens = u.T @ (W[task, task] * H + W[cross, cross] * corner) @ u + W[rest, rest] * tokens
        half = u.T @ (W[task, cross] * r[:, None]) @ u + (u * W[task, rest][:, None]).T @ uY
        half += np.outer(u.T @ W[cross, rest], e)
        on_corner = u.T @ ((W[task, cross] * H).sum(axis=1) + W[cross, cross] @ r + W[task, last] * r)
        on_corner += (u.T @ W[cross, rest]) @ tokens + corner * (u.T @ W[cross, last]) + W[rest, last] * e
        slope = np.empty((D + 1, D + 1))
        slope[:D, :D] = on_tokens + half + half.T
        slope[:D, D] = slope[D, :D] = on_corner
        slope[D, D] = np.sum(W[cross, cross] * H) + 2 * W[cross, last] @ r + W[last, last] * corner
        return slope

    def between(self, left: Array, right: Array) -> Array:
        """left_z.F_i right_z of rows (z, D + 1), (2 K + 2, z)."""
        K, D, u = self.K, self.D, self.directions
        on_left, on_right = u @ left[:, :D].T, u @ right[:, :D].T
        found = np.empty((self.count, len(left)))
        found[:K], found[K : 2 * K] = on_left * on_right, on_left * right[:, D] + left[:, D] * on_right
        found[2 * K], found[2 * K + 1] = np.sum(left[:, :D] * right[:, :D], axis=1), left[:, D] * right[:, D]
        return found

    def applied(self, W: Array, rows: Array) -> Array:
        """sum_i W_iz F_i rows_z, (z, D + 1)."""
        K, D, u = self.K, self.D, self.directions
        on_rows = u @ rows[:, :D].T
        found = np.empty_like(rows)
        found[:, :D] = (W[:K] * on_rows + W[K : 2 * K] * rows[:, D]).T @ u + W[2 * K][:, None] * rows[:, :D]
        found[:, D] = np.sum(W[K : 2 * K] * on_rows, axis=0) + W[2 * K + 1] * rows[:, D]
        return found

    @cached_property
    def every(self) -> Rows:
        """Of each task's modes task, rest, corner, cross and its two pulls, (K, 6)."""
        return np.concatenate([self.places, self.pulls], axis=1)

    def times(self, local: Array, dense: Array) -> Array:
        """A sum over tasks of blocks (K, 6, 6) on modes and pulls, times a matrix on them."""
        K = self.K
        product = local @ dense[self.every]
        found = np.empty_like(product, shape=dense.shape)
        found[:K], found[K : 2 * K] = product[:, 0], product[:, 3]
        found[2 * K], found[2 * K + 1] = product[:, 1].sum(axis=0), product[:, 2].sum(axis=0)
        found[self.count : self.count + K], found[self.count + K :] = product[:, 4], product[:, 5]
        return found

    def blocks(self, left: Array, right: Array) -> Array:
        """Blocks (K, 6, 6) on modes and pulls of each task of a product of two matrices."""
        return np.asarray(left[self.every] @ right[:, self.every].transpose(1, 0, 2))
