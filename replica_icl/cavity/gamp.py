"""Approximate message passing on the prompts (GAMP, Rangan 2011) for features c~ (outer) x~ and the squared loss.

Belief propagation between prompts and weights, with messages that are Gaussian and differ from one another by the
Onsager reaction. Per prompt, with the weights' responses V per query direction (tokens) and V_u (last row):

    tau = (|x~|^2 / D) (|c|^2 V + l^2 V_u),    p = y^ - tau r,    r = (y~ - p) / (1 + tau),

p the prediction without the prompt's own influence; per block of weights the stiffness A = sum of s^2 / (1 + tau) over
prompts, the field g = A W + sum_mu s_mu r_mu, and W, dW/dg from the prior's denoiser. At a fixed point r is the
residual and g - A W its pull, so that W is the exact ground state whatever A and V are. An iteration costs two thin
products and no matrix of the prompts' or the weights' square. Energy: (1/2P) sum r^2 + sum r(W), in units of P.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from replica_icl.parameter import check_fraction, check_integer, check_real
from replica_icl.simulator.features import FeatureSource
from replica_icl.status import Status
from replica_icl.threads import one_thread

Array = NDArray[np.float64]

TOLERANCE = 1e-9
"""Largest undamped change of weights and residuals in one iteration that counts as converged (`Messages.change`)."""
MAX_ITERATIONS = 1000
DAMPING = 0.05
"""Share of the old messages that is kept by default: undamped some instances have an eigenvalue next to -1."""
PATIENCE = 30
"""Full steps without a change smaller than all before after which steps are shortened."""
LOST = 100.0
"""A change that exceeds the smallest one by this factor leads back to where that was, with shorter steps."""
SHORTER, SHORTEST = 0.8, 0.05
"""Factor by which steps are shortened, and the smallest share of a step."""


class Denoiser(Protocol):
    """What a prior makes of the fields: argmin of A W^2 / 2 - g W + P r(W)."""

    def __call__(self, field: Array, stiffness: Array, prompts: int) -> tuple[Array, Array]:
        """W and dW/dg, shape (D+1, D), at fields of that shape and stiffnesses of shape (D+1, 1)."""


@dataclass(frozen=True, eq=False)
class Messages:
    """Where message passing ended.

    Attributes:
        W: shape (D+1, D+1), first index context side; the last column, which never acts, is zero.
        response: dW/dg of each acting weight, shape (D+1, D): P/beta times it is the weight's posterior variance.
        status: converged, max iterations, or non-finite.
        change: in the last iteration, undamped: of the weights relative to them, or of the residuals relative to the
            targets, whichever is larger.
        iterations: two thin products each.
        damping: share of the old messages that was kept in the end.
    """

    W: Array
    response: Array
    status: Status
    change: float
    iterations: int
    damping: float


def message_passing(
    features: FeatureSource,
    denoiser: Denoiser,
    *,
    damping: float = DAMPING,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
    watch: Callable[[Array], None] | None = None,
) -> Messages:
    """Run message passing from W = 0.

    Args:
        features: P prompts.
        denoiser: of the prior.
        damping: share of the old messages that is kept, at least; it is raised where changes grow or do not fall.
        tolerance: of the relative change.
        max_iterations: iterations.
        watch: called with W, shape (D+1, D+1), after every iteration.

    Raises:
        ParameterError: damping out of [0, 1), or another parameter out of range.
    """
    kept = check_fraction("damping", damping)
    check_real("tolerance", tolerance, positive=True)
    limit = check_integer("max_iterations", max_iterations, 1)
    with one_thread():
        return _run(_Prompts.of(features), denoiser, 1 - kept, tolerance, limit, watch)


@dataclass(frozen=True, eq=False)
class _Prompts:
    """Features and the squared norms that messages need, each of shape (P,)."""

    features: FeatureSource
    query: Array
    context: Array
    corner: Array

    @classmethod
    def of(cls, features: FeatureSource) -> _Prompts:
        D = features.D
        norms = [
            (np.sum(b.query**2, axis=1) / D, np.sum(b.context[:, :D] ** 2, axis=1), b.context[:, D] ** 2)
            for b in features.blocks()
        ]
        query, context, corner = (np.concatenate(parts) for parts in zip(*norms, strict=True))
        return cls(features, query, context, corner)

    def variance(self, V: float, V_u: float) -> Array:
        """tau of each prompt."""
        return self.query * (self.context * V + self.corner * V_u)

    def stiffness(self, tau: Array) -> Array:
        """A of each row of W, shape (D+1, 1)."""
        D, weight = self.features.D, self.query / (1 + tau)
        rows = np.full((D + 1, 1), float(weight @ self.context) / D)
        rows[D] = float(weight @ self.corner)
        return rows


@dataclass(frozen=True, eq=False)
class _State:
    """Weights (D+1, D), the prompts' residual messages (P,), and the responses V, V_u."""

    sigma: Array
    residual: Array
    V: float
    V_u: float


def _run(
    prompts: _Prompts,
    denoiser: Denoiser,
    most: float,
    tolerance: float,
    limit: int,
    watch: Callable[[Array], None] | None,
) -> Messages:
    features = prompts.features
    D, P = features.D, features.P
    state = best = _State(np.zeros((D + 1, D)), np.zeros(P), 0.0, 0.0)
    share, smallest, waited = most, np.inf, 0.0
    sigma, response = state.sigma, np.zeros((D + 1, D))
    change, status = np.inf, Status.MAX_ITERATIONS
    targets = max(float(np.linalg.norm(features.target)), 1e-300)
    iteration = 0
    while iteration < limit:
        iteration += 1
        tau = prompts.variance(state.V, state.V_u)
        own = (features.target - features.apply(state.sigma) + tau * state.residual) / (1 + tau)
        first = iteration == 1
        moved = 0.0 if first else float(np.linalg.norm(own - state.residual)) / targets
        residual = own if first else state.residual + share * (own - state.residual)
        stiffness = prompts.stiffness(tau)
        field = stiffness * state.sigma + features.apply_transpose(residual)
        sigma, response = denoiser(field, stiffness, P)
        size = float(np.linalg.norm(sigma - state.sigma))
        norm = float(np.linalg.norm(sigma))
        change = max(size / norm if norm > 0 else size, moved)
        if not np.isfinite(size):
            status = Status.NON_FINITE
            break
        waited += share
        if size < smallest:
            smallest, best, waited = size, state, 0.0
        lost = size > LOST * smallest
        if lost or waited > PATIENCE:
            share, waited = max(SHORTER * share, SHORTEST), 0.0
        if lost:
            state = best
        else:
            state = _State(
                state.sigma + share * (sigma - state.sigma),
                residual,
                state.V + share * (float(response[:D].sum()) / D - state.V),
                state.V_u + share * (float(response[D].sum()) - state.V_u),
            )
        if watch is not None:
            watch(np.pad(state.sigma, ((0, 0), (0, 1))))
        if change <= tolerance:
            status = Status.CONVERGED
            break
    # What the denoiser gave, not the damped state beside it: a weight that a prior sets to zero is zero.
    return Messages(np.pad(sigma, ((0, 0), (0, 1))), response, status, change, iteration, 1 - share)
