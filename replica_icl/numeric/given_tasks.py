"""The theory of a given set of tasks at finite D, N and P: nodes for the prompt law, their check, and what follows.

`task_saddle` solves on given nodes. Here the nodes are chosen and refined until an independent rule gives the same
observables, and a solved point gets what the next order adds, and an estimate of the theory's own error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.corrections import next_order_status, theory_error
from replica_icl.numeric.solution import NextOrderStatus, Solution, Status, solution_of
from replica_icl.numeric.task_check import JudgedTaskSet
from replica_icl.numeric.task_diversity import solve_task_diversity
from replica_icl.numeric.task_forms import TaskForms
from replica_icl.numeric.task_matrix import check_shares, check_task_matrix, draw_task_set, equal_shares
from replica_icl.numeric.task_nodes import task_nodes
from replica_icl.numeric.task_saddle import TOLERANCE, Order, Response, TaskSet
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
    V: Array | None = None,
) -> TaskSet:
    """The equations of a task matrix, with nodes of the prompt law to a relative `tolerance`.

    Args:
        steepest: largest T D c~.V c~ that will be met at the mean prompt.
        V: about the one that will be met; label noise gets nodes that are made for it.
    """
    matrix = check_task_matrix(tasks, setting)
    model = model or LINEAR_ATTENTION
    forms = TaskForms(matrix)
    omega = np.sum(forms.scaled**2, axis=1, keepdims=True)
    seen = None if V is None else forms.seen(forms.traces(V))
    nodes = task_nodes(model, setting, omega, tolerance, steepest, seen=seen)
    usage = np.full(len(matrix), 1 / len(matrix)) if shares is None else check_shares(shares, len(matrix))
    return TaskSet(setting, forms, usage, nodes, model)


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
        judged: the same with averages by another rule, for the next order.
        inaccuracy: largest relative change of an observable by that rule, and the accuracy of the latter.
    """

    order: Order
    values: dict[str, float]
    response: Response
    judged: Response
    inaccuracy: float


def solve_saddle(
    setting: Setting, matrix: Array, shares: ArrayLike | None, tolerance: float, model: Model | None
) -> Solved:
    """A start on few nodes, then nodes for the norms that matter there, and their check by an independent rule."""
    s = left_over(setting, matrix)
    coarse = task_set(setting, matrix, shares, 1e-2, 1 / s, model)
    y, _, found, _, _ = coarse.solve_fluctuations(coarse.start(s))
    rule, near = 3 * tolerance, None
    for attempt in range(3):
        steepest = min(max(1.0, float(np.max(found.chi))), STEEPEST)
        equations = task_set(setting, matrix, shares, rule, steepest, model, near)
        order = equations.solve(y)
        slopes = max(tolerance, min(SLOPES, 100 * tolerance))
        response = task_set(setting, matrix, shares, slopes, steepest, model, near).response(order)
        values = equations.observables(order)
        # A rule that label noise defeats is off by much more than tolerance: a cheap judge sees it first.
        judges = [slopes / 10, rule / 10] if setting.noise and not attempt else [rule / 10]
        for accuracy in judges:
            judged = JudgedTaskSet.of(equations, order, accuracy, steepest)
            off = response.to_averages(**judged.changes(order))
            inaccuracy = max(abs(x / (values[name] or 1.0)) for name, x in off.items()) + accuracy
            if inaccuracy > tolerance + 2 * accuracy:
                break
        if not inaccuracy > tolerance:
            break
        # Label noise gets its own rule first; where that is not all of it, every rule is finer.
        y, found, near = order.y, order.averages, order.V
        if attempt or not setting.noise:
            rule /= 30
    by_judge = JudgedTaskSet.of(response.equations, order, slopes / 10, steepest).response(order)
    return Solved(order, values, response, by_judge, inaccuracy)


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
        added, judged = solved.response.to_next_order(), solved.judged.to_next_order()
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
    sizes, known = {name: abs(values[name]) for name in ESTIMATED}, NextOrderStatus.NO_MEAN
    with np.errstate(all="ignore"):
        errors = theory_error(setting.D, sizes, {name: abs(added[name]) for name in ESTIMATED})
        if status == Status.CONVERGED:
            known = NextOrderStatus(int(next_order_status(sizes, added, judged, tolerance)))
    if known != NextOrderStatus.ADDED:
        added = dict.fromkeys(added, float("nan"))
    values |= {"next_order": added, "theory_error": errors, "next_order_status": known}
    return solution_of("given-tasks", status, residual, order.iterations, values, ())


def contrast_change(values: dict[str, Any], added: dict[str, float], D: int) -> float:
    """First change of D m / sqrt((D + 1)(D q + u))."""
    norm = D * values["q"] + values["u"]
    moved = D * added["q"] + added["u"]
    return float(values["contrast"] * (added["m"] / values["m"] - moved / norm / 2)) if values["m"] else 0.0


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
