"""A second rule for the prompt averages of a task set: for a few tasks, from the least to the most steep.

A task that is not among them has the relative changes of its neighbour. So everything that is made of averages, the
observables and their next order, has a second value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.task_nodes import TaskNodes, task_nodes
from replica_icl.numeric.task_saddle import Order, TaskSet

Array = NDArray[np.floating[Any]]

CHECKED = 4
"""Tasks whose prompt averages are taken by a second rule."""


@dataclass(frozen=True, eq=False)
class JudgedTaskSet(TaskSet):
    """The equations of a task matrix with averages by a second rule.

    Attributes:
        chosen: tasks whose averages are taken by the second rule, (chosen,).
        neighbour: of every task the place in `chosen` of the one that stands for it, (K,).
        judge: nodes of the second rule.
    """

    chosen: NDArray[np.intp]
    neighbour: NDArray[np.intp]
    judge: TaskNodes

    @classmethod
    def of(cls, equations: TaskSet, at: Order, tolerance: float, steepest: float) -> JudgedTaskSet:
        """With trapezoid rules to a relative `tolerance`, made for a saddle point."""
        K = equations.forms.K
        chi = np.ravel(np.broadcast_to(at.averages.chi, (K, 1)))
        ranked = np.argsort(chi, kind="stable")
        chosen = np.sort(ranked[np.unique(np.linspace(0, K - 1, CHECKED).round().astype(int))])
        neighbour = np.argmin(np.abs(np.log(chi[:, None] / chi[chosen])), axis=1)
        given = equations.arguments(at.V, at.G, at.M)
        seen = tuple(part[chosen] for part in given["v"])
        judge = task_nodes(
            equations.model, equations.setting, given["omega"][chosen], tolerance, steepest, check=True, seen=seen
        )
        own = {field.name: getattr(equations, field.name) for field in fields(TaskSet)}
        return cls(**own, chosen=chosen, neighbour=neighbour, judge=judge)

    def taken(self, function: Callable[..., Any], **arguments: Any) -> Any:
        return self._by_judge(super().taken(function, **arguments), function, **arguments)

    def _by_judge(self, found: Any, function: Callable[..., Any], **arguments: Any) -> Any:
        """Averages that the first rule has found, by the second one."""
        other = function(NUMPY, self.judge.average, **{name: self._of_chosen(x) for name, x in arguments.items()})
        return type(found)(*(self._judged(x, y) for x, y in zip(found, other, strict=True)))

    def _of_chosen(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._of_chosen, value))
        return value[self.chosen] if np.ndim(value) else value

    def _judged(self, value: Any, other: Any) -> Any:
        """A value of every task, (K, 1), or several of them, from those of the chosen ones by the second rule."""
        if isinstance(value, tuple):
            return tuple(self._judged(x, y) for x, y in zip(value, other, strict=True))
        value = np.broadcast_to(value, (self.forms.K, 1))
        of_chosen = value[self.chosen]
        relative = np.where(of_chosen == 0, 0.0, other / np.where(of_chosen == 0, 1.0, of_chosen) - 1)
        return value + relative[self.neighbour] * value

    def changes(self, at: Order) -> dict[str, Any]:
        """What the second rule adds to the averages at a saddle point, as arguments of `Response.to_averages`."""
        K, functions, given = self.forms.K, self.model.given_tasks, self.arguments(at.V, at.G, at.M)
        averages = self._by_judge(at.averages, functions.averages, v=given["v"], D=given["D"])
        residuals = self._by_judge(at.residuals, functions.residuals, **given)

        def difference(new: Any, old: Any) -> Any:
            if isinstance(new, tuple):
                return [difference(x, y) for x, y in zip(new, old, strict=True)]
            return np.ravel(new - np.broadcast_to(old, (K, 1)))

        return {
            **{name: difference(getattr(averages, name), getattr(at.averages, name)) for name in ("a", "b")},
            **{
                name: difference(getattr(residuals, name), getattr(at.residuals, name))
                for name in ("c", "error", "training")
            },
        }
