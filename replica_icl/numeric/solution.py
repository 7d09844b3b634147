"""A solved point or grid: values, and beside every value a status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np

from replica_icl.errors import SolveError


class Status(IntEnum):
    """How a solve ended. Only CONVERGED values are values; the others come with NaN."""

    CONVERGED = 0
    MAX_ITERATIONS = 1
    """The residual is still above the tolerance."""
    NON_FINITE = 2
    """NaN or infinity on the way."""
    INADMISSIBLE = 3
    """A root, but not a physical one: V <= 0, q < m^2 or a negative stability eigenvalue."""
    SINGULAR = 4
    """A point where the saddle does not exist, e.g. ridge 0 at alpha = 1 where e_icl diverges."""


@dataclass(frozen=True)
class Solution:
    """Order parameters and observables at the saddle point, arrays of the shape that was asked for (or floats).

    Attributes:
        level: "limit" or "finite-size".
        status: `Status` of each point.
        residual: largest relative imbalance of the saddle-point equations, undamped, at the returned point.
        iterations: of the solver; 0 for a closed form.
        e_icl: mean squared error on prompts with new tasks, ground state.
        e_idg: the same on training tasks; equal to e_icl for fresh tasks in the limit.
        train_error: (1/P) sum of squared training residuals, ground state.
        m: overlap tr(W_DD)/D.
        q: self-overlap |W_DD|^2/D, >= m^2.
        contrast: tr W / (|W| sqrt(D + 1)) at finite size, m/sqrt(q) in the limit.
        replicon: smallest stability eigenvalue, positive where replica symmetry is stable.
        V: thermal variance of the D^2 block per Q, beta-conjugate fluctuation (finite beta only).
        u: squared norm of the last row's acting weights (finite size only).
        V_u: its thermal part (finite size and beta only).
        e_gibbs, train_gibbs: errors of one Gibbs sample, on new and on training prompts (finite beta only).
        log_Z: log partition function over the D (D + 1) acting weights (finite beta with integers only).
        entropy: log Z + beta <E>, differential entropy of the acting weights (finite size and beta only).
        next_order: what the next order of the free entropy, a relative O(1/D^2), adds to each value, by name (finite
            size only); `with_next_order` adds it.
        theory_error: estimate of the theory's own error of e_icl, train_error, m and q, by name (finite size only): an
            order of magnitude of what is neglected, the next order and those after it.
    """

    level: str
    status: Any
    residual: Any
    iterations: Any
    e_icl: Any
    train_error: Any
    m: Any
    q: Any
    contrast: Any
    replicon: Any
    e_idg: Any = None
    V: Any = None
    u: Any = None
    V_u: Any = None
    e_gibbs: Any = None
    train_gibbs: Any = None
    log_Z: Any = None
    entropy: Any = None
    next_order: Mapping[str, Any] | None = None
    theory_error: Mapping[str, Any] | None = None

    @property
    def converged(self) -> Any:
        """True where the status is CONVERGED."""
        return np.asarray(self.status) == Status.CONVERGED if np.ndim(self.status) else self.status == Status.CONVERGED

    def observables(self) -> dict[str, Any]:
        """The values that exist, by name."""
        apart = ("level", "status", "residual", "iterations", "next_order", "theory_error")
        names = [f.name for f in fields(self) if f.name not in apart]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; a failed point has null values beside its status name."""

        def plain(value: Any) -> Any:
            if np.ndim(value):
                return [plain(x) for x in np.asarray(value)]
            return float(value) if np.isfinite(value) else None

        def named(status: Any) -> Any:
            return [named(x) for x in status] if np.ndim(status) else Status(int(status)).name.lower()

        head = {"level": self.level, "status": named(self.status), "residual": plain(self.residual)}
        iterations = int(self.iterations) if np.ndim(self.iterations) == 0 else np.asarray(self.iterations).tolist()
        values = {name: plain(value) for name, value in self.observables().items()}
        for name in ("next_order", "theory_error"):
            if (by_name := getattr(self, name)) is not None:
                values[name] = {key: plain(value) for key, value in by_name.items()}
        return {**head, "iterations": iterations, **values}

    def table(self) -> str:
        """Text for one point: how it was solved, then observable, value, what the next order adds, own error."""
        head = f"{self.level}: {Status(int(self.status)).name.lower()}, residual {self.residual:.2g}"
        if self.iterations:
            head += f", {self.iterations} iterations"
        added, errors = self.next_order or {}, self.theory_error or {}
        titles = " next order   own error" if added or errors else ""
        lines = [head, f"{'observable':<12} {'value':<15}{titles}".rstrip()]
        for name, value in self.observables().items():
            gain = f"{added[name]:+.3g}" if name in added else ""
            error = f"{errors[name]:.3g}" if name in errors else ""
            lines.append(f"{name:<12} {value:<15.10g} {gain:<12} {error}".rstrip())
        return "\n".join(lines)

    def with_next_order(self) -> Solution:
        """This solution with the next order added to its values; itself at a level that has none.

        What is left of `theory_error` is the estimate of the orders after that. Residual, status and replicon stay
        those of the saddle point.
        """
        if self.next_order is None:
            return self
        values = {name: getattr(self, name) + added for name, added in self.next_order.items()}
        left = {name: error - np.abs(self.next_order[name]) for name, error in (self.theory_error or {}).items()}
        return replace(self, **values, next_order=None, theory_error=left)

    def point(self, index: int) -> Solution:
        """One point of a grid, with plain numbers."""

        def at(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: at(x) for name, x in value.items()}
            return None if value is None else np.asarray(value)[index].item()

        values = {f.name: at(getattr(self, f.name)) for f in fields(self) if f.name not in ("level", "status")}
        return Solution(level=self.level, status=Status(int(self.status[index])), **values)

    def or_raise(self) -> Solution:
        """This solution if every point converged.

        Raises:
            SolveError: with the number of failed points and the status of the first.
        """
        failed = np.flatnonzero(~np.atleast_1d(self.converged))
        if failed.size:
            first = Status(int(np.ravel(self.status)[failed[0]]))
            where = "" if np.ndim(self.status) == 0 else f" ({failed.size} of {np.size(self.status)} points)"
            raise SolveError(f"the {self.level} solve ended with status {first.name.lower()}{where}")
        return self


def solution_of(
    level: str, status: Any, residual: Any, iterations: Any, values: dict[str, Any], shape: Any
) -> Solution:
    """Assemble a solution: failed points become NaN, arrays take `shape`, one point becomes plain numbers."""
    status = np.broadcast_to(np.asarray(status), shape)
    good = status == Status.CONVERGED

    def shaped(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: shaped(x) for name, x in value.items()}
        array = np.where(good, np.broadcast_to(value, shape), np.nan)
        return array if shape else float(array)

    return Solution(
        level=level,
        status=status.astype(np.int8) if shape else Status(int(status)),
        residual=np.array(np.broadcast_to(residual, shape)) if shape else float(np.asarray(residual)),
        iterations=np.array(np.broadcast_to(iterations, shape)) if shape else int(np.asarray(iterations)),
        **{name: shaped(value) for name, value in values.items()},
    )
