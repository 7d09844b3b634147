"""The equations of one task matrix, and their solution: matrix order parameters on the context side.

Prompts of task k see V, G = C + M M^T / D and M through their parts and pulls (`numeric.task_forms`). The slopes of a
prompt's term of log Z, lowered and summed over prompts, are combinations of the modes, and the columns of W answer to
them with V, M and C (`symbolic.columns`). So the unknowns are coefficients of the 2 K + 2 modes: y of V^-1 / P, in
y = a(V), and c of V^-1 C V^-1 / P, in an equation that is linear. Both have the same Newton matrix J = 1 - A g, the
stability matrix of the saddle, whose smallest eigenvalue is the replicon.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.task_fluctuations import Fluctuations, Local, Slopes
from replica_icl.numeric.task_forms import TaskForms
from replica_icl.numeric.task_nodes import TaskNodes
from replica_icl.setting import Setting

if TYPE_CHECKING:
    from replica_icl.lowered.given_tasks import Averages, Residuals, ResidualSlopes

Array = NDArray[np.floating[Any]]

TOLERANCE = 1e-10
"""Largest relative imbalance of the equations for V that counts as solved."""
MAX_ITERATIONS = 60
REFINEMENTS = 5
"""Largest number of evaluations of the linear equation for C."""


@dataclass(frozen=True, eq=False)
class Order:
    """Order parameters at a saddle point.

    Attributes:
        V, C: (D + 1, D + 1), symmetric. M: (D + 1, D).
        y, c: coefficients of the modes in V^-1 / P and in V^-1 C V^-1 / P, (2 K + 2,).
        averages, residuals: the lowered averages at V, and at V, C and M.
        newton: J, (2 K + 2, 2 K + 2).
        residual, correction: relative imbalance of the equations for y and for c.
        iterations: of Newton's method.
    """

    V: Array
    C: Array
    M: Array
    y: Array
    c: Array
    averages: Averages
    residuals: Residuals
    newton: Array
    residual: float
    correction: float
    iterations: int

    @property
    def G(self) -> Array:
        """C + M M^T / D."""
        return self.C + self.M @ self.M.T / self.M.shape[1]


@dataclass(frozen=True, eq=False)
class TaskSet:
    """The equations of one task matrix.

    Attributes:
        setting: the experiment.
        forms: of the (K, D) task matrix.
        shares: pi_k, fraction of prompts of each task, (K,).
        nodes: of the prompt law given each task.
        model: the lowered theories.
    """

    setting: Setting
    forms: TaskForms
    shares: Array
    nodes: TaskNodes
    model: Model

    @property
    def _sizes(self) -> dict[str, float]:
        return {"D": float(self.setting.D), "P": float(self.setting.P)}

    def curvature(self, slopes: Sequence[Sequence[Any]]) -> Array:
        """-d(gathered a)/d(traces), (2 K + 2, 2 K + 2)."""
        K = self.forms.K
        local = np.array([[np.broadcast_to(np.ravel(x), K) for x in row] for row in slopes]).transpose(2, 0, 1)
        return self.forms.embedded(-self.shares[:, None, None] * local)

    def slope_G(self, y: Array) -> Array:
        """The prompts' slope by G at coefficients y, (D + 1, D + 1)."""
        return -self.setting.D / 2 * self.setting.P * self.forms.combine(y)

    def fluctuations(self, y: Array) -> Array:
        """V of given coefficients."""
        thermal = self.model.given_tasks.thermal_covariance
        return np.asarray(thermal(NUMPY, slope_G=self.slope_G(y), **self._sizes, lambda_0=self.setting.ridge).V)

    def averages(self, V: Array) -> Averages:
        """The lowered `averages` at given V."""
        seen = self.forms.seen(self.forms.traces(V))
        return cast("Averages", self.taken(self.model.given_tasks.averages, v=seen, D=float(self.setting.D)))

    def taken(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """A lowered record of averages over the prompts of each task."""
        return function(NUMPY, self.nodes.average, **arguments)

    def start(self, s: float) -> Array:
        """Coefficients where training leaves a share s of every residual."""
        size = self.setting.D + 1
        return s * self.forms.gathered(self.averages(np.zeros((size, size))).a, self.shares)

    def solve_fluctuations(self, y: Array) -> tuple[Array, Array, Averages, float, int]:
        """y and V by damped Newton from given coefficients, with the averages, the residual and the iterations.

        A step is good if what the prompts make of V comes closer to it, in units of V itself or coefficient by
        coefficient. Coefficients of single tasks pass through zero where label noise says more across a task than along
        it; in units of V, rounding errors are seen in directions that the ridge alone holds.
        """
        K, P = self.forms.K, self.setting.P
        best, residual, distance, iterations = y, np.inf, np.inf, 0
        step = np.zeros_like(y)
        V: Array = np.eye(self.setting.D + 1)
        found = None
        while found is None or iterations < MAX_ITERATIONS:
            iterations += 1
            V_new = self.fluctuations(y)
            found_new = self.averages(V_new)
            mapped = self.forms.gathered(found_new.a, self.shares)
            size = np.concatenate([*(2 * [np.abs(y[:K]) + np.abs(mapped[:K])]), 2 * y[-2:]])
            new = float(np.max(np.abs(mapped - y) / np.maximum(size, 1e-300)))
            if not np.isfinite(new):
                far = np.inf
            else:
                root = _root(V_new)
                far = float(np.max(np.abs(self._in_units_of_V(mapped - y, root))))
            if found is not None and not (far < distance or new < residual):
                if not np.max(np.abs(step)) > 1e-14 * np.max(np.abs(best)):
                    break
                step /= 2
                y = best + step
                continue
            best, residual, distance, V, found = y, new, far, V_new, found_new
            if residual < 1e-13 or not np.isfinite(residual):
                break
            J = np.eye(y.size) - P * self.curvature(found.slopes) @ self.forms.gram(V)
            step = np.where(y != 0, np.linalg.solve(J, mapped - y), 0.0)  # a task without prompts keeps its zeros
            step *= min(1.0, 0.8 / max(-self._in_units_of_V(step, root)[0], 1e-300))  # V^-1 stays positive
            y = best + step
        return best, V, found, residual, iterations

    def _in_units_of_V(self, change: Array, root: Array) -> Array:
        """Eigenvalues, rising, of a change of V^-1 by its coefficients, relative to V^-1; V = root root^T."""
        return np.asarray(np.linalg.eigvalsh(self.setting.P * root.T @ self.forms.combine(change) @ root))

    def solve(self, y: Array) -> Order:
        """Order parameters, from given coefficients of V^-1."""
        P, forms = self.setting.P, self.forms
        y, V, found, residual, iterations = self.solve_fluctuations(y)
        newton = np.eye(y.size) - P * self.curvature(found.slopes) @ forms.gram(V)
        c, left = np.zeros(y.size), np.inf
        for _ in range(REFINEMENTS):  # a linear equation, so that all but the first step repair its rounding errors
            M, C = self.weights(V, y, c, found)
            values = self.residuals(V, C + M @ M.T / self.setting.D, M)
            correction = np.linalg.solve(newton, forms.gathered(values.c, self.shares) - c)
            left = float(np.max(np.abs(correction)) / np.max(np.abs(c + correction)))
            if left < TOLERANCE / 10:
                break
            c = c + correction
        return Order(V, C, M, y, c, found, values, newton, residual, left, iterations)

    def weights(self, V: Array, y: Array, c: Array, found: Averages) -> tuple[Array, Array]:
        """M and C at given V and coefficients."""
        P = self.setting.P
        pull = self.forms.pull(*(self.shares * np.ravel(x) for x in found.b))
        by_G = self.slope_G(y)
        by_V = by_G - self.slope_G(c)
        out = self.model.given_tasks.weights(
            NUMPY, V=V, slope_V=by_V, slope_G=by_G, slope_M=P * pull, D=float(self.setting.D)
        )
        return np.asarray(out.M), np.asarray(out.C)

    def arguments(self, V: Array, G: Array, M: Array) -> dict[str, Any]:
        """What a prompt of each task sees of V, G = C + M M^T / D and M."""
        forms = self.forms
        return {
            "v": forms.seen(forms.traces(V)),
            "g": forms.seen(forms.traces(G)),
            "m": forms.pulled(M),
            "omega": np.sum(forms.scaled**2, axis=1)[:, None],
            "D": float(self.setting.D),
            "rho": self.setting.noise,
        }

    def residuals(self, V: Array, G: Array, M: Array) -> Residuals:
        """The lowered `residuals` at given order parameters."""
        return cast("Residuals", self.taken(self.model.given_tasks.residuals, **self.arguments(V, G, M)))

    def observables(self, at: Order) -> dict[str, float]:
        """Observables of the mean weights at the saddle point."""
        D = self.setting.D
        squares = D * at.G
        m, q, u = np.trace(at.M[:D]) / D, np.trace(squares[:D, :D]) / D, squares[D, D]
        return {
            "e_icl": self.transferred(m, q, u),
            "e_idg": float(np.mean(at.residuals.error)),
            "train_error": float(self.shares @ np.ravel(at.residuals.training)),
            "m": float(m),
            "q": float(q),
            "u": float(u),
            "contrast": float(D * m / np.sqrt((D + 1) * (D * q + u))),
            "replicon": float(np.min(np.linalg.eigvals(at.newton).real)),
        }

    def transferred(self, m: float, q: float, u: float) -> float:
        """e_icl of given overlaps, linear in them."""
        sizes = {"D": float(self.setting.D), "N": float(self.setting.N), "rho": self.setting.noise}
        return float(self.model.fresh_tasks.transfer(NUMPY, m=m, q=q, u=u, **sizes).e_icl)

    def response(self, at: Order) -> Response:
        """How the observables answer to small changes around a saddle point."""
        return Response(
            self, at, self.taken(self.model.given_tasks.residual_slopes, **self.arguments(at.V, at.G, at.M))
        )

    def fluctuation_slopes(self, at: Order) -> Slopes:
        """Slopes of the shared part of the next order at a saddle point."""
        given, K = self.arguments(at.V, at.G, at.M), self.forms.K
        functions = self.model.given_tasks
        out = self.taken(functions.fluctuations, **given)
        local = Local.of(out.own, K), Local.of(out.shared, K)
        found = Fluctuations(self.forms, self.setting.P * self.shares, (at.V, at.G, at.M), *local)
        found.overlaps_fluctuate()
        found.one_fellow_less()
        found.contexts_scatter()
        found.pairs_meet_twice()
        return found.slopes(
            lambda own, shared: self.taken(
                functions.fluctuation_slopes, **given, own_weights=own, shared_weights=shared
            )
        )

    def free_entropy(self, V: Array, C: Array, M: Array) -> float:
        """log Z at beta = P of given order parameters, for checks."""
        D, P = self.setting.D, self.setting.P
        terms = np.ravel(self.residuals(V, C + M @ M.T / D, M).free_entropy)
        entropic = D / 2 * (np.linalg.slogdet(V)[1] + np.trace(np.linalg.solve(V, C)))
        ridge = P * self.setting.ridge / 2 * (D * np.trace(V) + D * np.trace(C) + np.sum(M**2))
        return float(entropic - ridge + P * self.shares @ terms)


@dataclass(frozen=True, eq=False)
class Response:
    """Linear response of the observables at a saddle point.

    Attributes:
        equations: with nodes that are good for slopes.
        at: the saddle point.
        slopes: of b, c and the squared residuals.
    """

    equations: TaskSet
    at: Order
    slopes: ResidualSlopes

    def to_slopes(self, by_V: Array, by_G: Array, by_M: Array) -> dict[str, float]:
        """Changes when the free entropy gains slopes by V, G and M (at given G); by way of the order parameters."""
        equations, at, slopes = self.equations, self.at, self.slopes
        forms, shares, V, M = equations.forms, equations.shares, at.V, at.M
        D, P = equations.setting.D, equations.setting.P
        driven = 2 / D * V @ by_G @ V
        A = equations.curvature(at.averages.slopes)
        dy = np.linalg.solve(at.newton, -A @ forms.traces(driven))
        dV = driven - P * V @ forms.combine(dy) @ V
        dv = forms.seen(forms.traces(dV))
        pull = forms.pull(*(shares * np.ravel(x) for x in at.averages.b))
        moved = forms.pull(*(shares * np.ravel(x) for x in _product(slopes.b_by_v, dv)))
        dM = P * dV @ pull + V @ (P * moved + by_M)
        dm = forms.pulled(dM)
        half = dV @ (P * forms.combine(at.c)) @ V
        dG = half + half.T + 2 / D * V @ (by_V - by_G) @ V + (dM @ M.T + M @ dM.T) / D
        by = ((slopes.c_by_v, dv), (slopes.c_by_g, forms.seen(forms.traces(dG))), (slopes.c_by_m, dm))
        parts = [sum(terms) for terms in zip(*(_product(matrix, d) for matrix, d in by), strict=True)]
        dc = np.linalg.solve(at.newton, forms.gathered(parts, shares))
        dG = dG + P * V @ forms.combine(dc) @ V
        dg = forms.seen(forms.traces(dG))
        m, q, u = np.trace(dM[:D]) / D, np.trace(dG[:D, :D]), D * dG[D, D]
        error = _product([slopes.error_by_g], dg)[0] + _product([slopes.error_by_m], dm)[0]
        training = _product([slopes.training_by_v], dv)[0] + _product([slopes.training_by_g], dg)[0]
        training = training + _product([slopes.training_by_m], dm)[0]
        return {
            "e_icl": equations.transferred(m, q, u) - equations.transferred(0.0, 0.0, 0.0),
            "e_idg": float(np.mean(error)),
            "train_error": float(shares @ np.ravel(training)),
            "m": float(m),
            "q": float(q),
            "u": float(u),
        }

    def to_averages(
        self, a: list[Array], b: list[Array], c: list[Array], error: Array, training: Array
    ) -> dict[str, float]:
        """Changes when the averages change by these values, per task (K,)."""
        equations, forms, shares = self.equations, self.equations.forms, self.equations.shares
        by_G = equations.slope_G(forms.gathered(a, shares))
        by_V = by_G - equations.slope_G(forms.gathered(c, shares))
        changes = self.to_slopes(by_V, by_G, equations.setting.P * forms.pull(*(shares * x for x in b)))
        changes["e_idg"] += float(np.mean(error))
        changes["train_error"] += float(shares @ training)
        return changes

    def to_next_order(self) -> dict[str, float]:
        """What the next order adds."""
        slopes = self.equations.fluctuation_slopes(self.at)
        # Slopes by V: of the thermal fluctuations, which are those of the shared part by G, and of the shared part.
        added = self.to_slopes(slopes.by_V + slopes.by_G, slopes.by_G, slopes.by_M)
        added["train_error"] -= 2 / self.equations.setting.P * slopes.by_scale
        return added


def _root(V: Array) -> Array:
    """R with V = R R^T, of a matrix that may be singular within rounding errors."""
    values, vectors = np.linalg.eigh(V)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _product(matrix: Sequence[Sequence[Any]], vector: Sequence[Any]) -> list[Any]:
    return [sum(x * y for x, y in zip(row, vector, strict=True)) for row in matrix]
