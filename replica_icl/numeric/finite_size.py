"""Solving the theory of fresh tasks at finite D, N and P, with the full prompt law.

V and V_u solve two equations of their own: stationarity of a function that is strictly concave in (log V, log V_u), so
that the solution is unique and damped Newton finds it. m, q and u follow from linear equations. Points that share the
prompt law (D, N, rho) share its nodes and are solved as one array.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowered import load
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.limit import classify, imbalance
from replica_icl.numeric.prompt_law import PromptNodes, mean_prompt, prompt_nodes
from replica_icl.numeric.solution import Solution, Status, solution_of
from replica_icl.setting import Setting

Array = NDArray[np.floating[Any]]

TOLERANCE = 1e-11
"""Largest relative imbalance of the saddle-point equations that counts as solved."""
MAX_ITERATIONS = 100
ELEMENTS = 1 << 18
"""Elements of an intermediate array: points are solved in groups of ELEMENTS / nodes, so that these stay in cache."""
LARGEST_STEP = 3.0
"""Newton steps in log V are cut to this length."""


@dataclass(frozen=True, eq=False)
class _Points:
    """Control parameters of points with the same prompt law, each of shape (points, 1).

    c and field are the units of `ensembles.fresh_tasks`: c = 1 and field = lambda_0, or for the minimum-norm ground
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
    def of(cls, settings: Sequence[Setting], ridges: Array) -> _Points:
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

    def take(self, index: Any) -> _Points:
        arrays = (self.P[index], self.c[index], self.field[index], self.field_u[index])
        return _Points(self.D, self.N, self.noise, *arrays)

    @property
    def sizes(self) -> dict[str, Any]:
        return {"D": float(self.D), "P": self.P, "c": self.c, "field": self.field, "field_u": self.field_u}


def _newton(
    functions: ModuleType, points: _Points, nodes: PromptNodes, logs: Array, limit: int = MAX_ITERATIONS
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
        out = functions.fluctuations(NUMPY, nodes.average, V=V, V_u=V_u, **part.sizes)
        left = np.concatenate([out["left_V"], out["left_V_u"]], axis=1)
        size = np.abs(left).max(axis=1)
        # A step that made the balance worse is taken back and halved.
        worse = ~(size < best[active]) & (size > 1e-13) & np.isfinite(best[active])
        jacobian = np.stack(
            [np.stack([out[f"d{x}_d{y}"][:, 0] for y in ("V", "V_u")], axis=-1) for x in ("V", "V_u")], axis=-2
        )
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


def _chunks(count: int, nodes: PromptNodes) -> list[slice]:
    size = max(1, ELEMENTS // nodes.weights.size)
    return [slice(i, i + size) for i in range(0, count, size)]


def _saddle(functions: ModuleType, points: _Points, nodes: PromptNodes, logs: Array) -> dict[str, Array]:
    """Newton from `logs` on these nodes, then m, q, u, observables and the residual of all five equations."""
    results: dict[str, list[Any]] = defaultdict(list)
    for piece in _chunks(len(logs), nodes):
        part = points.take(piece)
        solved, iterations = _newton(functions, part, nodes, logs[piece])
        V, V_u = np.exp(solved[:, :1]), np.exp(solved[:, 1:])
        values = functions.order_parameters(NUMPY, nodes.average, V=V, V_u=V_u, **part.sizes, rho=part.noise)
        order = {name: values[name] for name in ("m", "q", "u")}
        balances = functions.stationarity(NUMPY, nodes.average, **order, V=V, V_u=V_u, **part.sizes, rho=part.noise)
        values |= {"v": V, "v_u": V_u, "residual": imbalance(balances)}
        for name, value in values.items():
            results[name].append(np.broadcast_to(value, V.shape)[:, 0])
        results["logs"].append(solved)
        results["iterations"].append(iterations)
    return {name: np.concatenate(pieces) for name, pieces in results.items()}


def _steepest(points: _Points, saddle: dict[str, Array]) -> float:
    """Largest b T |c|^2 V + b T l^2 V_u at the mean prompt, in units of the 1 that it stands beside."""
    a = 1 + (points.D + 1 + points.noise * points.D) / points.N
    chi = saddle["v"] * a + saddle["v_u"] * (1 + points.noise) ** 2
    chi = np.where(points.c[:, 0] > 0, chi, 1e4)  # without a ridge: 1/x and 1/x^2 themselves, at no scale
    return min(float(np.max(chi[np.isfinite(chi)], initial=1.0)), 1e12)  # where the saddle runs away, no further


def _solve_group(
    functions: ModuleType, settings: Sequence[Setting], ridges: Array, tolerance: float
) -> dict[str, Array]:
    """All points of one prompt law: a start from the mean prompt, a coarse rule, the rule asked for, and its check."""
    points = _Points.of(settings, ridges)
    law = (functions, points.D, points.N, points.noise)
    with np.errstate(all="ignore"):
        ceiling = points.D / (points.P * np.maximum(points.field, 1e-300))
        logs = np.log(np.minimum(ceiling, points.D**2 / points.P))
        start = np.concatenate([logs, logs - np.log(points.D)], axis=1)
        start, _ = _newton(functions, points, mean_prompt(*law), start)
        start = np.where(np.isfinite(start), start, 0.0)
        steepest = _steepest(points, _saddle(functions, points, prompt_nodes(*law, 1e-2), start))
        rule = tolerance / 3
        for _ in range(3):
            nodes = prompt_nodes(*law, rule, steepest)
            saddle = _saddle(functions, points, nodes, start)
            saddle["quadrature_error"] = _difference(
                saddle, _saddle(functions, points, prompt_nodes(*law, rule, steepest, check=True), saddle["logs"])
            )
            if not np.any(saddle["quadrature_error"] > tolerance):
                break
            rule /= 30
            steepest = max(steepest, _steepest(points, saddle))
        plain = _saddle(functions, points, prompt_nodes(*law, 1e-4, steepest, query_norm=False), saddle["logs"])
        saddle |= _theory_error(points, saddle, plain)
        return saddle | _thermal(functions, settings, ridges, nodes, saddle)


ESTIMATED = ("e_icl", "train_error", "m", "q")
"""Observables that come with an estimate of the theory's own error."""


def _theory_error(points: _Points, saddle: dict[str, Array], plain: dict[str, Array]) -> dict[str, Array]:
    """Estimate of what the theory neglects, for each of ESTIMATED; an order of magnitude, not a bound.

    The theory keeps how the norms fluctuate and takes a residual as Gaussian given them. The direction of the query
    enters that as strongly as its norm, so the scale is what the fluctuations of the query's norm contribute (`plain`
    has none), of which half is taken. The training error also feels that chi fluctuates at given norms, with relative
    variance of about 2/P (P contexts make up the covariance that a context meets): a relative 3 (2/P) (1 - s)^2.
    """
    errors: dict[str, Array] = {f"error_{name}": np.abs(saddle[name] - plain[name]) / 2 for name in ESTIMATED}
    s = np.sqrt(np.clip(saddle["train_error"] / saddle["e_icl"], 0, 1))
    errors["error_train_error"] = (
        errors["error_train_error"] + saddle["train_error"] * 6 / points.P[:, 0] * (1 - s) ** 2
    )
    return errors


def _difference(saddle: dict[str, Array], checked: dict[str, Array]) -> Array:
    """Largest relative difference of e_icl, train_error, m and q between two rules, point by point."""
    names = ("e_icl", "train_error", "m", "q")
    return np.max([np.abs(saddle[x] - checked[x]) / np.where(checked[x] == 0, 1, checked[x]) for x in names], axis=0)


def _thermal(
    functions: ModuleType, settings: Sequence[Setting], ridges: Array, nodes: PromptNodes, saddle: dict[str, Array]
) -> dict[str, Array]:
    """V, V_u, Gibbs errors and log Z of the points at finite beta; NaN for the others."""
    beta = np.array([s.beta for s in settings])
    warm = np.flatnonzero(np.isfinite(beta))
    names = ("V", "V_u", "e_gibbs", "train_gibbs", "log_Z", "entropy")
    results = {name: np.full(len(settings), np.nan) for name in names}
    for piece in _chunks(warm.size, nodes):
        index = warm[piece]
        P = np.array([float(settings[i].P) for i in index])[:, None]
        order = {name: saddle[name][index][:, None] for name in ("m", "q", "u")}
        # V is proportional to 1/beta; it was solved at beta = P.
        V, V_u = (saddle[name][index][:, None] * P / beta[index][:, None] for name in ("v", "v_u"))
        found = functions.thermal(
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
        for name, value in (found | {"V": V, "V_u": V_u}).items():
            results[name][index] = np.broadcast_to(value, V.shape)[:, 0]
    return results


def solve_finite_size(
    settings: Sequence[Setting],
    tolerance: float = 1e-7,
    block_ridges: Any = None,
    functions: ModuleType | None = None,
) -> Solution:
    """Solve the finite-size theory for many settings at once.

    Args:
        settings: any mixture of sizes, noises, ridges and temperatures.
        tolerance: relative accuracy of the prompt averages, as it shows in e_icl, train_error, m and q.
        block_ridges: ridges of the token weights and of the last row where these are not the setting's, shape
            (len(settings), 2); they may be negative as long as the energy stays bounded.
        functions: lowered functions; by default those of the package's derivation.

    Returns:
        Solution at level "finite-size", arrays of shape (len(settings),).

    Raises:
        ParameterError: for finite task diversity K, which is another ensemble.
    """
    for setting in settings:
        if setting.K is not None:
            raise ParameterError("K", setting.K, "must be absent: this theory has fresh tasks, one per prompt")
    if not settings:
        names = ("e_icl", "train_error", "m", "q", "contrast", "replicon", "e_idg", "u")
        return solution_of(
            "finite-size", np.empty(0), np.empty(0), np.empty(0), dict.fromkeys(names, np.empty(0)), (0,)
        )
    functions = functions or load("fresh_tasks")
    own = [[setting.ridge, setting.ridge] for setting in settings]
    ridges = np.asarray(own if block_ridges is None else block_ridges, dtype=float)
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, setting in enumerate(settings):
        groups[setting.D, setting.N, setting.noise].append(i)
    joined: dict[str, Any] = {}
    for members in groups.values():
        found = _solve_group(functions, [settings[i] for i in members], ridges[members], tolerance)
        found.pop("logs")
        for name, value in found.items():
            joined.setdefault(name, np.full(len(settings), np.nan))[members] = value
    joined["e_idg"] = joined["e_icl"]  # training tasks are drawn like new ones
    singular = np.array([s.ridge == 0 and s.P == s.acting_weights for s in settings])
    residual = joined.pop("residual")
    accurate = joined.pop("quadrature_error") <= tolerance
    status = classify(joined, residual, singular, TOLERANCE)
    status = np.where((status == Status.CONVERGED) & ~accurate, Status.MAX_ITERATIONS, status)
    iterations = joined.pop("iterations").astype(int)
    joined["theory_error"] = {name: joined.pop(f"error_{name}") for name in ESTIMATED}
    joined.pop("v")
    joined.pop("v_u")
    if not any(np.isfinite(s.beta) for s in settings):
        for name in ("V", "V_u", "e_gibbs", "train_gibbs", "log_Z", "entropy"):
            joined.pop(name)
    return solution_of("finite-size", status, residual, iterations, joined, (len(settings),))
