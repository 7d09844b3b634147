"""The theory of a given set of tasks at finite D, N and P: nodes for the prompt law, their check, and what follows.

`task_saddle` solves on given nodes. Here the nodes are chosen and refined until an independent rule gives the same
observables, and a solved point gets what the next order adds, and an estimate of the theory's own error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import STEEPER, factor_rules
from replica_icl.numeric.corrections import USEFUL
from replica_icl.numeric.solution import NextOrderStatus, Solution, Status, solution_of
from replica_icl.numeric.task_diversity import solve_task_diversity
from replica_icl.numeric.task_forms import TaskForms
from replica_icl.numeric.task_matrix import check_shares, check_task_matrix, draw_task_set, equal_shares
from replica_icl.numeric.task_saddle import TOLERANCE, Order, Response, TaskNodes, TaskSet
from replica_icl.priors import refuse_penalties
from replica_icl.ratios import ratios
from replica_icl.setting import Setting, check_integer

Array = NDArray[np.floating[Any]]

ROUNDING = 1e-5
"""Largest relative correction of C that may be left, unless the prompt averages are to be more accurate than that.
Without label noise l is |w|/sqrt(D) times the part of c along the task, so that with one task (less so with few) one
direction of V is held by the ridge alone and its parts cancel in every average. At K = 1, rho = 0, P = D(D+1) and a
ridge of 1e-8 rounding can leave 1e-3: such a point is reported as not converged."""
STEEPEST = 1e12
"""Largest T D c~.V c~ at the mean prompt that nodes are made for."""
CHECKED = 4
"""Tasks whose prompt averages are taken by a second rule."""
SLOPES = 1e-3
"""Relative accuracy of slopes and of the next order, or 100 times that of the observables where that is less."""
ESTIMATED = ("e_icl", "e_idg", "train_error", "m", "q")
"""Observables that come with an estimate of the theory's own error."""


def task_set(
    setting: Setting,
    tasks: ArrayLike,
    shares: ArrayLike | None = None,
    tolerance: float = 1e-5,
    steepest: float = 10.0,
    model: Model | None = None,
    check: bool = False,
    only: Sequence[int] | None = None,
) -> TaskSet:
    """The equations of a task matrix, with nodes of the prompt law to a relative `tolerance`.

    Args:
        steepest: largest T D c~.V c~ that will be met at the mean prompt.
        check: trapezoid rules for every factor, to judge the others by.
        only: nodes for these tasks only.
    """
    matrix = check_task_matrix(tasks, setting)
    model = model or LINEAR_ATTENTION
    decade = float(10.0 ** np.ceil(np.log10(max(STEEPER * steepest, 1.0))))
    rules = factor_rules(model, setting.D, setting.N, setting.noise, tolerance, decade, gauss=not check)
    names = [name for name in rules if name != "omega"]
    grid = np.meshgrid(*(rules[name][0] for name in names), indexing="ij")
    weights: Array = np.ones(1)
    for name in names:
        weights = np.multiply.outer(weights, rules[name][1]).ravel()
    factors = {name: axis.ravel() for name, axis in zip(names, grid, strict=True)}
    sizes = {"D": float(setting.D), "N": float(setting.N), "rho": setting.noise}
    mean = model.given_tasks.scalars(NUMPY, **factors, omega=1.0, **sizes)
    keep = _heavy(weights, (mean.T * (mean.p**2 + mean.x), mean.T * mean.l**2), 0.1 * tolerance, decade)
    factors = {name: axis[keep][None, :] for name, axis in factors.items()}
    omega = np.sum(matrix**2, axis=1, keepdims=True) / setting.D
    scalars = model.given_tasks.scalars(NUMPY, **factors, omega=omega if only is None else omega[only], **sizes)
    nodes = TaskNodes((scalars.T, scalars.p, scalars.x, scalars.l), weights[keep] / weights[keep].sum())
    usage = np.full(len(matrix), 1 / len(matrix)) if shares is None else check_shares(shares, len(matrix))
    return TaskSet(setting, TaskForms(matrix), usage, nodes, model)


def _heavy(weights: Array, norms: Sequence[Array], negligible: float, steepest: float) -> NDArray[np.intp]:
    """Nodes that are left when those are dropped that together contribute at most `negligible` to any average.

    In units of its mean z an integrand grows like z^2 to the right, and to the left like 1 / (1 + b z)^2, b anywhere
    up to `steepest`.
    """
    share = np.zeros_like(weights)
    for z in norms:
        z = z / (weights @ z)
        for slope in 10.0 ** np.arange(np.ceil(np.log10(steepest)) + 1):
            contributions = weights * ((1 + z) / (1 + slope * z)) ** 2
            np.maximum(share, contributions / contributions.sum(), out=share)
    order = np.argsort(share)
    return np.sort(order[np.cumsum(share[order]) > negligible])


def left_over(setting: Setting, tasks: Array) -> float:
    """s of the limit at the ratios of the setting, sqrt(training error / e_idg): where a solve starts, of any model."""
    found = solve_task_diversity(ratios(replace(setting, K=len(tasks), beta=np.inf)))
    if not found.converged or found.train_error <= 0:
        return 0.1
    return float(np.sqrt(found.train_error / found.e_idg))


def _check_level(setting: Setting) -> None:
    refuse_penalties(setting, "for a given set of tasks")
    if setting.ridge == 0:
        raise ParameterError("ridge", setting.ridge, "must be positive for a given set of tasks")
    if np.isfinite(setting.beta):
        raise ParameterError("beta", setting.beta, "must be absent: this level gives the ground state")


@dataclass(frozen=True, eq=False)
class Solved:
    """A saddle point on nodes that are good for it.

    Attributes:
        order: the saddle point.
        values: observables.
        response: how they answer to changes.
        inaccuracy: largest relative change of an observable by another rule for the prompt averages.
    """

    order: Order
    values: dict[str, float]
    response: Response
    inaccuracy: float


def solve_saddle(
    setting: Setting, matrix: Array, shares: ArrayLike | None, tolerance: float, model: Model | None
) -> Solved:
    """A start on few nodes, then nodes for the norms that matter there, and their check by an independent rule."""
    s = left_over(setting, matrix)
    steepest = 1 / s
    coarse = task_set(setting, matrix, shares, 1e-2, steepest, model)
    y, _, found, _, _ = coarse.solve_fluctuations(coarse.start(s))
    rule = 3 * tolerance
    for _ in range(3):
        steepest = min(max(1.0, float(np.max(found.chi))), STEEPEST)
        equations = task_set(setting, matrix, shares, rule, steepest, model)
        order = equations.solve(y)
        slopes = max(tolerance, min(SLOPES, 100 * tolerance))
        response = task_set(setting, matrix, shares, slopes, steepest, model).response(order)
        values = equations.observables(order)
        off = _changes_by_check(response, rule / 10, steepest)
        inaccuracy = max(abs(x / (values[name] or 1.0)) for name, x in off.items())
        if not inaccuracy > tolerance:
            break
        y, found, rule = order.y, order.averages, rule / 30
    return Solved(order, values, response, inaccuracy)


def _changes_by_check(response: Response, tolerance: float, steepest: float) -> dict[str, float]:
    """Changes of the observables when a trapezoid rule takes the averages.

    First order in the change of the averages, which are taken for tasks from the least to the most steep; a task that
    is not among them has the relative changes of its neighbour.
    """
    equations, order = response.equations, response.at
    chi = np.ravel(np.broadcast_to(order.averages.chi, (equations.forms.K, 1)))
    ranked = np.argsort(chi, kind="stable")
    chosen = ranked[np.unique(np.linspace(0, len(chi) - 1, CHECKED).round().astype(int))]
    checked = task_set(
        equations.setting, equations.forms.tasks, equations.shares, tolerance, steepest, equations.model, True, chosen
    )
    arguments = {
        name: tuple(x[chosen] for x in value) if isinstance(value, tuple) else value
        for name, value in equations.arguments(order.V, order.G, order.M).items()
    }
    arguments["omega"] = arguments["omega"][chosen]
    functions = equations.model.given_tasks
    averages = functions.averages(NUMPY, checked.nodes.average, v=arguments["v"], D=arguments["D"])
    residuals = functions.residuals(NUMPY, checked.nodes.average, **arguments)
    nearest = chosen[np.argmin(np.abs(np.log(chi[:, None] / chi[chosen])), axis=1)]
    place = np.searchsorted(np.sort(chosen), nearest)
    place = np.argsort(chosen, kind="stable")[place]

    def changes(new: Sequence[Any], old: Sequence[Any]) -> list[Array]:
        """What to add to values of all tasks."""
        found = []
        for x, y in zip(new, old, strict=True):
            x, y = np.ravel(np.broadcast_to(x, (len(chosen), 1))), np.ravel(np.broadcast_to(y, (len(chi), 1)))
            relative = x / np.where(y[chosen] == 0, 1.0, y[chosen]) - (y[chosen] != 0)
            found.append(relative[place] * y)
        return found

    return response.to_averages(
        a=changes(averages.a, order.averages.a),
        b=changes(averages.b, order.averages.b),
        c=changes(residuals.c, order.residuals.c),
        error=changes([residuals.error], [order.residuals.error])[0],
        training=changes([residuals.training], [order.residuals.training])[0],
    )


def solve_given_tasks(
    setting: Setting,
    tasks: ArrayLike,
    shares: ArrayLike | None = None,
    tolerance: float = 1e-5,
    model: Model | None = None,
) -> Solution:
    """Solve the theory of one task matrix.

    Args:
        setting: the experiment; its K, if set, has to be the number of tasks.
        tasks: (K, D) task matrix.
        shares: fraction of the prompts of each task, by default equal.
        tolerance: relative accuracy of the prompt averages, as it shows in the observables.
        model: lowered theories; by default the package's own.

    Raises:
        ParameterError: bad tasks or shares, no ridge, or a finite temperature.
    """
    _check_level(setting)
    matrix = check_task_matrix(tasks, setting)
    with np.errstate(all="ignore"):
        solved = solve_saddle(setting, matrix, shares, tolerance, model)
        order = solved.order
        added = solved.response.to_next_order()
    values: dict[str, Any] = solved.values
    added["contrast"] = contrast_change(values, added, setting.D)
    residual = max(order.residual, order.correction)
    good = order.residual <= TOLERANCE and order.correction <= min(ROUNDING, tolerance)
    status = Status.CONVERGED if good else Status.MAX_ITERATIONS
    if good and not solved.inaccuracy <= tolerance:
        status = Status.QUADRATURE
    if not (values["replicon"] > 0 and values["q"] >= values["m"] ** 2 * (1 - 1e-12)):
        status = Status.INADMISSIBLE
    if not all(np.isfinite(x) for x in values.values()):
        status = Status.NON_FINITE
    errors = theory_error(values, added, setting.D)
    known = next_order_status(values, added) if status == Status.CONVERGED else NextOrderStatus.NO_MEAN
    if known != NextOrderStatus.ADDED:
        added = dict.fromkeys(added, float("nan"))
    values |= {"next_order": added, "theory_error": errors, "next_order_status": known}
    return solution_of("given-tasks", status, residual, order.iterations, values, ())


def contrast_change(values: dict[str, Any], added: dict[str, float], D: int) -> float:
    """First change of D m / sqrt((D + 1)(D q + u))."""
    norm = D * values["q"] + values["u"]
    moved = D * added["q"] + added["u"]
    return float(values["contrast"] * (added["m"] / values["m"] - moved / norm / 2)) if values["m"] else 0.0


def next_order_status(values: dict[str, Any], added: dict[str, float]) -> NextOrderStatus:
    """Whether what the next order adds is of use: no larger than the value, for each of ESTIMATED."""
    if not all(np.isfinite(added[name]) for name in ESTIMATED):
        return NextOrderStatus.NO_MEAN
    small = all(abs(added[name]) <= USEFUL * abs(values[name]) for name in ESTIMATED)
    return NextOrderStatus.ADDED if small else NextOrderStatus.NO_USE


def theory_error(values: dict[str, Any], added: dict[str, float], D: int) -> dict[str, float]:
    """Estimate of what the saddle point neglects, for each of ESTIMATED; an order of magnitude, not a bound.

    That is what the next order adds, and of the orders after it a relative kappa (kappa + 4/D): kappa is the relative
    correction, the largest one for e_icl, e_idg, m and q, which may each pass through zero, and 4/D the relative
    variance of the norms, at whose means pairs of prompts are met.
    """
    relative = {name: abs(added[name] / values[name]) if values[name] else 0.0 for name in ESTIMATED}
    weights = max(relative[name] for name in ESTIMATED if name != "train_error")
    errors = {}
    for name, first in relative.items():
        kappa = first if name == "train_error" else weights
        errors[name] = abs(values[name]) * (first + kappa * (kappa + 4 / D))
    return errors


def average_over_tasks(
    setting: Setting,
    draws: int = 1,
    seed: int = 0,
    sphere: bool = False,
    tolerance: float = 1e-5,
    model: Model | None = None,
    equal: bool = False,
) -> Solution:
    """The mean over `draws` random task sets of `setting.K` tasks (see `draw_task_set`), with its spread.

    Args:
        equal: tasks that are drawn are used equally often, like those on the sphere.
    """
    found = []
    for index in range(check_integer("draws", draws, 1)):
        tasks, shares = draw_task_set(setting, seed, index, sphere)
        used = equal_shares(setting.P, len(tasks)) if equal else shares
        found.append(solve_given_tasks(setting, tasks, used, tolerance, model))
    return Solution.mean(found)
