"""Points of figures over task diversity: theory of given tasks and simulation of the same task sets, and how apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from replica_icl.meeting.task_sets import on_task_sets
from replica_icl.plotting.agreement import Agreement, agreement
from replica_icl.plotting.figure import Data, Run
from replica_icl.setting import Setting
from replica_icl.threads import one_thread

TOLERANCE = 1e-3
"""Of the theory's prompt averages; it costs 1e-6 of an error."""


def setting_of(D: int, alpha: float, nu: float, kappa: float, lam: float, noise: float) -> Setting:
    """The setting nearest to ratios."""
    return Setting(D=D, N=round(nu * D), P=round(alpha * D**2), K=round(kappa * D), ridge=lam / D, noise=noise)


def task_point(run: Run, setting: Setting, sphere: bool = True) -> Data:
    """Errors of the run's `task_sets` random task sets, each used equally often, with `realisations` each."""
    held = {"task_sets": run.settings["task_sets"], "realisations": run.settings["realisations"], "sphere": sphere}

    def compute() -> Data:
        with one_thread():
            how: dict[str, Any] = {"tolerance": TOLERANCE, "prompts": "sufficient", "workers": 1}
            return on_task_sets(setting, seed=run.seed, **held, **how).to_dict()

    parameters = {name: value for name, value in asdict(setting).items() if name != "beta"}
    found = run.cell("task sets", compute, **parameters, **held)
    return {"alpha": setting.P / setting.D**2, "nu": setting.N / setting.D, **found}


def agreement_of(points: Iterable[Data], errors: Sequence[str]) -> Agreement:
    """Simulation against the theory of given tasks, over points and errors."""
    rows = [
        (p[e]["theory"]["mean"], *(p[e]["simulation"][x] for x in ("mean", "sem", "n"))) for p in points for e in errors
    ]
    theory, mean, sem, n = zip(*rows, strict=True)
    return agreement(theory, mean, sem, n)
