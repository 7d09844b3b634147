"""The theory of fresh tasks at finite D, N and P, with the full prompt law: rules, their check, and what follows.

`saddle` solves on given nodes of the prompt law. Here the nodes are chosen and refined until an independent rule gives
the same values, and a solved point gets its log Z and Gibbs errors, what the next order adds to every value, and an
estimate of the theory's own error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes, mean_prompt, prompt_nodes
from replica_icl.numeric.corrections import ESTIMATED, THERMAL, VALUES, corrections
from replica_icl.numeric.limit import classify
from replica_icl.numeric.next_order import next_order
from replica_icl.numeric.saddle import Points, chunks, newton, saddle_point
from replica_icl.numeric.solution import NextOrderStatus, Solution, Status, solution_of
from replica_icl.priors import refuse_penalties
from replica_icl.setting import Setting

Array = NDArray[np.floating[Any]]

TOLERANCE = 1e-11
"""Largest relative imbalance of the saddle-point equations that counts as solved."""
STEEPEST = 1e20
"""Rules reach no further towards small norms: at D = N = 2 down to ridges of 1e-20."""
PAIRED = 1e-3
"""Relative accuracy of the covariances over samples that the contrast's mean has, a relative 1/D^2."""
FOUND = (
    *VALUES,
    *("v", "replicon", "residual", "iterations", "quadrature_error", "next_order_status"),
    *(f"next_{name}" for name in VALUES),
    *(f"error_{name}" for name in ESTIMATED),
)
"""What a group of points is solved for."""


def _steepest(points: Points, saddle: dict[str, Array]) -> float:
    """Largest b T |c|^2 V + b T l^2 V_u at the mean prompt, in units of the 1 that it stands beside."""
    a = 1 + (points.D + 1 + points.noise * points.D) / points.N
    chi = saddle["v"] * a + saddle["v_u"] * (1 + points.noise) ** 2
    chi = np.where(points.c[:, 0] > 0, chi, STEEPEST)  # without a ridge: 1/x itself, at no scale
    return min(float(np.max(chi[np.isfinite(chi)], initial=1.0)), STEEPEST)


def _solve_group(model: Model, settings: Sequence[Setting], ridges: Array, tolerance: float) -> dict[str, Array]:
    """All points of one prompt law: a start from the mean prompt, the rule asked for, its check, finer where it fails.

    The rules do not depend on the points but through the decades that they reach towards small norms, so that all
    ridges, numbers of prompts and temperatures of a law share them, in one call or in many.
    """
    found = {name: np.full(len(settings), np.nan) for name in FOUND}
    points = Points.of(settings, ridges)
    law = (model, points.D, points.N, points.noise)
    with np.errstate(all="ignore"):
        start = _start(model, points)
        steepest = _steepest(points, dict(zip(("v", "v_u"), np.exp(start).T, strict=True)))
        rule, unsolved = tolerance / 3, np.arange(len(settings))
        for last in (False, False, True):
            part = points.take(unsolved)
            nodes = prompt_nodes(*law, rule, steepest)
            saddle = saddle_point(model, part, nodes, start[unsolved])
            needed = _steepest(part, saddle)
            if needed > steepest and (further := prompt_nodes(*law, rule, needed)) is not nodes:
                nodes, steepest = further, needed
                saddle = saddle_point(model, part, nodes, saddle["logs"])
            check = prompt_nodes(*law, rule, steepest, check=True)
            judged = saddle_point(model, part, check, saddle["logs"], limit=1)
            saddle["quadrature_error"] = error = _difference(saddle, judged)
            done = np.flatnonzero(~(error > tolerance) | last)
            if done.size:
                solved, judged = ({name: value[done] for name, value in x.items()} for x in (saddle, judged))
                index = unsolved[done]
                chosen, there = [settings[i] for i in index], points.take(index)
                solved |= _thermal(model, chosen, ridges[index], nodes, solved)
                paired = prompt_nodes(*law, PAIRED, steepest, degree=2)
                added = next_order(model, there, nodes, solved, paired=paired)
                by_check = next_order(model, there, check, judged)
                solved |= corrections(chosen, ridges[index], solved, added, by_check, tolerance)
                for name in FOUND:
                    found[name][index] = solved[name]
            unsolved = np.delete(unsolved, done)
            if not unsolved.size:
                break
            rule /= 30
        return found


def _start(model: Model, points: Points) -> Array:
    """(log V, log V_u) at the mean prompt, shape (points, 2)."""
    ceiling = points.D / (points.P * np.maximum(points.field, 1e-300))
    logs = np.log(np.minimum(ceiling, points.D**2 / points.P))
    start = np.concatenate([logs, logs - np.log(points.D)], axis=1)
    start, _ = newton(model, points, mean_prompt(model, points.D, points.N, points.noise), start)
    return np.where(np.isfinite(start), start, 0.0)


def _difference(saddle: dict[str, Array], checked: dict[str, Array]) -> Array:
    """Largest relative difference of ESTIMATED between two rules, point by point."""
    return np.max(
        [np.abs(saddle[x] - checked[x]) / np.where(checked[x] == 0, 1, checked[x]) for x in ESTIMATED], axis=0
    )


def _thermal(
    model: Model, settings: Sequence[Setting], ridges: Array, nodes: PromptNodes, saddle: dict[str, Array]
) -> dict[str, Array]:
    """V, V_u, Gibbs errors and log Z of the points at finite beta; NaN for the others."""
    beta = np.array([s.beta for s in settings])
    warm = np.flatnonzero(np.isfinite(beta))
    results = {name: np.full(len(settings), np.nan) for name in THERMAL}
    for piece in chunks(warm.size, nodes):
        index = warm[piece]
        P = np.array([float(settings[i].P) for i in index])[:, None]
        order = {name: saddle[name][index][:, None] for name in ("m", "q", "u")}
        # V is proportional to 1/beta; it was solved at beta = P.
        V, V_u = (saddle[name][index][:, None] * P / beta[index][:, None] for name in ("v", "v_u"))
        found = model.fresh_tasks.thermal(
            NUMPY,
            nodes.average,
            **order,
            V=V,
            V_u=V_u,
            D=float(settings[0].D),
            P=P,
            lambda_0=ridges[index, :1],
            lambda_u=ridges[index, 1:],
            rho=settings[0].noise,
            beta=beta[index][:, None],
        )
        for name, value in (found._asdict() | {"V": V, "V_u": V_u}).items():
            results[name][index] = np.broadcast_to(value, V.shape)[:, 0]
    return results


def solve_finite_size(
    settings: Sequence[Setting],
    tolerance: float = 1e-7,
    block_ridges: Any = None,
    model: Model | None = None,
) -> Solution:
    """Solve the finite-size theory for many settings at once.

    Args:
        settings: any mixture of sizes, noises, ridges and temperatures.
        tolerance: relative accuracy of the prompt averages, as it shows in e_icl, train_error, m and q.
        block_ridges: ridges of the token weights and of the last row where these are not the setting's, shape
            (len(settings), 2); they may be negative as long as the energy stays bounded.
        model: lowered theories; by default the package's own.

    Returns:
        Solution at level "finite-size", arrays of shape (len(settings),).

    Raises:
        ParameterError: for finite task diversity K, which is another ensemble.
    """
    for setting in settings:
        refuse_penalties(setting, "in the theory of the ridge")
        if setting.K is not None:
            raise ParameterError("K", setting.K, "must be absent: this theory has fresh tasks, one per prompt")
    model = model or LINEAR_ATTENTION
    own = [[setting.ridge, setting.ridge] for setting in settings]
    ridges = np.asarray(own if block_ridges is None else block_ridges, dtype=float)
    singular = np.array([s.ridge == 0 and s.P == s.acting_weights for s in settings], dtype=bool)
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i in np.flatnonzero(~singular).tolist():
        groups[settings[i].D, settings[i].N, settings[i].noise].append(i)
    values = {name: np.full(len(settings), np.nan) for name in FOUND}
    values["next_order_status"][:] = NextOrderStatus.NO_MEAN
    for members in groups.values():
        found = _solve_group(model, [settings[i] for i in members], ridges[members], tolerance)
        for name in FOUND:
            values[name][members] = found[name]
    residual, inaccuracy = values.pop("residual"), values.pop("quadrature_error")
    status = classify(values, residual, singular, TOLERANCE)
    status = np.where((status == Status.CONVERGED) & ~(inaccuracy <= tolerance), Status.QUADRATURE, status)
    warm = np.array([np.isfinite(setting.beta) for setting in settings], dtype=bool)
    lost = warm & ~np.all([np.isfinite(values[name]) for name in THERMAL], axis=0)  # 1/beta beyond what numbers hold
    status = np.where((status == Status.CONVERGED) & lost, Status.NON_FINITE, status)
    iterations = np.nan_to_num(values.pop("iterations")).astype(int)
    theory_error = {name: values.pop(f"error_{name}") for name in ESTIMATED}
    following = {name: values.pop(f"next_{name}") for name in VALUES}
    values.pop("v")
    if not warm.any():
        values = {name: value for name, value in values.items() if name not in THERMAL}
        following = {name: value for name, value in following.items() if name not in THERMAL}
    values["e_idg"], following["e_idg"] = values["e_icl"], following["e_icl"]  # training tasks are drawn like new ones
    known = np.where(status == Status.CONVERGED, values.pop("next_order_status"), NextOrderStatus.NO_MEAN).astype(int)
    joined: dict[str, Any] = values | {"next_order": following, "theory_error": theory_error}
    joined["next_order_status"] = known
    return solution_of("finite-size", status, residual, iterations, joined, (len(settings),))
