"""D -> infinity at fixed ratios: fresh tasks, or K = kappa D tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from replica_icl.errors import ParameterError
from replica_icl.priors import prior_of, refuse_two_priors
from replica_icl.setting import Setting

if TYPE_CHECKING:
    from replica_icl.numeric.solution import Solution


class Limit:
    """The thermodynamic limit. A setting is solved at its ratios, with log Z at leading order in its D."""

    name = "limit"
    label = "limit"
    options: tuple[str, ...] = ("prior",)
    whole_grids = True
    bias = 0.0  # granted nothing: it is meant to be off at finite D
    log_z_bias = 0.0
    neglects = "everything of relative order 1/D: 3 to 20 % at D = 20"

    def natural(self, known: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
        return "D" not in known

    def check(self, point: Any, options: dict[str, Any]) -> None:
        """Every setting and every ratio has a limit; under a prior that of fresh tasks in their ground state."""
        prior = options.get("prior") or (prior_of(point) if isinstance(point, Setting) else None)
        if prior is None:
            return
        if not isinstance(point, Setting):
            raise ParameterError("prior", options["prior"], "must be given with raw numbers: it has a scale in D")
        refuse_two_priors(point, options)
        if point.K is not None:
            raise ParameterError("K", point.K, "must be absent: under a prior the theory has fresh tasks")
        if any(math.isfinite(one.beta) for one in point.points()):
            raise ParameterError("beta", point.beta, "must be inf: under a prior the theory has the ground state")

    def solve(self, point: Any, *, model: Any = None, prior: Any = None, **options: Any) -> Solution:
        from replica_icl.numeric.limit import solve_limit
        from replica_icl.numeric.task_diversity import solve_task_diversity
        from replica_icl.ratios import ratios

        prior = prior or (prior_of(point) if isinstance(point, Setting) else None)
        if prior is not None:
            from replica_icl.numeric.priors.limit import solve_limit_prior, thermodynamic_penalties

            penalties = thermodynamic_penalties(prior, point.D, model)
            return solve_limit_prior(ratios(point.without_penalties()), type(prior), penalties, model=model).of(point)
        sized = isinstance(point, Setting)
        at = ratios(point) if sized else point
        solver = solve_limit if at.kappa is None else solve_task_diversity
        return solver(at, point.D if sized else None, model=model).of(point)
