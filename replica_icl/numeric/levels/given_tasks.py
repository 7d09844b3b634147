"""D, N, P and the task matrix as they are, or the average over random task matrices of K tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from replica_icl.errors import ParameterError
from replica_icl.priors import refuse_penalties
from replica_icl.setting import Setting

if TYPE_CHECKING:
    from replica_icl.numeric.solution import Solution


class GivenTasks:
    """K training tasks: the ground state of a given task matrix, or its mean over drawn ones."""

    name = "given-tasks"
    label = "given tasks"
    options: tuple[str, ...] = ("tolerance", "tasks", "shares", "draws", "seed", "sphere", "usage")
    whole_grids = False
    bias = 0.1
    log_z_bias = 0.0
    neglects = "orders beyond a relative 1/D and parts of 1/D^2: `theory_error` estimates them"

    def natural(self, known: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
        return "D" in known and ("K" in known or "tasks" in options)

    def check(self, point: Any, options: dict[str, Any]) -> None:
        if not isinstance(point, Setting):
            raise ParameterError("level", self.name, "must be limit for ratios; other levels need raw numbers")
        refuse_penalties(point, "at level given-tasks (--level finite-size or limit take it, with fresh tasks)")
        for one in point.points():
            if one.ridge == 0:
                raise ParameterError("ridge", one.ridge, "must be positive for a given set of tasks")
            if math.isfinite(one.beta):
                raise ParameterError("beta", one.beta, "must be absent: this level gives the ground state")
        tasks = options.get("tasks")
        if tasks is None:
            if point.K is None:
                raise ParameterError("K", "(not given)", "is required at level given-tasks (or a task matrix)")
            if "shares" in options:
                raise ParameterError("shares", "array", "must be given beside tasks")
            if options.get("sphere") and options.get("usage") == "random":
                raise ParameterError("usage", "random", "must be equal for tasks on the sphere")
            return
        for name in ("draws", "seed", "sphere", "usage"):
            if name in options and not (name == "usage" and options[name] == "equal"):
                raise ParameterError(name, options[name], "must not be given beside tasks: nothing is drawn")

    def solve(
        self,
        point: Any,
        *,
        model: Any = None,
        tolerance: float = 1e-5,
        tasks: Any = None,
        shares: Any = None,
        draws: int = 1,
        seed: int = 0,
        sphere: bool = False,
        usage: str = "equal",
        **options: Any,
    ) -> Solution:
        from replica_icl.numeric.given_tasks import average_over_tasks, solve_given_tasks
        from replica_icl.numeric.solution import Solution
        from replica_icl.numeric.task_matrix import check_task_matrix, equal_shares

        def solved(one: Setting) -> Solution:
            if tasks is None:
                return average_over_tasks(one, draws, seed, sphere, tolerance, model, equal=usage == "equal")
            matrix = check_task_matrix(tasks, one)
            used = equal_shares(one.P, len(matrix)) if shares is None else shares
            return solve_given_tasks(one, matrix, used, tolerance, model=model)

        return Solution.stack([solved(one) for one in point.points()], point)
