"""The fixed point of a map, many independent points at once, each until its own residual is small.

The map is the theory's own: fields from overlaps, overlaps from fields, the state evolution of message passing. From
where nothing has been learnt it converges by itself when damped, if slowly where the ground state is hardly unique;
Newton's method started there may not. So the map is iterated until Newton steps, which are tried now and then, shorten
its residual. Of the map nothing has to be known but its values: a Jacobian by differences serves any prior, and whether
a point is a solution is told by the residual of the undamped map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]
Map = Callable[[Array, Indices], Array]
"""Coordinates of some points, shape (active, n), and their indices -> the same, mapped."""

DIFFERENCE = 1e-5
"""Half the step of the differences, in the coordinates of the map (logarithms)."""
DAMPING = 0.7
"""Share of the map's own step that is taken at first; undamped it may end in a cycle of two."""
SHARES = 0.2, 10.0
"""Least and largest share: it grows while steps point the same way and shrinks when they turn around."""
NEAR = 0.1
"""Residual from which Newton steps are tried."""
PATIENCE = 6
"""Steps of the map after a Newton step that did not shorten the residual."""


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Where the iteration of each point ended.

    Attributes:
        x: shape (points, n).
        residual: largest |map(x) - x| over the coordinates, shape (points,).
        iterations: steps, shape (points,).
    """

    x: Array
    residual: Array
    iterations: Indices


def fixed_point(apply: Map, start: Array, tolerance: float, max_iterations: int) -> FixedPoint:
    """Iterate x -> map(x) from `start`, shape (points, n), with Newton steps near the end.

    A point ends when its residual is below `tolerance` and does not halve any more.
    """
    points = len(start)
    x, image = start.copy(), apply(start, np.arange(points))
    residual = _distance(image, x)
    iterations, waiting = np.zeros(points, dtype=int), np.zeros(points, dtype=int)
    share = np.full(points, DAMPING)
    active = np.flatnonzero(np.isfinite(residual) & (residual > 0))
    for _ in range(max_iterations):
        if not active.size:
            break
        iterations[active] += 1
        waiting[active] -= 1
        by_newton = (residual[active] < NEAR) & (waiting[active] <= 0)
        trial = x[active] + share[active, None] * (image[active] - x[active])
        if by_newton.any():
            some = active[by_newton]
            trial[by_newton] = x[some] + _newton_step(apply, x[some], image[some], some)
        landed = apply(trial, active)
        size = _distance(landed, trial)
        halved = size < residual[active] / 2
        finished = (residual[active] <= tolerance) & ~halved
        # A Newton step counts only where it shortens the residual, a longer step than the map's where it keeps it.
        refused = by_newton & ~halved
        waiting[active[refused]] = PATIENCE
        far = ~by_newton & (share[active] > DAMPING) & ~(size < 1.5 * residual[active])
        share[active[far]] = DAMPING
        refused |= far
        taken = ~finished & ~refused
        moved = active[taken]
        turn = _cosine(landed[taken] - trial[taken], image[moved] - x[moved])
        share[moved] = np.clip(share[moved] * np.where(turn > 0.9, 1.2, np.where(turn < 0, 0.7, 1.0)), *SHARES)
        x[moved], image[moved], residual[moved] = trial[taken], landed[taken], size[taken]
        active = active[~finished & np.isfinite(residual[active]) & (residual[active] > 0)]
    return FixedPoint(x, residual, iterations)


def _distance(image: Array, x: Array) -> Array:
    return np.abs(image - x).max(axis=1)


def _cosine(a: Array, b: Array) -> Array:
    norms = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)


def _newton_step(apply: Map, x: Array, image: Array, index: Indices) -> Array:
    """-(d (map - x) / dx)^-1 (map - x); the map's own step where the Jacobian is singular or no number."""
    points, n = x.shape
    jacobian = np.empty((points, n, n))
    for j in range(n):
        shift = DIFFERENCE * np.eye(n)[j]
        jacobian[:, :, j] = (apply(x + shift, index) - apply(x - shift, index)) / (2 * DIFFERENCE)
    jacobian -= np.eye(n)
    with np.errstate(all="ignore"):
        bad = ~np.all(np.isfinite(jacobian), axis=(1, 2))
        bad |= ~(np.abs(np.linalg.det(np.where(bad[:, None, None], 1.0, jacobian))) > 1e-300)
    jacobian[bad] = -np.eye(n)
    return -np.linalg.solve(jacobian, (image - x)[:, :, None])[:, :, 0]
