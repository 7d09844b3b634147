"""The prompt law as nodes and weights, and averages over it.

The theory's integrands see a prompt through x = T |c|^2 and the corner l^2 / |c|^2, and are polynomials in c.w / |c|^2
and |w|^2 / |c|^2, whose means over the task are exact. With tokens and labels first (`model.prompts.gaussian_context`),

    x = T Y norm(signal, silent),     corner = Y corner(signal, silent),

of four independent chi-squares. In (log x, log corner) the integrands are analytic in a strip around the real axes,
however few the degrees of freedom and however small the ridge, and T and Y act by convolution. There are two rules:

- Densities: at few labels T and Y have smooth densities, and the joint density of log x and log corner at a lattice
  point is a sum over the nodes of the other two factors. The trapezoid rule on that lattice converges exponentially.
- Interpolation: the weight of every node is handed to its neighbours on a lattice, for any number of labels.

The first is used where it can be and judged by the second; with many labels the second with Gauss rules is judged by
the second with trapezoid rules on a finer lattice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.groups import Groups
from replica_icl.numeric.averages.lattice import LatticeMeasure, spacing_for
from replica_icl.numeric.averages.quadrature import (
    Rule,
    chi_square_rule,
    log_density,
    normal_rule,
    safe_step,
    trapezoid_chi_square,
)

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]

CHUNK = 1 << 9
"""Nodes whose densities are added up at a time."""
STEEPER = 4.0
"""How much steeper integrands are met than at the mean prompt: the other factors' norms exceed their means."""
BUCKET = 3
"""Rules reach towards small norms in steps of 10^BUCKET of the slope, so that neighbouring ridges share them."""
FEW_LABELS = 100
"""Up to here T and the label norm have densities that a lattice resolves."""
CARRIED = {1: ("g", "omega"), 2: ("g", "omega", "gg", "gomega", "omegaomega")}
"""What nodes know of the task, by the degree of the integrands in g and omega."""


@dataclass(frozen=True, eq=False)
class Contexts:
    """Nodes of what T and Y multiply: the other factors of a prompt's context, or all but T; shape (nodes,).

    Attributes:
        log_x: log |c|^2.
        log_corner: log l^2 / |c|^2.
        weights: adding to one.
        carried: means over the task, shape (parts, nodes), as the coefficients of corner^-k that `parts` lists.
        parts: of what is carried the name and k.
    """

    log_x: Array
    log_corner: Array
    weights: Array
    carried: Array
    parts: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, model: Model, rules: dict[str, Rule], D: int, N: int, noise: float, degree: int = 1) -> Contexts:
        """The product of the rules of `signal` and `silent`, and `Y` if it is there."""
        grid = [axis.ravel() for axis in np.meshgrid(*(nodes for nodes, _ in rules.values()), indexing="ij")]
        weights = np.ones(())
        for _, w in rules.values():
            weights = np.multiply.outer(weights, w)
        factors = dict(zip(rules, grid, strict=True))
        label_norm = factors.pop("Y", np.ones(()))
        out = model.fresh_tasks.context(NUMPY, **factors, D=D, N=N, rho=noise)
        means = dict(zip(model.fresh_tasks.MOMENTS, out.moments, strict=True))
        # 1 / Y is corner(signal, silent) / corner.
        carried = {
            (name, k): mean * out.corner**k
            for name in CARRIED[degree]
            for k, mean in enumerate(means[name])
            if np.any(mean)
        }
        return cls(
            log_x=np.log(label_norm * out.norm),
            log_corner=np.log(label_norm * out.corner),
            weights=weights.ravel(),
            carried=np.stack(np.broadcast_arrays(*carried.values())),
            parts=tuple(carried),
        )

    @property
    def values(self) -> Array:
        """Weights, and weights times what is carried, shape (1 + parts, nodes)."""
        return np.concatenate([self.weights[None], self.weights * self.carried])

    def without(self, negligible: float, steepest: float = 1.0) -> Contexts:
        """The nodes that contribute more than `negligible` of any average."""
        keep = _heavy(self.weights, self.log_x, self.log_corner, negligible, steepest)
        return Contexts(self.log_x[keep], self.log_corner[keep], self.weights[keep], self.carried[:, keep], self.parts)


@dataclass(frozen=True, eq=False)
class PromptNodes:
    """Nodes and weights of one prompt's scalars.

    Attributes:
        scalars: T, omega, g, a, l (see `symbolic.symbols`), each of shape (1, number of nodes).
        weights: shape (number of nodes,), adding to one; some may be negative.
    """

    scalars: tuple[Array, ...]
    weights: Array

    @classmethod
    def of(
        cls,
        log_x: Array,
        log_corner: Array,
        values: Array,
        parts: tuple[tuple[str, int], ...],
        negligible: float,
        steepest: float,
    ) -> PromptNodes:
        """The points that carry weight; log x of shape (rows, columns), `values` of (1 + parts, rows, columns).

        T multiplies every other scalar in the integrands, so that it is absorbed into them: T = 1.
        """
        log_x, log_corner = (np.broadcast_to(axis, values[0].shape).ravel() for axis in (log_x, log_corner))
        keep = _heavy(values[0].ravel(), log_x, log_corner, negligible, steepest)
        log_x, log_corner = log_x[keep], log_corner[keep]
        weights, *carried = values.reshape(len(values), -1)[:, keep]
        moments: dict[str, Any] = {}
        for (name, power), part in zip(parts, carried, strict=True):
            moments[name] = moments.get(name, 0.0) + part * np.exp(-power * log_corner)
        x, corner = np.exp(log_x), np.exp((log_corner + log_x) / 2)
        if len(moments) == len(CARRIED[1]):
            aligned, task_norm = (moments[name] / weights for name in CARRIED[1])
        else:
            (aligned, task_norm), weights = _second_degree(weights, *(moments[name] for name in CARRIED[2]))
            x, corner = np.tile(x, 6), np.tile(corner, 6)
        scalars = (np.ones_like(x), task_norm * x, aligned * x, x, corner)
        return cls(tuple(scalar[None, :] for scalar in scalars), weights)

    def average(self, integrands: Callable[..., Groups]) -> tuple[Any, ...]:
        """Averages of kernels times factors; kernels are broadcast to (points, nodes), averages come as (points, 1)."""
        found: list[Array] = []
        for kernel, factors in integrands(*self.scalars):
            columns = np.vstack([x * self.weights for x in factors])
            if np.ndim(kernel) == 0:
                found += list(kernel * columns.sum(axis=1)[:, None, None])
            else:
                found += list((kernel @ columns.T).T[..., None])
        return tuple(found)


def _second_degree(
    weights: Array, g: Array, omega: Array, gg: Array, mixed: Array, omega2: Array
) -> tuple[Array, Array]:
    """Six points per node and their weights, exact for polynomials of second degree in g / |c|^2 and omega / |c|^2.

    Args:
        weights: shape (nodes,); the others are weights times moments.
    """
    # The points are as far out as the two variables are, which at small norms is far: no digits are lost.
    scale_g, scale_omega = (np.sqrt(np.abs(square / weights)) for square in (gg, omega2))
    g, omega = g / scale_g, omega / scale_omega
    gg, mixed, omega2 = gg / scale_g**2, mixed / (scale_g * scale_omega), omega2 / scale_omega**2
    shares = [(gg + g) / 2 - mixed, (gg - g) / 2, (omega2 + omega) / 2 - mixed, (omega2 - omega) / 2, mixed]
    points = np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1)], dtype=float).T[:, :, None]
    points = points * np.stack([scale_g, scale_omega])[:, None]
    return points.reshape(2, -1), np.concatenate([weights - sum(shares), *shares])


def _heavy(weights: Array, log_x: Array, log_corner: Array, negligible: float, steepest: float) -> Indices:
    """Indices of the nodes that are left when the lightest are dropped: of any average at most `negligible`.

    In units of their means, an integrand grows to the right like x^2 or (x corner)^2 at most, and to the left like
    1 / (1 + b x)^2 or 1 / (1 + b x corner)^2, b anywhere from 0 to `steepest`.
    """
    size = np.abs(weights)
    share = np.zeros_like(size)
    for log_z in (log_x, log_x + log_corner):
        z = np.exp(log_z)
        z /= size @ z / size.sum()
        for slope in (0.0, *10.0 ** np.arange(math.ceil(math.log10(steepest)) + 1)):
            contributions = size * ((1 + z) / (1 + slope * z)) ** 2
            np.maximum(share, contributions / contributions.sum(), out=share)
    return np.flatnonzero(share * share.size > negligible)


def factor_rules(
    model: Model, D: int, N: int, noise: float, tolerance: float, steepest: float, gauss: bool
) -> dict[str, Rule]:
    """One rule per independent factor of the law with the task first, by the factor's name."""
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


def _by_densities(contexts: Contexts, degrees: Any, powers: Any, tolerance: float, steepest: float) -> PromptNodes:
    """The rule for few labels: densities of log (x / corner) and log corner, of T and Y at the other factors' nodes."""
    at_one = {"T": contexts.log_x - contexts.log_corner, "Y": contexts.log_corner}
    axes = {}
    for name, position in at_one.items():
        dof, power = float(getattr(degrees, name)), getattr(powers, name)
        step = safe_step(dof, tolerance, power)
        reach, _ = trapezoid_chi_square(dof, step, math.log(tolerance) - 3, 2 * power, steepest)
        first = math.floor((position.min() + math.log(reach[0])) / step)
        last = math.ceil((position.max() + math.log(reach[-1])) / step)
        axes[name] = step * np.arange(first, last + 1)

    def densities(name: str, part: slice) -> Array:
        """Shares of the lattice's points along one axis, shape (nodes of the part, points)."""
        density = np.exp(log_density(float(getattr(degrees, name)), axes[name] - at_one[name][part, None]))
        return np.asarray(density / density.sum(axis=1, keepdims=True))

    values = np.zeros((len(contexts.values), axes["T"].size, axes["Y"].size))
    for i in range(0, contexts.weights.size, CHUNK):
        part = slice(i, i + CHUNK)
        along_x = contexts.values[:, None, part] * densities("T", part).T
        values += along_x @ densities("Y", part)
    log_corner = axes["Y"]
    log_x = axes["T"][:, None] + log_corner
    return PromptNodes.of(log_x, log_corner, values, contexts.parts, 0.01 * tolerance, steepest)


@lru_cache(maxsize=64)
def _nodes(
    model: Model, D: int, N: int, noise: float, tolerance: float, steepest: float, check: bool, degree: int
) -> PromptNodes:
    functions = model.fresh_tasks
    degrees, powers = functions.context_degrees(NUMPY, D=D, N=N), functions.context_powers(NUMPY)
    few = N <= FEW_LABELS
    if check and not few:
        tolerance /= 10

    def rule(name: str, steepest: float) -> Rule:
        dof, power = float(getattr(degrees, name)), getattr(powers, name)
        return chi_square_rule(dof, tolerance, steepest, power, gauss=few or not check)

    # Where the other factors are large, one factor meets slopes far above those at the mean prompt: rules are made for
    # some decades at least. With label noise |c|^2 does not vanish with what silent tokens say: no further than that,
    # in coarse steps that neighbours share.
    widest = max(steepest, 10.0**BUCKET)
    none, one = (functions.context(NUMPY, signal=1e-12, silent=x, D=D, N=N, rho=noise).norm for x in (0.0, 1.0))
    slope = 2.0 ** math.ceil(math.log2(max(one / none - 1, 1e-6)))
    reach = {"T": widest, "signal": widest, "silent": min(widest, slope), "Y": widest}
    inner = ["signal", "silent"] if few else ["signal", "silent", "Y"]
    contexts = Contexts.of(model, {name: rule(name, reach[name]) for name in inner}, D, N, noise, degree)
    contexts = contexts.without(0.01 * tolerance, steepest)
    if few and check:
        return _by_densities(contexts, degrees, powers, tolerance, steepest)
    spacing, times = spacing_for(tolerance), 1
    if few:
        step = safe_step(degrees.Y, tolerance, powers.Y)
        times = max(1, round(spacing / step))
        spacing = min(step, spacing / times)
    lattice = LatticeMeasure.of(contexts.log_x, contexts.log_corner, contexts.values, spacing)
    if few:
        tails = math.log(tolerance) - 3
        label_norm = trapezoid_chi_square(degrees.Y, spacing, tails, 2 * powers.Y, steepest)
        lattice = lattice.times_both(label_norm).coarser(times)
    lattice = lattice.times(rule("T", reach["T"]))
    return PromptNodes.of(
        lattice.log_x[:, None], lattice.log_corner, lattice.values, contexts.parts, 0.01 * tolerance, steepest
    )


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
    """Nodes for averages over the prompt law at given D, N and label noise rho; the same ones at the next call.

    Args:
        model: whose theory of fresh tasks states the law.
        tolerance: relative accuracy of averages.
        steepest: largest b T |c|^2 V at the mean prompt; decides how far the rules reach towards small norms.
        check: an independent rule to judge the first one by.
        degree: of the integrands in c.w and |w|^2 together, 1 or 2.
    """
    bucket = math.ceil(math.log10(max(STEEPER * steepest, 1.0)) / BUCKET)
    return _nodes(model, D, N, noise, tolerance, 10.0 ** (BUCKET * bucket), check, degree)


def mean_prompt(model: Model, D: int, N: int, noise: float) -> PromptNodes:
    """The prompt with every factor at its mean: where a solve starts."""
    one = (np.ones(1), np.ones(1))
    prompt = Contexts.of(model, {"signal": one, "silent": one}, D, N, noise)
    return PromptNodes.of(prompt.log_x, prompt.log_corner, prompt.values, prompt.parts, 0.0, 1.0)
