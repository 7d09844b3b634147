"""Solving the theory of a given set of tasks at finite D, N and P: matrix order parameters on the context side.

log Z = (D/2) [log det V + tr V^-1 C] - (P lambda_0 / 2) [D tr V + D tr C + |M|^2] + P sum_k pi_k phi_k  at beta = P,
with pi_k the share of prompts of task k and phi_k a prompt's term (`theory.given_tasks`), a function of
tr(F V), tr(F G), u.M w/sqrt(D) and e.M w/sqrt(D), where G = C + M M^T / D and F runs over four matrices per task. So
stationarity in C, M and V, the only step that is written here in matrix form, reads

    V^-1 = P (sum a_f F + lambda_0),   M = V P sum_k pi_k (b_task u + b_corner e) w^T / sqrt(D),   C = V (P sum c_f F) V

with sums over tasks and parts, and coefficients a, b, c that are lowered derivatives of phi. The coefficients of
F_rest and F_corner are shared by all tasks, so there are 2 K + 2 unknowns. The Newton matrix of the equation for V is
also that of the linear equation for C, and its smallest eigenvalue the stability of the replica-symmetric saddle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.keys import entropy
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes, factor_rules
from replica_icl.numeric.solution import Solution, Status, solution_of
from replica_icl.numeric.task_diversity import solve_task_diversity
from replica_icl.ratios import ratios
from replica_icl.setting import Setting, check_integer

if TYPE_CHECKING:
    from replica_icl.lowered.given_tasks import Averages, Residuals

Array = NDArray[np.floating[Any]]

TOLERANCE = 1e-10
"""Largest relative imbalance of the equations for V that counts as solved."""
MAX_ITERATIONS = 60
REFINEMENTS = 5
"""Largest number of evaluations of the linear equation for C."""
ROUNDING = 1e-5
"""Largest relative correction of C that may be left, unless the prompt averages are to be more accurate than that.
Without label noise l is |w|/sqrt(D) times the part of c along the task, so that with one task (less so with few) one
direction of V is held by the ridge alone and its parts cancel in every average. At K = 1, rho = 0, P = D(D+1) and a
ridge of 1e-8 rounding can leave 1e-3: such a point is reported as not converged."""
PIECE = 2**13
"""Numbers in one intermediate array of the prompt averages."""


SMALLEST_TASK = 1e-20
"""Tasks beyond this, or its inverse, have squared norms whose powers are no numbers any more."""


def check_task_matrix(tasks: ArrayLike, setting: Setting) -> Array:
    """The (K, D) task matrix as float64.

    Raises:
        ParameterError: wrong shape, no real numbers, NaN, a task that is zero, another K than the setting's, or K > P.
    """
    matrix = np.asarray(tasks)
    if matrix.dtype.kind not in "iuf":
        raise ParameterError("tasks", f"array of {matrix.dtype}", "must be real numbers")
    matrix = matrix.astype(float)
    if matrix.ndim != 2 or matrix.shape[0] < 1 or matrix.shape[1] != setting.D:
        raise ParameterError("tasks", f"array of shape {matrix.shape}", f"must have shape (K, {setting.D})")
    if not np.all(np.isfinite(matrix)):
        raise ParameterError("tasks", "array with NaN or infinity", "must be finite")
    zero = np.flatnonzero(~matrix.any(axis=1))
    if zero.size:
        raise ParameterError("tasks", f"array whose row {zero[0]} is zero", "must hold no zero task")
    sizes = np.abs(matrix).max(axis=1)
    if not (SMALLEST_TASK <= sizes.min() and sizes.max() <= 1 / SMALLEST_TASK):
        wanted = f"must hold tasks with a largest entry from {SMALLEST_TASK:g} to {1 / SMALLEST_TASK:g}"
        raise ParameterError("tasks", f"array with entries up to {sizes.max():.2g}", wanted)
    if setting.K is not None and setting.K != len(matrix):
        raise ParameterError("K", setting.K, f"must equal the number of given tasks, {len(matrix)}")
    if len(matrix) > setting.P:
        raise ParameterError("K", len(matrix), f"must be at most the number of prompts, P = {setting.P}")
    return matrix


def check_shares(shares: ArrayLike, K: int) -> Array:
    """Shares of the prompts, (K,), as float64.

    Raises:
        ParameterError: another shape, no numbers >= 0, or a sum that is not 1.
    """
    values = np.asarray(shares)
    if values.dtype.kind not in "iuf" or values.shape != (K,):
        raise ParameterError("shares", f"{values.dtype} array of shape {values.shape}", f"must be {K} real numbers")
    if not (np.all(values >= 0) and abs(values.sum() - 1) < 1e-9):
        raise ParameterError("shares", values.tolist(), "must be non-negative and sum to 1")
    return values.astype(float)


def equal_shares(P: int, K: int) -> Array:
    """Shares of K tasks that P prompts use in turn, (K,): P/K rounded up or down, over P."""
    return (P // K + (np.arange(K) < P % K)) / P


def draw_task_set(setting: Setting, seed: int = 0, index: int = 0, sphere: bool = False) -> tuple[Array, Array]:
    """K random tasks, and the share of the P prompts that each gets when every prompt draws its task.

    Args:
        seed, index: of the random stream; the same for any order of calls.
        sphere: |w| = sqrt(D) and every task used equally often (Lu et al.) instead of Gaussian tasks.
    """
    if setting.K is None:
        raise ParameterError("K", "(not given)", "is required to draw tasks (or give a task matrix)")
    sizes = (setting.D, setting.N, setting.P, setting.K)
    words = entropy(check_integer("seed", seed, 0), check_integer("index", index, 0))
    rng = np.random.default_rng(np.random.SeedSequence([*words, *sizes]))
    tasks = rng.standard_normal((setting.K, setting.D))
    if sphere:
        tasks *= np.sqrt(setting.D) / np.linalg.norm(tasks, axis=1, keepdims=True)
        return tasks, equal_shares(setting.P, setting.K)
    return tasks, rng.multinomial(setting.P, np.full(setting.K, 1 / setting.K)) / setting.P


class TaskNodes(PromptNodes):
    """Nodes of the prompt law given each of K tasks, scalars of shape (K, nodes) or (1, nodes)."""

    def average(self, integrands: Callable[..., tuple[Any, ...]]) -> tuple[Any, ...]:
        """As for one prompt law, in pieces whose intermediate arrays fit the processor's cache."""
        tasks = max(len(x) for x in self.scalars)
        size = max(1, PIECE // tasks)
        total: list[Any] = []
        for start in range(0, self.weights.size, size):
            part = slice(start, start + size)
            values = integrands(*(x[:, part] for x in self.scalars))
            found = [value @ self.weights[part] for value in values]
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        return tuple(value[..., None] for value in total)


@dataclass(frozen=True, eq=False)
class TaskSet:
    """The equations of one task matrix.

    Attributes:
        setting: the experiment.
        tasks: (K, D).
        shares: pi_k, fraction of prompts of each task, (K,).
        nodes: of the prompt law given each task.
        model: the lowered theories.
    """

    setting: Setting
    tasks: Array
    shares: Array
    nodes: PromptNodes
    model: Model

    @cached_property
    def directions(self) -> Array:
        """u = w / |w|, (K, D)."""
        return self.tasks / np.linalg.norm(self.tasks, axis=1, keepdims=True)

    @property
    def K(self) -> int:
        return len(self.tasks)

    def combine(self, y: Array) -> Array:
        """sum_i y_i F_i, (D + 1, D + 1), of unknowns ordered task (K), cross (K), rest, corner."""
        K, D, u = self.K, self.setting.D, self.directions
        total = np.zeros((D + 1, D + 1))
        total[:D, :D] = (u * y[:K, None]).T @ u
        total[:D, :D].flat[:: D + 1] += y[2 * K]
        total[D, :D] = total[:D, D] = y[K : 2 * K] @ u
        total[D, D] = y[2 * K + 1]
        return total

    def traces(self, G: Array) -> tuple[Array, ...]:
        """tr(F G) per task, for each of the theory's PARTS (task, rest, corner, cross) of shape (K, 1)."""
        D, u = self.setting.D, self.directions
        task = np.einsum("kd,kd->k", u @ G[:D, :D], u)
        rest, corner = np.full(self.K, np.trace(G[:D, :D])), np.full(self.K, G[D, D])
        return tuple(value[:, None] for value in (task, rest, corner, 2 * u @ G[:D, D]))

    def gram(self, V: Array) -> Array:
        """tr(F_i V F_j V), (2 K + 2, 2 K + 2)."""
        K, D, u = self.K, self.setting.D, self.directions
        on_tokens, column, corner = V[:D, :D], V[:D, D], V[D, D]
        Vu = u @ on_tokens
        H, r = Vu @ u.T, u @ column
        gram = np.zeros((2 * K + 2, 2 * K + 2))
        task, cross, rest, last = slice(0, K), slice(K, 2 * K), 2 * K, 2 * K + 1
        gram[task, task] = H**2
        gram[task, cross] = 2 * H * r[:, None]  # tr(u u^T V (u' e^T + e u'^T) V) = 2 (u.V u') (u.V e)
        gram[cross, cross] = 2 * (H * corner + np.outer(r, r))
        gram[task, rest] = np.sum(Vu**2, axis=1)
        gram[task, last] = r**2
        gram[cross, rest] = 2 * Vu @ column
        gram[cross, last] = 2 * r * corner
        gram[rest, rest], gram[rest, last], gram[last, last] = np.sum(on_tokens**2), column @ column, corner**2
        upper = np.triu(np.ones_like(gram), 1).astype(bool)
        gram.T[upper] = gram[upper]
        return gram

    def gathered(self, per_task: Sequence[Any]) -> Array:
        """Coefficients per part and task, weighted by the shares, as unknowns."""
        task, rest, corner, cross = (self.shares * np.ravel(part) for part in per_task)
        return np.concatenate([task, cross, [rest.sum(), corner.sum()]])

    def curvature(self, slopes: Sequence[Sequence[Any]]) -> Array:
        """A = -d(gathered a)/d(traces), (2 K + 2, 2 K + 2)."""
        K = self.K
        places = (np.arange(K), np.full(K, 2 * K), np.full(K, 2 * K + 1), np.arange(K, 2 * K))  # in the order of PARTS
        A = np.zeros((2 * K + 2, 2 * K + 2))
        for f, row in zip(places, slopes, strict=True):
            for h, slope in zip(places, row, strict=True):
                np.add.at(A, (f, h), -self.shares * np.broadcast_to(np.ravel(slope), (K,)))
        return A

    def fluctuations(self, y: Array) -> Array:
        """V of given coefficients."""
        inverse = self.setting.P * self.combine(y)
        inverse.flat[:: self.setting.D + 2] += self.setting.P * self.setting.ridge
        return np.linalg.inv(inverse)

    def averages(self, V: Array) -> Averages:
        """The lowered `averages` at given V."""
        return self.model.given_tasks.averages(NUMPY, self.nodes.average, v=self.traces(V), D=float(self.setting.D))

    def solve_fluctuations(self, s: float) -> tuple[Array, Averages, float, int]:
        """V by damped Newton in the coefficients: V, its averages, the residual and the number of iterations.

        Args:
            s: estimate of the share that training leaves of a residual, for the start.
        """
        D = self.setting.D
        found = self.averages(np.zeros((D + 1, D + 1)))
        y = s * self.gathered(found.a)
        best, residual, iterations = y, np.inf, 0
        step = np.zeros_like(y)
        V: Array = np.eye(D + 1)
        while iterations < MAX_ITERATIONS:
            iterations += 1
            V_new = self.fluctuations(y)
            found_new = self.averages(V_new)
            mapped = self.gathered(found_new.a)
            size = np.concatenate([*(2 * [np.abs(y[: self.K]) + np.abs(mapped[: self.K])]), 2 * y[-2:]])
            new = float(np.max(np.abs(mapped - y) / np.maximum(size, 1e-300)))
            worse = not new < residual and new > 1e-14
            if worse and np.max(np.abs(step)) > 1e-14 * np.max(np.abs(best)):
                step /= 2
                y = best + step
                continue
            if worse:
                break
            best, residual, V, found = y, new, V_new, found_new
            if residual < 1e-13:
                break
            J = np.eye(y.size) - self.setting.P * self.curvature(found.slopes) @ self.gram(V)
            step = np.where(y != 0, np.linalg.solve(J, mapped - y), 0.0)  # a task without prompts keeps its zeros
            positive = np.r_[: self.K, -2, -1]
            shrinks = np.max(-step[positive] / np.maximum(y[positive], 1e-300))
            step *= min(1.0, 0.8 / max(shrinks, 1e-300))
            y = best + step
        return V, found, residual, iterations

    def solve(self, s: float) -> dict[str, Any]:
        """Order parameters and observables."""
        setting, D, P = self.setting, self.setting.D, self.setting.P
        V, found, residual, iterations = self.solve_fluctuations(s)
        pull = np.stack([np.ravel(x) for x in found.b]) * self.shares
        by_task = self.tasks / np.sqrt(D)
        source = np.vstack([(self.directions * pull[0][:, None]).T @ by_task, pull[1] @ by_task])
        M = P * V @ source
        gram = self.gram(V)
        A = self.curvature(found.slopes)
        J = np.eye(A.shape[0]) - P * A @ gram
        c = np.zeros(A.shape[0])
        left = np.inf
        for _ in range(REFINEMENTS):  # a linear equation, so that all but the first step repair its rounding errors
            C = P * V @ self.combine(c) @ V
            values = self.residuals(V, C + M @ M.T / D, M)
            closed = self.gathered(values.c)
            correction = np.linalg.solve(J, closed - c)
            left = float(np.max(np.abs(correction)) / np.max(np.abs(c + correction)))
            if left < TOLERANCE / 10:
                break
            c = c + correction
        errors = np.ravel(values.error)
        squares = M @ M.T + D * C
        m, q, u = np.trace(M[:D]) / D, np.trace(squares[:D, :D]) / D, squares[D, D]
        test = self.model.fresh_tasks.transfer(NUMPY, m=m, q=q, u=u, D=float(D), N=float(setting.N), rho=setting.noise)
        return {
            "e_icl": float(test.e_icl),
            "e_idg": float(errors.mean()),
            "train_error": float(self.shares @ np.ravel(values.training)),
            "m": float(m),
            "q": float(q),
            "u": float(u),
            "contrast": float(D * m / np.sqrt((D + 1) * (D * q + u))),
            "replicon": float(np.min(np.linalg.eigvals(J).real)),
            "residual": residual,
            "correction": left,
            "iterations": iterations,
            "V": V,
            "M": M,
            "C": C,
        }

    def residuals(self, V: Array, G: Array, M: Array) -> Residuals:
        """The lowered `residuals` at given order parameters."""
        return self.model.given_tasks.residuals(NUMPY, self.nodes.average, **self.arguments(V, G, M))

    def arguments(self, V: Array, G: Array, M: Array) -> dict[str, Any]:
        """What a prompt of each task sees of V, G = C + M M^T / D and M."""
        D, u = self.setting.D, self.directions
        by_task = self.tasks / np.sqrt(D)
        return {
            "v": self.traces(V),
            "g": self.traces(G),
            "m": (np.einsum("kd,kd->k", u @ M[:D], by_task)[:, None], (by_task @ M[D])[:, None]),
            "omega": np.sum(by_task**2, axis=1)[:, None],
            "D": float(D),
            "rho": self.setting.noise,
        }

    def free_entropy(self, V: Array, C: Array, M: Array) -> float:
        """log Z at beta = P of given order parameters (the docstring of this module), for checks."""
        D, P = self.setting.D, self.setting.P
        terms = np.ravel(self.residuals(V, C + M @ M.T / D, M).free_entropy)
        entropic = D / 2 * (np.linalg.slogdet(V)[1] + np.trace(np.linalg.solve(V, C)))
        ridge = P * self.setting.ridge / 2 * (D * np.trace(V) + D * np.trace(C) + np.sum(M**2))
        return float(entropic - ridge + P * self.shares @ terms)


def task_set(
    setting: Setting,
    tasks: ArrayLike,
    shares: ArrayLike | None = None,
    tolerance: float = 1e-5,
    steepest: float = 10.0,
    model: Model | None = None,
) -> TaskSet:
    """The equations of a task matrix, with nodes of the prompt law to a relative `tolerance`."""
    matrix = check_task_matrix(tasks, setting)
    model = model or LINEAR_ATTENTION
    decade = float(10.0 ** np.ceil(np.log10(max(steepest, 1.0))))
    rules = factor_rules(model, setting.D, setting.N, setting.noise, tolerance, decade, gauss=True)
    names = [name for name in rules if name != "omega"]
    grid = np.meshgrid(*(rules[name][0] for name in names), indexing="ij")
    weights: Array = np.ones(1)
    for name in names:
        weights = np.multiply.outer(weights, rules[name][1]).ravel()
    keep = weights > 1e-3 * tolerance * weights.max() / decade
    factors = {name: axis.ravel()[keep][None, :] for name, axis in zip(names, grid, strict=True)}
    omega = np.sum(matrix**2, axis=1, keepdims=True) / setting.D
    scalars = model.given_tasks.scalars(
        NUMPY, **factors, omega=omega, D=float(setting.D), N=float(setting.N), rho=setting.noise
    )
    nodes = TaskNodes((scalars.T, scalars.p, scalars.x, scalars.l), weights[keep] / weights[keep].sum())
    usage = np.full(len(matrix), 1 / len(matrix)) if shares is None else check_shares(shares, len(matrix))
    return TaskSet(setting, matrix, usage, nodes, model)


def left_over(setting: Setting, tasks: Array, model: Model | None = None) -> float:
    """s of the limit at the ratios of the setting, sqrt(training error / e_idg): where the solve starts."""
    point = ratios(replace(setting, K=len(tasks), beta=np.inf))
    found = solve_task_diversity(point, model=model)
    if not found.converged or found.train_error <= 0:
        return 0.1
    return float(np.sqrt(found.train_error / found.e_idg))


def _check_level(setting: Setting) -> None:
    if setting.ridge == 0:
        raise ParameterError("ridge", setting.ridge, "must be positive for a given set of tasks")
    if np.isfinite(setting.beta):
        raise ParameterError("beta", setting.beta, "must be absent: this level gives the ground state")


def solve_given_tasks(
    setting: Setting,
    tasks: ArrayLike,
    shares: ArrayLike | None = None,
    tolerance: float = 1e-5,
    model: Model | None = None,
) -> Solution:
    """Solve the theory of one task matrix.

    Args:
        setting: the experiment; its K, if set, has to be the number of tasks.
        tasks: (K, D) task matrix.
        shares: fraction of the prompts of each task, by default equal.
        tolerance: relative accuracy of the prompt averages.
        model: lowered theories; by default the package's own.

    Raises:
        ParameterError: bad tasks or shares, no ridge, or a finite temperature.
    """
    _check_level(setting)
    matrix = check_task_matrix(tasks, setting)
    s = left_over(setting, matrix, model)
    with np.errstate(all="ignore"):
        values = task_set(setting, matrix, shares, tolerance, steepest=min(1 / s, 1e6), model=model).solve(s)
    for name in ("V", "M", "C"):
        values.pop(name)
    residual, correction, iterations = (values.pop(name) for name in ("residual", "correction", "iterations"))
    solved = residual <= TOLERANCE and correction <= min(ROUNDING, tolerance)
    residual = max(residual, correction)
    status = Status.CONVERGED if solved else Status.MAX_ITERATIONS
    if not (values["replicon"] > 0 and values["q"] >= values["m"] ** 2 * (1 - 1e-12)):
        status = Status.INADMISSIBLE
    if not all(np.isfinite(x) for x in values.values()):
        status = Status.NON_FINITE
    return solution_of("given-tasks", status, residual, iterations, values, ())


@dataclass(frozen=True, eq=False)
class TaskAverage:
    """The theory averaged over draws of the task matrix.

    Attributes:
        draws: the solution of each task set.
    """

    draws: Sequence[Solution]

    def values(self, name: str) -> Array:
        return np.array([getattr(solution, name) for solution in self.draws])

    def mean(self, name: str) -> float:
        return float(self.values(name).mean())

    def spread(self, name: str) -> float:
        """Standard deviation over task draws."""
        return float(self.values(name).std(ddof=1)) if len(self.draws) > 1 else 0.0

    @property
    def converged(self) -> bool:
        return all(bool(solution.converged) for solution in self.draws)

    def to_dict(self) -> dict[str, Any]:
        """The keys of one solution with means over draws, and the spread beside them."""
        first = self.draws[0]
        worst = max(self.draws, key=lambda solution: int(solution.status))
        names = list(first.observables())
        return {
            "level": first.level,
            "status": Status(int(worst.status)).name.lower(),
            "residual": max(solution.residual for solution in self.draws),
            "iterations": max(solution.iterations for solution in self.draws),
            "draws": len(self.draws),
            **{name: self.mean(name) if self.converged else None for name in names},
            "spread": {name: self.spread(name) if self.converged else None for name in names},
        }


def average_over_tasks(
    setting: Setting,
    draws: int = 1,
    seed: int = 0,
    sphere: bool = False,
    tolerance: float = 1e-5,
    model: Model | None = None,
) -> TaskAverage:
    """Solve `draws` random task sets of `setting.K` tasks (see `draw_task_set`)."""
    check_integer("draws", draws, 1)
    found = []
    for index in range(draws):
        tasks, shares = draw_task_set(setting, seed, index, sphere)
        found.append(solve_given_tasks(setting, tasks, shares, tolerance, model))
    return TaskAverage(tuple(found))
