"""The spread of c~^T V c~ at given tasks: what the theory of `given_tasks` leaves out at order 1/D.

That theory replaces the directions of the orthogonal part of c by their mean. Where V is anisotropic, most for K < D
and few prompts, c~^T V c~ scatters over them. The scatter adds a term to the ground state's free energy,
P sum_k pi_k spread_k (`theory.given_tasks.spread`). Errors are derivatives of the free energy: h/2 times a test
error added to the energy changes -2/P times the free energy by h times that error. The free energy is stationary, so
the term is needed at the saddle without it, and its change with h is the correction of the error to first order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.given_tasks import REFINEMENTS, TaskSet, left_over, solve_given_tasks, task_set
from replica_icl.setting import Setting

Array = NDArray[np.floating[Any]]

STEP = 1e-4
"""h in units of the estimated share that training leaves of a residual."""


@dataclass(frozen=True, eq=False)
class SourcedTaskSet(TaskSet):
    """The equations with h/2 [tr(W^T A W) - 2 tr(W^T B)] added to the energy.

    Attributes:
        A: h E c~ c~^T of the test prompts, (D + 1, D + 1).
        B: h E c~ w^T / sqrt(D), (D + 1, D).
    """

    A: Array
    B: Array

    def fluctuations(self, y: Array) -> Array:
        plain = self.setting.P * (self.combine(y) + self.A)
        plain.flat[:: self.setting.D + 2] += self.setting.P * self.setting.ridge
        return np.linalg.inv(plain)

    def saddle(self, s: float) -> tuple[Array, Array, Array]:
        """V, C and M."""
        D, P = self.setting.D, self.setting.P
        V, found, _, _ = self.solve_fluctuations(s)
        pull = np.stack([np.ravel(x) for x in found.b]) * self.shares
        by_task = self.tasks / np.sqrt(D)
        M = P * V @ (np.vstack([(self.directions * pull[0][:, None]).T @ by_task, pull[1] @ by_task]) + self.B)
        J = np.eye(2 * self.K + 2) - P * self.curvature(found.slopes) @ self.gram(V)
        c = np.zeros(len(J))
        for _ in range(REFINEMENTS):
            closed = self.gathered(self.residuals(V, P * V @ self.combine(c) @ V + M @ M.T / D, M).c)
            c = c + np.linalg.solve(J, closed - c)
        return V, P * V @ self.combine(c) @ V, M

    def spread(self, V: Array, C: Array, M: Array) -> float:
        """The term of the free energy at given order parameters."""
        D, u = self.setting.D, self.directions
        G, by_task = C + M @ M.T / D, self.tasks / np.sqrt(D)

        def across(rows: Array) -> Array:
            return rows - np.sum(rows * u, axis=1, keepdims=True) * u

        def dot(left: Array, right: Array) -> Array:
            return np.sum(left * right, axis=1, keepdims=True)

        def anisotropy(left: Array, right: Array) -> Array:
            left, right = left[:D, :D], right[:D, :D]
            on_left, on_right = u @ left, u @ right
            product = np.sum(left * right) - 2 * dot(on_left, on_right) + dot(on_left, u) * dot(on_right, u)
            traces = (np.trace(left) - dot(on_left, u)) * (np.trace(right) - dot(on_right, u))
            return product - traces / (D - 1)

        Vu, Gu = across(u @ V[:D, :D]), across(u @ G[:D, :D])
        Ve, Ge = (across(np.tile(X[:D, D], (self.K, 1))) for X in (V, G))
        Mw = across(by_task @ M[:D].T)
        products = {
            "vv_task": dot(Vu, Vu),
            "vv_corner": dot(Ve, Ve),
            "vv_cross": dot(Vu, Ve),
            "vg_task": dot(Vu, Gu),
            "vg_corner": dot(Ve, Ge),
            "vg_cross": dot(Vu, Ge) + dot(Ve, Gu),
            "vm_task": dot(Vu, Mw),
            "vm_corner": dot(Ve, Mw),
            "vv_rest": anisotropy(V, V),
            "vg_rest": anisotropy(V, G),
        }
        value = self.model.given_tasks.spread(NUMPY, self.nodes.average, **self.arguments(V, G, M), **products)
        return float(self.setting.P * self.shares @ np.ravel(value.spread))


def errors_with_spread(
    setting: Setting,
    tasks: ArrayLike,
    shares: ArrayLike | None = None,
    tolerance: float = 1e-5,
    model: Model | None = None,
) -> dict[str, float]:
    """e_icl and e_idg of a given task set with the spread of c~^T V c~ to first order.

    Arguments and errors as in `solve_given_tasks`.

    Raises:
        SolveError: the theory without the spread did not converge.
    """
    model = model or LINEAR_ATTENTION
    solution = solve_given_tasks(setting, tasks, shares, tolerance, model).or_raise()
    s = left_over(setting, np.asarray(tasks, dtype=float), model)
    plain = task_set(setting, tasks, shares, tolerance, steepest=min(1 / s, 1e6), model=model)
    D, K = setting.D, plain.K
    moments = model.given_tasks.moments(NUMPY, plain.nodes.average, D=D)
    task, rest, corner, cross = (np.ravel(x) / K for x in moments.f)
    y = np.concatenate([task, cross, [rest.sum(), corner.sum()]])
    by_task = plain.tasks / np.sqrt(D)
    along, last = np.ravel(moments.p) / K, np.ravel(moments.l) / K
    seen = np.vstack([(plain.directions * along[:, None]).T @ by_task, last @ by_task])
    at = {"D": float(D), "N": float(setting.N), "rho": setting.noise}
    bare, in_q, in_u = (
        model.fresh_tasks.transfer(NUMPY, m=0.0, q=q, u=u, **at).e_icl for q, u in ((0, 0), (1, 0), (0, 1))
    )
    isotropic = np.diag(np.r_[np.full(D, (in_q - bare) / D), in_u - bare])
    tests = {"e_icl": (isotropic, np.eye(D + 1, D) / D), "e_idg": (plain.combine(y), seen)}
    own = {field.name: getattr(plain, field.name) for field in fields(plain)}
    found = {}
    for name, (A, B) in tests.items():
        h = STEP * max(s, setting.ridge * D)
        terms = []
        for step in (h, -h):
            sourced = SourcedTaskSet(**own, A=step * A, B=step * B)
            terms.append(sourced.spread(*sourced.saddle(s)))
        found[name] = float(getattr(solution, name) - (terms[0] - terms[1]) / (h * setting.P))
    return found
