"""The saddle point of fresh tasks at finite D, N and P, with the averages on given nodes of the prompt law.

V and V_u solve two equations of their own: stationarity of a function that is strictly concave in (log V, log V_u), so
that the solution is unique and damped Newton finds it. m, q and u follow from linear equations. Points that share the
prompt law (D, N, rho) share its nodes and are solved as one array.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes
from replica_icl.numeric.limit import imbalance
from replica_icl.setting import Setting

Array = NDArray[np.floating[Any]]

MAX_ITERATIONS = 100
ELEMENTS = 1 << 14
"""Elements of an intermediate array: points are solved in groups of ELEMENTS / nodes, so that these stay in cache."""
LARGEST_STEP = 3.0
"""Newton steps in log V are cut to this length."""


@dataclass(frozen=True, eq=False)
class Points:
    """Control parameters of points with the same prompt law, each of shape (points, 1).

    c and field are the units of `theory.fresh_tasks`: c = 1 and field = lambda_0, or for the minimum-norm ground
    state c = 0 and field = 1.
    """

    D: int
    N: int
    noise: float
    P: Array
    c: Array
    field: Array
    field_u: Array

    @classmethod
    def of(cls, settings: Sequence[Setting], ridges: Array) -> Points:
        first = settings[0]
        degenerate = np.array([[s.ridge == 0 and s.P < s.acting_weights] for s in settings])
        return cls(
            D=first.D,
            N=first.N,
            noise=first.noise,
            P=np.array([[float(s.P)] for s in settings]),
            c=np.where(degenerate, 0.0, 1.0),
            field=np.where(degenerate, 1.0, ridges[:, :1]),
            field_u=np.where(degenerate, 1.0, ridges[:, 1:]),
        )

    def take(self, index: Any) -> Points:
        arrays = (self.P[index], self.c[index], self.field[index], self.field_u[index])
        return Points(self.D, self.N, self.noise, *arrays)

    @property
    def sizes(self) -> dict[str, Any]:
        return {"D": float(self.D), "P": self.P, "c": self.c, "field": self.field, "field_u": self.field_u}


def newton(
    model: Model, points: Points, nodes: PromptNodes, logs: Array, limit: int = MAX_ITERATIONS
) -> tuple[Array, NDArray[np.intp]]:
    """Damped Newton for (log V, log V_u), all points at once, each until its own equations balance.

    Args:
        logs: start, shape (points, 2).

    Returns:
        logs and the number of iterations of each point. Whether they balance is tested by the caller.
    """
    logs = logs.copy()
    active = np.arange(len(logs))
    iterations = np.zeros(len(logs), dtype=int)
    best = np.full(len(logs), np.inf)
    previous, step = logs.copy(), np.zeros_like(logs)
    for _ in range(limit):
        part = points.take(active)
        V, V_u = np.exp(logs[active, :1]), np.exp(logs[active, 1:])
        out = model.fresh_tasks.fluctuations(NUMPY, nodes.average, V=V, V_u=V_u, **part.sizes)
        left = np.concatenate(out.left, axis=1)
        size = np.abs(left).max(axis=1)
        # A step that made the balance worse is taken back and halved.
        worse = ~(size < best[active]) & (size > 1e-13) & np.isfinite(best[active])
        jacobian = np.stack([np.stack([x[:, 0] for x in row], axis=-1) for row in out.jacobian], axis=-2)
        determinant = jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0]
        with np.errstate(all="ignore"):
            new = (
                -np.stack(
                    [
                        jacobian[:, 1, 1] * left[:, 0] - jacobian[:, 0, 1] * left[:, 1],
                        jacobian[:, 0, 0] * left[:, 1] - jacobian[:, 1, 0] * left[:, 0],
                    ],
                    axis=1,
                )
                / determinant[:, None]
            )
            longest = np.abs(new).max(axis=1, keepdims=True)
            new *= np.minimum(1, LARGEST_STEP / np.maximum(longest, 1e-300))
        good, bad = active[~worse], active[worse]
        best[good] = size[~worse]
        previous[good], step[good] = logs[good], new[~worse]
        step[bad] /= 2
        iterations[active] += 1
        small = np.abs(step[active]).max(axis=1) < 1e-15
        done = (size <= 4e-15) | small | ~np.isfinite(size)
        moving = active[~done]
        logs[moving] = previous[moving] + step[moving]
        logs[active[done]] = previous[active[done]]
        logs[active[~np.isfinite(size)]] = np.nan
        active = moving
        if not active.size:
            break
    return logs, iterations


def chunks(count: int, nodes: PromptNodes, elements: int = ELEMENTS) -> list[slice]:
    size = max(1, elements // nodes.weights.size)
    return [slice(i, i + size) for i in range(0, count, size)]


def saddle_point(
    model: Model, points: Points, nodes: PromptNodes, logs: Array, limit: int = MAX_ITERATIONS
) -> dict[str, Array]:
    """Newton from `logs` on these nodes, then m, q, u, observables and the residual of all five equations.

    Args:
        limit: largest number of iterations; after a single one, from the saddle point on other nodes, the values are
            right to the square of their difference, and no residual is computed.
    """
    results: dict[str, list[Any]] = defaultdict(list)
    for piece in chunks(len(logs), nodes):
        part = points.take(piece)
        solved, iterations = newton(model, part, nodes, logs[piece], limit)
        V, V_u = np.exp(solved[:, :1]), np.exp(solved[:, 1:])
        given = {"V": V, "V_u": V_u, **part.sizes, "rho": part.noise}
        found = model.fresh_tasks.order_parameters(NUMPY, nodes.average, **given)
        values = found._asdict() | {"v": V, "v_u": V_u}
        if limit > 1:
            out = model.fresh_tasks.stationarity(NUMPY, nodes.average, m=found.m, q=found.q, u=found.u, **given)
            values["residual"] = imbalance(out.balances)
        for name, value in values.items():
            results[name].append(np.broadcast_to(value, V.shape)[:, 0])
        results["logs"].append(solved)
        results["iterations"].append(iterations)
    return {name: np.concatenate(pieces) for name, pieces in results.items()}
