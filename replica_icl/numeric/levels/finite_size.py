"""D, N and P as they are: fresh tasks with the full law of a prompt's norms, and the next order beside the saddle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from replica_icl.errors import ParameterError
from replica_icl.priors import prior_of, refuse_two_priors
from replica_icl.setting import Setting

if TYPE_CHECKING:
    from replica_icl.numeric.solution import Solution


class FiniteSize:
    """Fresh tasks at finite size; values hold the next order of the free energy, a relative 1/D^2."""

    name = "finite-size"
    label = "finite size"
    options: tuple[str, ...] = ("tolerance", "prior")
    whole_grids = True
    bias = 0.1
    log_z_bias = 0.005
    neglects = "orders beyond a relative 1/D^2: `theory_error` estimates them"

    def natural(self, known: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
        return "D" in known and "K" not in known and "tasks" not in options

    def check(self, point: Any, options: dict[str, Any]) -> None:
        if not isinstance(point, Setting):
            raise ParameterError("level", self.name, "must be limit for ratios; other levels need raw numbers")
        refuse_two_priors(point, options)
        if "prior" in options and any(math.isfinite(one.beta) for one in point.points()):
            raise ParameterError("beta", point.beta, "must be inf: under a prior the theory has the ground state")
        if point.K is not None:
            raise ParameterError("K", point.K, "must be absent at level finite-size: it has fresh tasks")

    def solve(
        self, point: Any, *, model: Any = None, tolerance: float = 1e-7, prior: Any = None, **options: Any
    ) -> Solution:
        from replica_icl.numeric.finite_size import solve_finite_size
        from replica_icl.numeric.priors.finite_size import solve_finite_size_prior

        settings = list(point.points())
        prior = prior or (prior_of(Setting.stack(settings)) if settings else None)
        if prior is None:
            found = solve_finite_size(settings, tolerance, model=model)
        else:
            found = solve_finite_size_prior(settings, prior, tolerance, model=model)
        return (found if point.shape else found.point(0)).of(point)
