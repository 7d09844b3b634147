"""Measures on a lattice in two logarithms: nodes handed to their lattice neighbours, independent factors multiplied in.

Averages of functions that are analytic in a strip around the real axes of log x and log corner need no more of a
measure than that: every node's weight goes to its neighbours by local interpolation, and a factor that multiplies x,
or x and the corner, is a convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import toeplitz

from replica_icl.numeric.averages.quadrature import Rule

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]

STENCIL = 12
"""Lattice neighbours per direction that a node is interpolated from."""
LARGEST_PRODUCT = float(np.prod(np.arange(0.5, STENCIL / 2) ** 2))
"""Largest product of distances to the stencil, in units of spacing^STENCIL."""
CHUNK = 1 << 9
"""Nodes that are merged at a time: neighbours along log x, whose shares stay in cache."""


def spacing_for(tolerance: float, strip: float = math.pi) -> float:
    """Spacing at which interpolation is good to `tolerance`.

    A function analytic in a strip of half-width w is interpolated to about LARGEST_PRODUCT (spacing / w)^STENCIL.
    """
    return float(strip * (tolerance / (3 * LARGEST_PRODUCT)) ** (1 / STENCIL))


@dataclass(frozen=True, eq=False)
class LatticeMeasure:
    """A measure, and what it carries, on a lattice in (log x, log corner).

    Attributes:
        spacing: of the lattice, in both directions.
        log_x, log_corner: its rows and columns.
        values: shape (1 + carried, rows, columns): weights, and weights times each of what is carried.
    """

    spacing: float
    log_x: Array
    log_corner: Array
    values: Array

    @classmethod
    def of(cls, log_x: Array, log_corner: Array, values: Array, spacing: float) -> LatticeMeasure:
        """Of nodes, shape (nodes,), with `values` of shape (1 + carried, nodes)."""
        order = np.argsort(log_x)
        rows, down, row_weights = _stencil(log_x[order], spacing)
        columns, right, column_weights = _stencil(log_corner[order], spacing)
        values = values[:, order]
        collected = np.zeros((len(values), rows.size, columns.size))
        for i in range(0, order.size, CHUNK):
            part = slice(i, i + CHUNK)
            first, last = down[part][0, 0], down[part][-1, -1] + 1  # the rows of these nodes' neighbours
            along_x = _placed(down[part] - first, row_weights[part], last - first)
            along_corner = _placed(right[part], column_weights[part], columns.size)
            collected[:, first:last] += (values[:, None, part] * along_x.T) @ along_corner
        return cls(spacing, rows, columns, collected)

    def times(self, rule: Rule) -> LatticeMeasure:
        """The measure of x T in the place of x, T independent of the rest: a convolution along log x."""
        nodes, weights = rule
        lattice, places, shares = _stencil(np.log(nodes), self.spacing)
        kernel = np.bincount(places.ravel(), (weights[:, None] * shares).ravel(), minlength=lattice.size)
        convolution = toeplitz(np.pad(kernel, (0, self.log_x.size - 1)), np.pad(kernel[:1], (0, self.log_x.size - 1)))
        rows = self.log_x[0] + lattice[0] + self.spacing * np.arange(self.log_x.size + lattice.size - 1)
        return LatticeMeasure(self.spacing, rows, self.log_corner, convolution @ self.values)

    def times_both(self, rule: Rule) -> LatticeMeasure:
        """The measure of x Y and corner Y, Y independent of the rest: a convolution along the diagonal.

        Args:
            rule: a trapezoid rule in log Y with the lattice's own spacing; its nodes need no interpolation.
        """
        nodes, weights = rule
        count, (_, rows, columns) = weights.size, self.values.shape
        values = np.zeros((len(self.values), rows + count - 1, columns + count - 1))
        for i, weight in enumerate(weights):
            values[:, i : i + rows, i : i + columns] += weight * self.values
        steps = math.log(nodes[0]) + self.spacing * np.arange(count - 1 + max(rows, columns))
        return LatticeMeasure(
            spacing=self.spacing,
            log_x=self.log_x[0] + steps[: rows + count - 1],
            log_corner=self.log_corner[0] + steps[: columns + count - 1],
            values=values,
        )

    def coarser(self, times: int) -> LatticeMeasure:
        """The measure on a lattice of a spacing that is so many times as large."""
        if times == 1:
            return self
        spacing = self.spacing * times
        rows, down, row_weights = _stencil(self.log_x, spacing)
        columns, right, column_weights = _stencil(self.log_corner, spacing)
        along_x, along_corner = _placed(down, row_weights, rows.size), _placed(right, column_weights, columns.size)
        return LatticeMeasure(spacing, rows, columns, along_x.T @ self.values @ along_corner)


def _stencil(t: Array, spacing: float) -> tuple[Array, Indices, Array]:
    """Lattice, and per node the places (nodes, STENCIL) of its neighbours on it and their Lagrange weights."""
    position = t / spacing
    first = np.floor(position).astype(int) - (STENCIL // 2 - 1)
    k = np.arange(STENCIL)
    distances = (position - first)[:, None] - k
    distances[distances == 0] = 1e-150  # a node on the lattice: its own place gets all of the weight
    weights = np.prod(distances, axis=1, keepdims=True) / (distances * _OTHERS)
    low = int(first.min())
    lattice = spacing * np.arange(low, int(first.max()) + STENCIL)
    return lattice, first[:, None] - low + k, weights


_OTHERS = np.array([math.prod(i - k for k in range(STENCIL) if k != i) for i in range(STENCIL)], dtype=float)
"""Products of a stencil point's distances to the other ones."""


def _placed(places: Indices, weights: Array, size: int) -> Array:
    """Weights at their places along an axis of this size, shape (nodes, size)."""
    placed = np.zeros((len(places), size))
    placed[np.arange(len(places))[:, None], places] = weights
    return placed
