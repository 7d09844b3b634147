"""The prompt law as a few nodes and weights, and averages over it.

The theory's integrands see a prompt through x = T |c|^2 and l^2 / |c|^2, and linearly through c.w / |c|^2 and
|w|^2 / |c|^2. So the product rule over the independent factors, which may have 10^6 nodes, is merged onto a lattice in
(log x, log l^2 / |c|^2). In these variables the integrands are analytic in a strip around the real axes, however few
the degrees of freedom and however small the ridge; every node's weight is handed to its lattice neighbours by local
interpolation. A few hundred nodes are left, good for every P, ridge and temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import toeplitz

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.quadrature import Rule, chi_square_rule, normal_rule

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]

STENCIL = 8
"""Lattice neighbours per direction that a node is interpolated from."""
SPREAD = 4.0
"""How much steeper integrands are met than at the mean prompt: the other factors' norms exceed their means."""
CHUNK = 1 << 11
"""Nodes that are merged at a time, so that their shares stay in cache."""


@dataclass(frozen=True, eq=False)
class PromptMeasure:
    """A discrete measure of prompts, T left out, in the variables that integrands see; each of shape (nodes,).

    Attributes:
        log_x: log |c|^2.
        log_corner: log of l^2 / |c|^2.
        linear: (c.w / sqrt(D)) / |c|^2 and omega / |c|^2, shape (2, nodes); integrands are linear in these, or
            polynomials of second degree.
        weights: adding to one.
    """

    log_x: Array
    log_corner: Array
    linear: Array
    weights: Array

    def without(self, negligible: float, steepest: float = 1.0) -> PromptMeasure:
        """The measure without the nodes that contribute at most `negligible` to any average."""
        keep = _heavy(self.weights, self.log_x, negligible, steepest)
        return PromptMeasure(self.log_x[keep], self.log_corner[keep], self.linear[:, keep], self.weights[keep])

    def on_lattice(self, tolerance: float, degree: int = 1) -> LatticeMeasure:
        """The measure on a lattice on which 8-point interpolation of the integrands is good to `tolerance`.

        `degree` of the integrands in the linear variables, 1 or 2: which of their moments the lattice carries.

        The interpolation error of a function that is analytic in a strip of half-width pi is about
        43 (spacing / pi)^8, 43 being the largest product of distances to the stencil in units of spacing^8.
        """
        spacing = float(np.pi * (tolerance / 130) ** (1 / STENCIL))
        rows, down, row_weights = _stencil(self.log_x, spacing)
        columns, right, column_weights = _stencil(self.log_corner, spacing)
        aligned, task_norm = self.linear
        moments = [aligned, task_norm, *([aligned**2, aligned * task_norm, task_norm**2] if degree == 2 else [])]
        values = self.weights * np.stack([np.ones_like(aligned), *moments])
        collected = np.zeros((len(values), rows.size, columns.size))
        order = np.argsort(down[:, 0], kind="stable")
        firsts, starts = np.unique(down[order, 0], return_index=True)
        for first, members in zip(firsts, np.split(order, starts[1:]), strict=True):
            # Nodes with the same neighbours along log x: their shares in a block of STENCIL rows.
            for i in range(0, members.size, CHUNK):
                part = members[i : i + CHUNK]
                along_corner = np.zeros((part.size, columns.size))
                np.put_along_axis(along_corner, right[part], column_weights[part], axis=1)
                along_x = values[:, None, part] * row_weights[part].T
                collected[:, first : first + STENCIL] += along_x @ along_corner
        weights, *carried = collected
        return LatticeMeasure(spacing, rows, columns, weights, np.stack(carried))


@dataclass(frozen=True, eq=False)
class LatticeMeasure:
    """A measure of prompts on a lattice in (log x, log corner).

    Attributes:
        spacing: of the lattice, in both directions.
        log_x, log_corner: its rows and columns.
        weights: shape (rows, columns).
        carried: weight times each of the linear variables, shape (2, rows, columns); or with their squares and product,
            in the order (g, omega, g g, g omega, omega omega), shape (5, rows, columns).
    """

    spacing: float
    log_x: Array
    log_corner: Array
    weights: Array
    carried: Array

    def times(self, rule: Rule) -> LatticeMeasure:
        """The measure with x T in the place of x, T independent of the rest: a convolution along log x."""
        nodes, weights = rule
        lattice, places, shares = _stencil(np.log(nodes), self.spacing)
        kernel = np.bincount(places.ravel(), (weights[:, None] * shares).ravel(), minlength=lattice.size)
        convolution = toeplitz(np.pad(kernel, (0, self.log_x.size - 1)), np.pad(kernel[:1], (0, self.log_x.size - 1)))
        return LatticeMeasure(
            spacing=self.spacing,
            log_x=self.log_x[0] + lattice[0] + self.spacing * np.arange(self.log_x.size + lattice.size - 1),
            log_corner=self.log_corner,
            weights=convolution @ self.weights,
            carried=convolution @ self.carried,
        )

    def nodes(self, negligible: float, steepest: float = 1.0) -> PromptNodes:
        """The lattice points that carry weight, as scalars of a prompt.

        T multiplies every other scalar in the integrands, so that it is absorbed into them: T = 1.
        """
        grid = [axis.ravel() for axis in np.meshgrid(self.log_x, self.log_corner, indexing="ij")]
        keep = _heavy(self.weights.ravel(), grid[0], negligible, steepest)
        weights, carried = self.weights.ravel()[keep], self.carried.reshape(len(self.carried), -1)[:, keep]
        log_x, log_corner = (axis[keep] for axis in grid)
        x, corner = np.exp(log_x), np.exp((log_corner + log_x) / 2)
        if len(carried) == 2:
            aligned, task_norm = carried / weights
        else:
            (aligned, task_norm), weights = _second_degree(weights, carried)
            x, corner = np.tile(x, 6), np.tile(corner, 6)
        scalars = (np.ones_like(x), task_norm * x, aligned * x, x, corner)
        return PromptNodes(tuple(s[None, :] for s in scalars), weights)


def _second_degree(weights: Array, moments: Array) -> tuple[Array, Array]:
    """Six points per node and their weights, exact for polynomials of second degree in the two linear variables.

    Args:
        weights: shape (nodes,).
        moments: weight times (g, omega, g g, g omega, omega omega), shape (5, nodes).
    """
    g, omega, gg, mixed, omega2 = moments
    size = weights.size
    points = np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1)], dtype=float).T
    shares = [(gg + g) / 2 - mixed, (gg - g) / 2, (omega2 + omega) / 2 - mixed, (omega2 - omega) / 2, mixed]
    return np.repeat(points, size, axis=1), np.concatenate([weights - sum(shares), *shares])


def _heavy(weights: Array, log_x: Array, negligible: float, steepest: float) -> Indices:
    """Indices of the nodes that are left when the lightest are dropped, of total contribution below `negligible`.

    Relative to the mean prompt an integrand grows to the right like x^2 at most, and to the left like
    1 / (1 + steepest x)^2: a node's contribution is its weight times both.
    """
    x = np.exp(log_x)
    contributions = np.abs(weights) * ((1 + x) * (1 + steepest) / (1 + steepest * x)) ** 2
    return np.flatnonzero(contributions * contributions.size > negligible)


def _stencil(t: Array, spacing: float) -> tuple[Array, Indices, Array]:
    """Lattice, and per node the places (nodes, 8) of its neighbours on it and their Lagrange weights."""
    position = t / spacing
    first = np.floor(position).astype(int) - (STENCIL // 2 - 1)
    k = np.arange(STENCIL)
    distances = (position - first)[:, None] - k
    distances[distances == 0] = 1e-150  # a node on the lattice: its own place gets all of the weight
    others = np.array([np.prod((i - k)[k != i], dtype=float) for i in k])
    weights = np.prod(distances, axis=1, keepdims=True) / (distances * others)
    low = int(first.min())
    lattice = spacing * np.arange(low, int(first.max()) + STENCIL)
    return lattice, first[:, None] - low + k, weights


@dataclass(frozen=True, eq=False)
class PromptNodes:
    """Nodes and weights of one prompt's scalars.

    Attributes:
        scalars: T, omega, g, a, l (see `symbolic.symbols`), each of shape (1, number of nodes).
        weights: shape (number of nodes,), adding to one; some may be negative.
    """

    scalars: tuple[Array, ...]
    weights: Array

    def average(self, integrands: Callable[..., tuple[Any, ...]]) -> tuple[Any, ...]:
        """Averages of several integrands; each is broadcast to (points, nodes) and comes back as (points, 1)."""
        return tuple((value @ self.weights)[..., None] for value in integrands(*self.scalars))


def factor_rules(
    model: Model, D: int, N: int, noise: float, tolerance: float, steepest: float, gauss: bool
) -> dict[str, Rule]:
    """One rule per independent factor of the law, by the factor's name."""
    degrees = model.fresh_tasks.degrees_of_freedom(NUMPY, D=D, N=N)._asdict()
    powers = model.fresh_tasks.powers(NUMPY)._asdict()
    # With label noise |c|^2 does not vanish with the task: labels keep at least a share rho / (1 + rho) of their norm.
    reach = dict.fromkeys(degrees, steepest) | ({"omega": min(steepest, (1 + noise) / noise)} if noise else {})
    rules = {
        name: chi_square_rule(float(dof), tolerance, reach[name], int(powers[name]), gauss)
        for name, dof in degrees.items()
    }
    # Without label noise the Gaussian factor drops out of every scalar: one node is exact.
    rules["xi"] = (np.zeros(1), np.ones(1)) if noise == 0 else normal_rule(tolerance, gauss)
    return rules


def product_measure(model: Model, rules: dict[str, Rule], D: int, N: int, noise: float) -> PromptMeasure:
    """The product of all rules but T's, in the variables of `PromptMeasure`."""
    inner = {name: rule for name, rule in rules.items() if name != "T"}
    grid = np.meshgrid(*(nodes for nodes, _ in inner.values()), indexing="ij")
    weights = np.ones(())
    for _, w in inner.values():
        weights = np.multiply.outer(weights, w)
    factors = {name: axis.ravel() for name, axis in zip(inner, grid, strict=True)}
    scalars = model.fresh_tasks.scalars(NUMPY, T=1.0, **factors, D=D, N=N, rho=noise)
    a = scalars.a
    return PromptMeasure(
        log_x=np.log(a),
        log_corner=np.log(scalars.l**2 / a),
        linear=np.stack([scalars.g / a, scalars.omega / a]),
        weights=weights.ravel(),
    )


@lru_cache(maxsize=256)
def prompt_nodes(
    model: Model,
    D: int,
    N: int,
    noise: float,
    tolerance: float,
    steepest: float = 1.0,
    check: bool = False,
    degree: int = 1,
) -> PromptNodes:
    """Nodes for averages over the prompt law at given D, N and label noise rho.

    Args:
        model: whose theory of fresh tasks states the law.
        tolerance: relative accuracy of averages.
        steepest: largest b T |c|^2 V that will be met; decides how far the rules reach towards small norms.
        check: an independent rule to judge the first one by: trapezoid rules for every factor and another lattice,
            both ten times finer.
        degree: of the integrands in c.w and |w|^2 together, 1 or 2.
    """
    decade = float(10.0 ** np.ceil(np.log10(max(SPREAD * steepest, 1.0))))
    wanted = tolerance / 10 if check else tolerance
    rules = factor_rules(model, D, N, noise, wanted, decade, gauss=not check)
    negligible = 0.01 * wanted
    measure = product_measure(model, rules, D, N, noise).without(negligible, decade)
    return measure.on_lattice(wanted, degree).times(rules["T"]).nodes(negligible, decade)


def mean_prompt(model: Model, D: int, N: int, noise: float) -> PromptNodes:
    """The prompt with every factor at its mean: where a solve starts."""
    one = (np.ones(1), np.ones(1))
    names = model.fresh_tasks.degrees_of_freedom(NUMPY, D=D, N=N)._fields
    rules: dict[str, Rule] = {**dict.fromkeys(names, one), "xi": (np.zeros(1), np.ones(1))}
    return product_measure(model, rules, D, N, noise).on_lattice(1e-3).nodes(0.0)
