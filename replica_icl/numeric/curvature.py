"""How a saddle point of fresh tasks moves when something is added to its free entropy: small systems, one per point.

Source: `symbolic.next_order.Curvature`. Everything is solved in relative changes of V and V_u, and of q and u in units
of these, in which it stays of order one however small the ridge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes
from replica_icl.numeric.saddle import Points

Array = NDArray[np.floating[Any]]

SOLVED = {"V": "v", "V_u": "v_u"}
"""What the solver calls the fluctuations at its own temperature."""


def arguments_of(model: Model, points: Points, saddle: Mapping[str, Array]) -> dict[str, Any]:
    """Saddle points, as lowered functions take them: order parameters, sizes and noise, each of shape (points, 1)."""
    names = model.fresh_tasks.ORDER_PARAMETERS
    order = {name: saddle[SOLVED.get(name, name)][:, None] for name in names}
    return order | points.sizes | {"rho": points.noise}


@dataclass(frozen=True)
class Curvature:
    """Second derivatives of the free entropy, of shape (points, 2, 2), (points, 2) and (points,).

    Attributes:
        V: the fluctuations themselves, V and V_u.
        response: between V and the overlaps q and u, both relative to V.
        widths: d/dV - d/dq by V, relative to V.
        aligned: the same by m.
        mean: in m twice.
    """

    V: Array
    response: Array
    widths: Array
    aligned: Array
    mean: Array

    @classmethod
    def at(cls, model: Model, nodes: PromptNodes, arguments: dict[str, Any]) -> Curvature:
        """At the saddle points of `arguments_of`."""
        V = np.concatenate([arguments["V"], arguments["V_u"]], axis=1)
        out = model.fresh_tasks_next_order.curvature(NUMPY, nodes.average, **arguments)
        count, twice = len(V), V[:, :, None] * V[:, None, :]
        response, widths = (np.stack([columns(row, count) for row in x], axis=1) * twice
                            for x in (out.response, out.widths))  # fmt: skip
        return cls(V, response, widths, columns(out.aligned, count) * V, columns([out.mean], count)[:, 0])

    def moved(self, pull: Mapping[str, Any]) -> dict[str, Array]:
        """Changes of m, q, V, u and V_u, each of shape (points,).

        Args:
            pull: slopes of what is added, in V and V_u less those in q and u; none where a name is missing.
        """
        none = np.zeros(len(self.V))
        q, u, m, V, V_u = (np.asarray(pull.get(name, none)) for name in ("q", "u", "m", "V", "V_u"))
        # d/dq and d/du: V moves; d/dm: m follows; d/dV - d/dq and d/dV_u - d/du: q and u follow.
        wider = -solved(self.response, np.stack([q, u], axis=1) * self.V)
        mean = -(np.sum(self.aligned * wider, axis=1) + m) / self.mean
        left = np.einsum("pij,pj->pi", self.widths, wider) + self.aligned * mean[:, None]
        overlaps = -self.V * solved(self.response, left + np.stack([V, V_u], axis=1) * self.V)
        wider = wider * self.V
        return {"m": mean, "q": overlaps[:, 0], "V": wider[:, 0], "u": overlaps[:, 1], "V_u": wider[:, 1]}


def columns(values: Sequence[Any], count: int) -> Array:
    """The values of `count` points side by side, shape (count, len(values))."""
    return np.concatenate([np.broadcast_to(value, (count, 1)) for value in values], axis=1)


def solved(systems: Array, right: Array) -> Array:
    """Solutions of 2 x 2 systems, shape (points, 2), by Cramer's rule."""
    (a, b), (c, d) = systems.transpose(1, 2, 0)
    x, y = right.T
    with np.errstate(all="ignore"):
        return np.stack([d * x - b * y, a * y - c * x], axis=1) / (a * d - b * c)[:, None]
