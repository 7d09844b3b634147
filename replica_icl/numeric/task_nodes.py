"""Nodes of the prompt law given each task: products of one-dimensional rules, and label noise where it decides.

Given the task, what a prompt's context has along it is p = <p> + sigma xi, xi a standard normal variable of label
noise. A prompt's term depends on it through 1 / (1 + chi), and chi is a quadratic form in p and l: where V is large
along one direction that noiseless prompts do not see (one task, a small ridge, few tokens), the integrand has a feature
in xi that is as narrow as the ridge is small, and a rule for smooth functions misses it. At given V the feature is
known: the two zeros of 1 + chi, center +- i distance. There xi = center + c log[(1 + e exp(t)) / (1 + e exp(-t))] is a
sinh of the right width that becomes linear in the Gaussian's tails, the integrand is analytic in |Im t| < pi/2, and the
trapezoid rule in t converges exponentially, however narrow the feature.
"""

from __future__ import annotations

import math
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
TAIL_STEP = 1.3
"""c: the slope of xi by t in the tails."""
FARTHEST = 30.0
"""A feature this many standard deviations away is none."""


class TaskNodes(PromptNodes):
    """Nodes of the prompt law given each of K tasks: scalars (K or 1, nodes), weights (nodes,) or (K, nodes)."""

    def average(self, integrands: Callable[..., Groups]) -> tuple[Any, ...]:
        """As for one prompt law, in pieces whose intermediate arrays fit the processor's cache."""
        tasks = max(len(x) for x in self.scalars)
        size = max(1, PIECE // tasks)
        total: list[Any] = []
        for start in range(0, self.weights.shape[-1], size):
            part = slice(start, start + size)
            values = multiplied_out(integrands(*(x[:, part] for x in self.scalars)))
            weights = self.weights[..., part]
            if weights.ndim == 1:
                found = [value @ weights for value in values]
            else:
                found = [np.einsum("kn,kn->k", np.broadcast_to(value, weights.shape), weights) for value in values]
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        return tuple(value[..., None] for value in total)


def task_nodes(
    model: Model,
    setting: Setting,
    omega: Array,
    tolerance: float,
    steepest: float,
    check: bool = False,
    seen: tuple[Array, ...] | None = None,
) -> TaskNodes:
    """Nodes for averages over the prompts of each task, to a relative `tolerance`.

    Args:
        omega: |w|^2 / D of the tasks, (K, 1).
        steepest: largest T D c~.V c~ that will be met at the mean prompt.
        check: trapezoid rules for every factor, to judge the others by.
        seen: parts of V at each task, (K, 1) each: label noise gets the rule that is made for them.
    """
    decade = float(10.0 ** np.ceil(np.log10(max(STEEPER * steepest, 1.0))))
    rules = factor_rules(model, setting.D, setting.N, setting.noise, tolerance, decade, gauss=not check)
    adapted = seen is not None and setting.noise > 0
    if adapted:
        rules["xi"] = (np.zeros(1), np.ones(1))
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
    if not adapted:
        return TaskNodes(scalars(omega), weights)
    assert seen is not None

    def chi(xi: float) -> Array:
        factors["xi"] = np.full_like(factors["xi"], xi)
        values = scalars(omega)
        found = model.given_tasks.averages(NUMPY, lambda x: multiplied_out(x(*values)), v=seen, D=sizes["D"]).chi
        return np.broadcast_to(found, (len(omega), weights.size))

    below, middle, above = chi(-1.0), chi(0.0), chi(1.0)
    linear, square = (above - below) / 2, np.maximum((above + below) / 2 - middle, 1e-300)
    center = -linear / (2 * square)
    distance = np.sqrt(np.maximum((1 + middle) / square - center**2, 0.0))
    of, xi, shares = _noise_rule(center, distance, tolerance, decade)
    factors = {name: axis[:, of] for name, axis in factors.items()} | {"xi": xi}
    every = weights[of] * shares
    found = scalars(omega)
    keep = _heavy(every.max(axis=0), [x.mean(axis=0) for x in found], 0.01 * tolerance, decade)
    kept = every[:, keep]
    return TaskNodes(tuple(x[:, keep] for x in found), kept / kept.sum(axis=1, keepdims=True))


def _noise_rule(
    center: Array, distance: Array, tolerance: float, steepest: float
) -> tuple[NDArray[np.intp], Array, Array]:
    """Nodes of xi for features at center +- i distance, (K, nodes), which may be higher by steepest^2.

    Returns:
        For each new node the old one that it belongs to, (new nodes,); xi and its weight, (K, new nodes).
    """
    width = np.tan(np.clip(distance / (2 * TAIL_STEP), 1e-9, math.pi / 4))
    center = np.clip(center, -FARTHEST, FARTHEST)
    higher = np.minimum(1 + (center / np.maximum(distance, 1e-9)) ** 2, steepest)
    reach = np.sqrt(2 * (math.log(1 / tolerance) + 2 * np.log(higher))) + 1.0

    def inverse(r: Array) -> Array:
        a = np.expm1(np.abs(r) / TAIL_STEP)
        return np.sign(r) * np.log((a + np.sqrt(a**2 + 4 * (a + 1) * width**2)) / (2 * width))

    first, last = inverse(-reach - center), inverse(reach - center)
    span = last - first
    growth = (TAIL_STEP * math.pi / 2) ** 2 / 2
    step = 0.9 * math.pi**2 / (math.log(4 / tolerance) + growth)
    counts = np.ceil(np.max(span, axis=0) / step).astype(np.intp) + 1
    ends = np.cumsum(counts)
    of = np.repeat(np.arange(len(counts)), counts)
    t = (np.arange(len(of)) - (ends - counts)[of]) / (counts[of] - 1)
    xi, weights = np.empty((2, len(width), len(of)))
    size = max(1, PIECE // len(width))
    for start in range(0, len(of), size):
        new = np.s_[start : start + size]
        old = np.s_[:, of[new]]
        grown = np.exp(first[old] + span[old] * t[new])
        up, down = width[old] * grown, width[old] / grown
        at = center[old] + TAIL_STEP * (np.log1p(up) - np.log1p(down))
        xi[:, new], weights[:, new] = at, np.exp(-(at**2) / 2) * (up / (1 + up) + down / (1 + down))
    weights /= np.add.reduceat(weights, ends - counts, axis=1)[:, of]
    return of, xi, weights


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
