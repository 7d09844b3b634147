"""Where theory and simulation meet: the same setting through both, side by side, with z-scores.

The theory and the simulator import nothing of each other; only this module knows both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replica_icl.citations import References
from replica_icl.errors import ParameterError
from replica_icl.numeric.levels import Level, level_of
from replica_icl.numeric.levels.points import known_of
from replica_icl.numeric.solution import Solution
from replica_icl.numeric.solve import solve
from replica_icl.numeric.task_matrix import draw_task_set
from replica_icl.options import STRUCTURE
from replica_icl.parameter import check_integer
from replica_icl.priors import prior_of
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import SimulatedEnsemble, simulate

Z_MAX = 4.0
"""Agreement means |theory - simulation| < Z_MAX standard errors plus the stated bias allowance. Fixed, not tuned."""

PRIOR_BIAS = 0.3
"""Under a penalty beside the ridge: the bias allowance at finite size, relative and times 1/D. It has no next order."""

ROUNDING = 1e-10
"""Allowance for floating point, relative to max(1, |theory|): an interpolating solution has training error 0 in theory
and 1e-30 with hardly any spread in a simulation."""


@dataclass(frozen=True)
class Comparison:
    """One observable, predicted and measured.

    Attributes:
        observable: its name.
        theory: predicted value.
        simulation: mean over disorder realisations.
        sem: standard error of that mean.
        allowance: absolute bias that the theory is granted, fixed before the comparison (0 unless stated).
    """

    observable: str
    theory: float
    simulation: float
    sem: float
    allowance: float = 0.0

    @property
    def z(self) -> float:
        """(simulation - theory) / sem; infinite where a simulation without spread differs."""
        difference = self.simulation - self.theory
        if self.sem == 0:
            return 0.0 if difference == 0 else math.copysign(math.inf, difference)
        return difference / self.sem

    @property
    def agrees(self) -> bool:
        """Within Z_MAX standard errors plus the allowance; False for NaN."""
        return abs(self.simulation - self.theory) <= Z_MAX * self.sem + self.allowance


@dataclass(frozen=True, eq=False)
class Validation:
    """Theory and simulation of one setting, and their comparison observable by observable.

    Attributes:
        setting: the experiment; level: of the theory.
        bias: allowance that both sides are granted, relative and times 1/D.
        solution, ensemble: both sides.
        rows: of every observable that both have.
    """

    setting: Setting
    level: Level
    bias: float
    solution: Solution
    ensemble: SimulatedEnsemble
    rows: tuple[Comparison, ...]

    @property
    def agrees(self) -> bool:
        """True if every observable does."""
        return all(row.agrees for row in self.rows)

    def references(self) -> References:
        """What to cite for both sides."""
        return References.of((*self.solution.rests_on(), *self.ensemble.rests_on()))

    def table(self) -> str:
        """Text table: observable, theory, simulation, standard error, z."""
        head = f"{'observable':<12} {'theory':>12} {'simulation':>12} {'std. error':>12} {'z':>8}"
        lines = [
            f"{r.observable:<12} {r.theory:>12.6g} {r.simulation:>12.6g} {r.sem:>12.2g} {r.z:>8.2f}"
            + ("" if r.agrees else "  disagrees")
            for r in self.rows
        ]
        return "\n".join([head, *lines])

    def to_dict(self) -> dict[str, Any]:
        """Plain object for JSON."""
        return {
            "theory": self.solution.to_dict(),
            "simulation": self.ensemble.to_dict(),
            "comparison": {
                r.observable: {"z": r.z if math.isfinite(r.z) else None, "agrees": r.agrees} for r in self.rows
            },
            "agrees": self.agrees,
        }


def compare(
    solution: Solution, ensemble: SimulatedEnsemble, relative_bias: float = 0.0, log_z_bias: float = 0.0
) -> tuple[Comparison, ...]:
    """Compare every observable that both sides have, by the theory's best values.

    Args:
        relative_bias: bias granted relative to the theory's value (e.g. 0.1/D), for all but log Z and the entropy.
        log_z_bias: absolute bias granted to log Z and to the entropy.

    Raises:
        ParameterError: for one realisation, which has no standard error.
    """
    if ensemble.n < 2:
        raise ParameterError("realisations", ensemble.n, "must be at least 2: one realisation has no standard error")
    predicted = solution.observables()
    rows = []
    for name in (name for name in ensemble.values if name in predicted):
        theory, found = predicted[name], ensemble[name]
        sem = math.nan if found.sem is None else found.sem
        bias = log_z_bias if name in ("log_Z", "entropy") else abs(relative_bias * theory)
        allowance = bias + ROUNDING * max(1.0, abs(theory))
        rows.append(Comparison(name, theory, found.mean, sem, allowance))
    return tuple(rows)


def validate(
    setting: Setting,
    realisations: int = 20,
    seed: int = 0,
    level: str | None = None,
    workers: int | None = None,
    progress: bool = False,
    tolerance: float | None = None,
    **how: Any,
) -> Validation:
    """Solve and simulate one setting and compare.

    Args:
        setting: the experiment.
        realisations: disorder realisations, at least 2.
        seed, workers, progress, how: as in `simulate` (algorithm, prompts, law, sphere, covariances, test prompts ...).
        level: of the theory, as in `solve`. At level given-tasks both sides have one task set, that of the seed or the
            one that is given, and every task is used equally often.
        tolerance: of the theory, as in `solve`.

    Raises:
        ParameterError: bad input, before any work.
        SolveError: the theory or a realisation could not be solved.
    """
    check_integer("realisations", realisations, 2)  # one realisation has no standard error
    given = {name: how[name] for name in ("tasks",) if how.get(name) is not None}
    chosen = level_of(known_of(setting), level, given)
    if "tasks" in chosen.options:
        given |= _one_task_set(setting, seed, how)
    given |= {name: how[name] for name in ("prior", *STRUCTURE) if how.get(name) is not None}
    solution = solve(setting, level=chosen.name, tolerance=tolerance, **given)
    ensemble = simulate(setting, realisations, seed=seed, workers=workers, progress=progress, **how)
    bias = PRIOR_BIAS if chosen.bias and (prior_of(setting) or how.get("prior")) else chosen.bias
    rows = compare(solution, ensemble, bias / setting.D, chosen.log_z_bias * setting.D**2)
    return Validation(setting, chosen, bias, solution, ensemble, rows)


def _one_task_set(setting: Setting, seed: int, how: dict[str, Any]) -> dict[str, Any]:
    """The task set that both sides are to have; `how` is completed with what the simulation needs for that."""
    if how.setdefault("usage", "equal") != "equal":
        raise ParameterError("usage", how["usage"], "must be equal at level given-tasks: it knows the tasks' shares")
    sphere = how.pop("sphere", False)
    if how.get("tasks") is None:
        how["tasks"] = draw_task_set(setting, seed, sphere=sphere)[0]
    elif sphere:
        raise ParameterError("sphere", sphere, "must not be given beside tasks: nothing is drawn")
    return {"tasks": how["tasks"]}


@dataclass(frozen=True)
class Extrapolation:
    """A finite-size observable extrapolated to D = infinity by a weighted fit a + b/D + c/D^2.

    Attributes:
        value, sem: intercept a and its standard error from the simulation's standard errors.
        slopes: (b, c).
        chi2_per_dof: of the fit.
    """

    value: float
    sem: float
    slopes: tuple[float, float]
    chi2_per_dof: float


def extrapolate(sizes: Sequence[int], means: Sequence[float], sems: Sequence[float]) -> Extrapolation:
    """Weighted least squares of means in 1, 1/D, 1/D^2.

    Raises:
        ParameterError: for fewer than four sizes, with which the fit cannot be judged.
    """
    if len(set(sizes)) < 4:
        raise ParameterError("sizes", list(sizes), "must hold at least 4 different D for a fit with three coefficients")
    inverse = 1 / np.asarray(sizes, dtype=float)
    weights = 1 / np.asarray(sems, dtype=float)
    design = np.vander(inverse, 3, increasing=True) * weights[:, None]
    target = np.asarray(means) * weights
    covariance = np.linalg.inv(design.T @ design)
    a, b, c = covariance @ design.T @ target
    chi2 = float(np.sum((target - design @ np.array([a, b, c])) ** 2))
    return Extrapolation(float(a), float(np.sqrt(covariance[0, 0])), (float(b), float(c)), chi2 / (len(sizes) - 3))


def drawn_settings(count: int = 16, seed: int = 2024) -> tuple[Setting, ...]:
    """Settings for an acceptance test, drawn by a rule that does not look at results.

    D alternates between 10 and 20; N is log-uniform in [D/2, 10 D], P in [0.15 D^2, 25 D^2], the ridge in [1e-3, 1];
    rho is 0 or 0.25; every third setting has a finite beta, log-uniform in [D^2, 30 D^2].
    """
    rng = np.random.default_rng(seed)
    settings = []
    for i in range(count):
        D = (10, 20)[i % 2]
        N, P, ridge, beta = np.exp(
            rng.uniform(np.log([D / 2, 0.15 * D**2, 1e-3, D**2]), np.log([10 * D, 25 * D**2, 1.0, 30 * D**2]))
        )
        noise = (0.0, 0.25)[int(rng.integers(2))]
        warm = float(beta) if i % 3 == 0 else math.inf
        settings.append(Setting(D=D, N=round(N), P=round(P), ridge=float(ridge), noise=noise, beta=warm))
    return tuple(settings)


def realisations_for(setting: Setting, relative_error: float, pilot: int = 12, seed: int = 987) -> int:
    """Realisations that give e_icl a standard error of `relative_error`, from a pilot on a seed of its own."""
    values = simulate(setting, pilot, seed=seed).values["e_icl"]
    spread = float(np.std(values, ddof=1) / np.mean(values))
    return max(pilot, math.ceil((spread / relative_error) ** 2))
