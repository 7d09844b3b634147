"""Nodes of the prompt law given each task: products of one-dimensional rules, of which the heavy ones are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.groups import Groups, multiplied_out
from replica_icl.numeric.averages.prompt_nodes import STEEPER, PromptNodes, factor_rules
from replica_icl.setting import Setting

Array = NDArray[np.floating[Any]]

PIECE = 2**13
"""Numbers in one intermediate array of the prompt averages."""


class TaskNodes(PromptNodes):
    """Nodes of the prompt law given each of K tasks: scalars (K or 1, nodes)."""

    def average(self, integrands: Callable[..., Groups]) -> tuple[Any, ...]:
        """As for one prompt law, in pieces whose intermediate arrays fit the processor's cache."""
        tasks = max(len(x) for x in self.scalars)
        size = max(1, PIECE // tasks)
        total: list[Any] = []
        for start in range(0, self.weights.shape[-1], size):
            part = slice(start, start + size)
            values = multiplied_out(integrands(*(x[:, part] for x in self.scalars)))
            found = [value @ self.weights[part] for value in values]
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        return tuple(value[..., None] for value in total)


def task_nodes(
    model: Model,
    setting: Setting,
    omega: Array,
    tolerance: float,
    steepest: float,
    check: bool = False,
) -> TaskNodes:
    """Nodes for averages over the prompts of each task, to a relative `tolerance`.

    Args:
        omega: |w|^2 / D of the tasks, (K, 1).
        steepest: largest T D c~.V c~ that will be met at the mean prompt.
        check: trapezoid rules for every factor, to judge the others by.
    """
    decade = float(10.0 ** np.ceil(np.log10(max(STEEPER * steepest, 1.0))))
    rules = factor_rules(model, setting.D, setting.N, setting.noise, tolerance, decade, gauss=not check)
    names = [name for name in rules if name != "omega"]
    grid = np.meshgrid(*(rules[name][0] for name in names), indexing="ij")
    weights: Array = np.ones(1)
    for name in names:
        weights = np.multiply.outer(weights, rules[name][1]).ravel()
    factors: dict[str, Array] = {name: axis.ravel() for name, axis in zip(names, grid, strict=True)}
    sizes = {"D": float(setting.D), "N": float(setting.N), "rho": setting.noise}

    def scalars(omega: Any) -> tuple[Array, ...]:
        out = model.given_tasks.scalars(NUMPY, **factors, omega=omega, **sizes)
        return out.T, out.p, out.x, out.l

    keep = _heavy(weights, scalars(1.0), 0.1 * tolerance, decade)
    factors = {name: axis[keep][None, :] for name, axis in factors.items()}
    weights = weights[keep] / weights[keep].sum()
    return TaskNodes(scalars(omega), weights)


def _heavy(weights: Array, scalars: Sequence[Array], negligible: float, steepest: float) -> NDArray[np.intp]:
    """Nodes that are left when those are dropped that together contribute at most `negligible` to any average.

    In units of its mean z an integrand grows like z^2 to the right, and to the left like 1 / (1 + b z)^2, b anywhere
    up to `steepest`.
    """
    T, p, x, corner = (np.ravel(scalar) for scalar in scalars)
    share = np.zeros_like(weights)
    for z in (T * (p**2 + x), T * corner**2):
        z = z / (weights @ z / weights.sum())
        for slope in 10.0 ** np.arange(np.ceil(np.log10(steepest)) + 1):
            contributions = weights * ((1 + z) / (1 + slope * z)) ** 2
            np.maximum(share, contributions / contributions.sum(), out=share)
    order = np.argsort(share)
    return np.sort(order[np.cumsum(share[order]) > negligible])
