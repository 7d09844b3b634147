"""Where the theory of given tasks meets simulation: the same task sets on both sides, paired.

A training prompt's task comes from a set of K. What task sets differ in, theory and simulation share; so they are
subtracted task set by task set, and the scatter of what is left is that of the prompts alone. Tasks are used equally
often, so that the theory knows the share of the prompts that each has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.meeting.validation import Comparison
from replica_icl.numeric.levels import LEVELS
from replica_icl.numeric.solve import solve
from replica_icl.numeric.task_matrix import draw_task_set
from replica_icl.ratios import Ratios, setting_at
from replica_icl.setting import Setting, check_integer
from replica_icl.simulator.ensemble import simulate

Array = NDArray[np.float64]

ERRORS = ("e_icl", "e_idg")


@dataclass(frozen=True, eq=False)
class PairedErrors:
    """Errors of several task sets, predicted and measured.

    Attributes:
        setting: the experiment, with K.
        theory: e_icl and e_idg of each task set, shape (task sets,).
        simulated: the same of every realisation, shape (task sets, realisations).
    """

    setting: Setting
    theory: dict[str, Array]
    simulated: dict[str, Array]

    def compared(self) -> tuple[Comparison, ...]:
        """Means over task sets; the standard error is that of the mean of simulation - theory of the same task set,
        over all realisations, and the allowance that of level given-tasks."""
        rows = []
        for name in ERRORS:
            mean = float(self.theory[name].mean())
            difference = self.simulated[name] - self.theory[name][:, None]
            sem = float(difference.std(ddof=1)) / math.sqrt(difference.size)
            allowance = LEVELS["given-tasks"].bias / self.setting.D * mean
            rows.append(Comparison(name, mean, mean + float(difference.mean()), sem, allowance))
        return tuple(rows)

    def to_dict(self) -> dict[str, Any]:
        """Per error, and for the gap e_icl - e_idg: theory's mean and spread over task sets, simulation's mean, and the
        standard error of their difference, with the numbers of task sets and of realisations."""
        found: dict[str, Any] = {"K": self.setting.K, "kappa": (self.setting.K or math.inf) / self.setting.D}
        theory = {**self.theory, "gap": self.theory["e_icl"] - self.theory["e_idg"]}
        simulated = {**self.simulated, "gap": self.simulated["e_icl"] - self.simulated["e_idg"]}
        for name, values in theory.items():
            difference = simulated[name] - values[:, None]
            mean, spread = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else 0.0
            sem = float(difference.std(ddof=1)) / math.sqrt(difference.size)
            found[name] = {
                "theory": {"mean": mean, "spread": spread, "n": values.size},
                "simulation": {"mean": mean + float(difference.mean()), "sem": sem, "n": difference.size},
            }
        return found


def on_task_sets(
    setting: Setting,
    task_sets: int,
    realisations: int,
    seed: int = 0,
    sphere: bool = False,
    tolerance: float = 1e-5,
    **how: Any,
) -> PairedErrors:
    """e_icl and e_idg of random task sets by theory and by simulation.

    Args:
        setting: the experiment, with K.
        task_sets: random task matrices; each is used equally often by the prompts.
        realisations: of the prompts of each task set.
        seed: of tasks and prompts.
        sphere: tasks on the sphere.
        tolerance: relative accuracy of the theory's prompt averages.
        how: as in `simulate`.

    Raises:
        ParameterError: bad input, or fewer than two realisations altogether.
        SolveError: the theory or a realisation could not be solved.
    """
    if check_integer("task_sets", task_sets, 1) * check_integer("realisations", realisations, 1) < 2:
        raise ParameterError("realisations", realisations, "must give at least 2 over the task sets")
    theory: dict[str, list[float]] = {name: [] for name in ERRORS}
    simulated: dict[str, list[Array]] = {name: [] for name in ERRORS}
    for index in range(task_sets):
        tasks, _ = draw_task_set(setting, seed, index, sphere)
        solution = solve(setting, tasks=tasks, tolerance=tolerance)
        ensemble = simulate(setting, realisations, seed, tasks=tasks, usage="equal", **how)
        for name in ERRORS:
            theory[name].append(solution[name])
            simulated[name].append(ensemble.values[name])
    return PairedErrors(
        setting,
        {name: np.array(values) for name, values in theory.items()},
        {name: np.stack(values) for name, values in simulated.items()},
    )


def kappa_transition(
    D: int,
    kappas: Sequence[float],
    nus: Sequence[float],
    alpha: float,
    lam: float,
    noise: float,
    task_sets: int,
    realisations: int,
    seed: int = 0,
    sphere: bool = True,
    curve: Sequence[float] | None = None,
    **how: Any,
) -> dict[str, Any]:
    """From memorising to learning in context: e_icl and e_idg against kappa at several nu.

    Args:
        D: token dimension of theory at finite size and of simulation.
        kappas: K/D of the points; K is rounded.
        nus: N/D, one series each.
        alpha, lam, noise: P/D^2, lambda_0 D and rho of all of them.
        task_sets, realisations, seed, sphere, how: (with tolerance) as in `on_task_sets`.
        curve: kappa of the limit's curves, by default 60 values around those of the points.

    Returns:
        {"kappa": of the curves, "series": [{"nu", "limit": {"e_icl": [...], "e_idg": [...]}, "points": [...]}]} with
        points as in `PairedErrors.to_dict`, ready for JSON.

    Raises:
        as `on_task_sets`.
    """
    along = np.geomspace(min(kappas) / 1.5, max(kappas) * 1.5, 60) if curve is None else np.asarray(curve, dtype=float)
    series = []
    for nu in nus:
        limit = solve(Ratios(alpha=alpha, nu=nu, kappa=along, lam=lam, noise=noise))
        points = []
        for kappa in kappas:
            point = Ratios(alpha=alpha, nu=nu, kappa=kappa, lam=lam, noise=noise)
            setting = setting_at(point, D, nearest=True)
            points.append(on_task_sets(setting, task_sets, realisations, seed, sphere, **how).to_dict())
        curves = {name: getattr(limit, name).tolist() for name in ERRORS}
        series.append({"nu": nu, "limit": curves, "points": points})
    fixed = {"D": D, "alpha": alpha, "lam": lam, "noise": noise, "sphere": sphere}
    return {**fixed, "kappa": along.tolist(), "series": series}


def drawn_task_settings(seed: int = 2024) -> tuple[Setting, ...]:
    """Eight settings with K tasks for an acceptance test, drawn by a rule that does not look at results.

    D = 20 and 40 with kappa = K/D and alpha = P/D^2 on every combination of sides of 1: log-uniform in [1/4, 1] or
    [1, 4] and in [0.3, 1] or [1, 5]. nu = N/D is log-uniform in [1/2, 10], lambda_0 D in [1e-2, 1]; rho is 0.01 or
    0.25, each for half of the settings of either D.
    """
    rng = np.random.default_rng(seed)
    settings = []
    for i in range(8):
        D, many_tasks, many_prompts = (20, 40)[i // 4], i // 2 % 2, i % 2
        low = (0.3, 1.0)[many_prompts], (0.25, 1.0)[many_tasks], 0.5, 1e-2
        high = (1.0, 5.0)[many_prompts], (1.0, 4.0)[many_tasks], 10.0, 1.0
        alpha, kappa, nu, lam = np.exp(rng.uniform(np.log(low), np.log(high)))
        noise = (0.01, 0.25)[(i // 4 + many_tasks + many_prompts) % 2]
        N, P, K = round(nu * D), round(alpha * D**2), round(kappa * D)
        settings.append(Setting(D=D, N=N, P=P, K=K, ridge=float(lam / D), noise=noise))
    return tuple(settings)
