"""How a form of a prompt's context scatters over the directions across its task: what matrices contribute, per task.

For two matrices the parts are u.X Pi Y u (task), e.X Pi Y e (corner), u.X Pi Y e (cross) and
tr(Pi X Pi Y) - tr(Pi X) tr(Pi Y) / (D - 1) (across), Pi = I - u u^T on the tokens; with the task's row the pulls are
u.X Pi M w/sqrt(D) and e.X Pi M w/sqrt(D). Their coefficients are those of `theory.task_contexts.variance_form`. All of
them vanish where V is isotropic; it is not for K < D and few prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.numeric.task_forms import TaskForms

Array = NDArray[np.floating[Any]]


def _dot(left: Array, right: Array) -> Array:
    return np.sum(left * right, axis=1)


@dataclass(frozen=True, eq=False)
class Across:
    """A symmetric matrix as prompts of each task see it across the task.

    Attributes:
        forms: of the task set.
        matrix: (D + 1, D + 1).
    """

    forms: TaskForms
    matrix: Array

    @cached_property
    def rows(self) -> Array:
        """u.X on the tokens, (K, D)."""
        return self.forms.directions @ self.matrix[: self.forms.D, : self.forms.D]

    @cached_property
    def own(self) -> Array:
        """u.X u, (K,)."""
        return _dot(self.rows, self.forms.directions)

    @cached_property
    def task(self) -> Array:
        """Pi X u, (K, D)."""
        return self.rows - self.own[:, None] * self.forms.directions

    @cached_property
    def corner(self) -> Array:
        """Pi X e, (K, D)."""
        return _across(self.forms, np.broadcast_to(self.matrix[:-1, -1], self.rows.shape))

    @cached_property
    def mean(self) -> Array:
        """tr(Pi X) / (D - 1), (K,)."""
        return (np.trace(self.matrix[:-1, :-1]) - self.own) / (self.forms.D - 1)

    def parts(self, other: Across) -> Array:
        """The parts of this matrix with another, (K, 4) in the order task, across, corner, cross."""
        product = np.sum(self.matrix[:-1, :-1] * other.matrix[:-1, :-1]) - 2 * _dot(self.rows, other.rows)
        across = product + self.own * other.own - self.mean * other.mean * (self.forms.D - 1)
        cross = (_dot(self.task, other.corner) + _dot(self.corner, other.task)) / 2
        return np.stack([_dot(self.task, other.task), across, _dot(self.corner, other.corner), cross], axis=1)

    def slope(self, weights: Array) -> Array:
        """Gradient by the other matrix of a sum of parts with weights (K, 4); symmetric."""
        forms, u = self.forms, self.forms.directions
        on_task, on_across, on_corner, on_cross = weights.T[:, :, None]
        half_cross = on_cross / 2
        by_task = on_task * self.task + half_cross * self.corner
        total = _outer(forms, by_task, half_cross * self.task + on_corner * self.corner)
        tokens = total[:-1, :-1]
        half = (on_across * u).T @ self.rows
        tokens += on_across.sum() * self.matrix[:-1, :-1] - half - half.T
        tokens += (on_across * (self.own + self.mean)[:, None] * u).T @ u
        tokens.flat[:: forms.D + 1] -= np.sum(on_across[:, 0] * self.mean)
        return total


def _across(forms: TaskForms, rows: Array) -> Array:
    """Pi of each task on a row of tokens each."""
    return rows - _dot(rows, forms.directions)[:, None] * forms.directions


def _outer(forms: TaskForms, by_task: Array, by_corner: Array) -> Array:
    """Gradient by X of sum_k by_task_k.X u_k + by_corner_k.X e, symmetric."""
    D = forms.D
    total = np.zeros((D + 1, D + 1))
    half = by_task.T @ forms.directions / 2
    total[:D, :D] = half + half.T
    total[:D, D] = total[D, :D] = by_corner.sum(axis=0) / 2
    return total


class Scatter:
    """Parts of V with itself and with G, and pulls of V with M, at each task; and their gradients."""

    def __init__(self, forms: TaskForms, V: Array, G: Array, M: Array):
        self.forms, self.V, self.G = forms, Across(forms, V), Across(forms, G)
        self.answer = _across(forms, forms.scaled @ M[:-1].T)  # Pi M w / sqrt(D)
        self.own = self.V.parts(self.V)
        self.shared = 2 * self.V.parts(self.G)
        self.pulls = np.stack([_dot(self.V.task, self.answer), _dot(self.V.corner, self.answer)], axis=1)

    def pull_slope_V(self, weights: Array) -> Array:
        """Gradient by V of a sum of pulls with weights (K, 2); symmetric."""
        return _outer(self.forms, weights[:, :1] * self.answer, weights[:, 1:] * self.answer)

    def pull_slope_M(self, weights: Array) -> Array:
        """Gradient by M of the same, (D + 1, D)."""
        rows = weights[:, :1] * self.V.task + weights[:, 1:] * self.V.corner
        return np.vstack([rows.T @ self.forms.scaled, np.zeros((1, self.forms.D))])
