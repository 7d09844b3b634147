"""The next order at given tasks: its slopes by the matrix order parameters, at a solved saddle point.

Psi, the log Z of the replicas' thermal fluctuations (`theory.task_fluctuations`), is a function of local averages over
the prompts of each task and of the gram matrix g of V. What the replicas share is its derivative along
V -> V + epsilon G, with the task as one more row: G_ct = M w / D^(3/2) for task w, which modes beyond those of the
context side answer to, two pulls per task. So two things are needed, the gradient of Psi, here `own`, and the
derivative of that gradient, here `shared`: the slope of the shared part by G is the own gradient, that by V the shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.numeric.task_forms import LOCAL, TaskForms
from replica_icl.numeric.task_scatter import Scatter

if TYPE_CHECKING:
    from replica_icl.lowered.given_tasks import FluctuationSlopes

Array = NDArray[np.floating[Any]]

_UPPER = np.triu_indices(4)
_TWICE = np.where(_UPPER[0] == _UPPER[1], 2.0, 1.0)
_SIX = np.block([[LOCAL, np.zeros((4, 2))], [np.zeros((2, 4)), np.eye(2)]])
"""Parts and pulls of a task in its modes and pulls."""
_FIXED = np.diag([1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
"""Parts and pulls of a context's fixed directions, without the part across its task."""
_KINDS = {
    "fixed, fixed": (_SIX @ _FIXED, _SIX @ _FIXED),
    "fixed, across": (_SIX @ _FIXED, _SIX @ (np.eye(6) - _FIXED)),
    "across, across": (_SIX @ (np.eye(6) - _FIXED), _SIX @ (np.eye(6) - _FIXED)),
}
"""What of A belongs to which parts of a context, as matrices from parts to modes on its two sides."""
_TRANSPOSED = {
    "fixed, fixed": "fixed, fixed",
    "fixed, across": "across, fixed",
    "across, fixed": "fixed, across",
    "across, across": "across, across",
}
PAIRINGS = (
    ("fixed, fixed", "fixed, across", 16),
    ("fixed, across", "fixed, across", 12),
    ("fixed, fixed", "across, across", 8),
    ("fixed, across", "across, fixed", 12),
    ("fixed, across", "across, across", 24),
    ("across, across", "across, across", 6),
)
"""Kinds X and Z of A, and the coefficient of tr(X^T g Z g) in 8 times the pairings of two prompts that meet twice.

(c~.V c~')^4 has three pairings of queries. With c~.V c~' = a_1 + a_2 + a_3 + a_4, by the parts of c~ and c~' that are
fixed or go across their tasks in any direction (fixed fixed, fixed across, across fixed, across across), its average
over directions beyond the square of that of (c~.V c~')^2 is 4 a_1^2 b + 2 b^2, b the sum of the squares of the others.
What of it the scatter and the saddle point have counted, (a_1 + a_2)^4 and (a_1 + a_3)^4 beyond the squares of their
squares, is taken back: 3 (4 a_1^2 b + 2 b^2) - 4 a_1^2 (a_2^2 + a_3^2) - 2 (a_2^4 + a_3^4), of averages of squares.
For isotropic contexts 6 of them are left, as in `theory.fresh_tasks`."""


@dataclass(frozen=True, eq=False)
class Local:
    """Averages over the prompts of each task, named as in `theory.task_fluctuations`; or weights of them in a sum.

    Attributes:
        response: of B on parts, (K, 4).
        pull: of B between the context side and the task's row, (K, 2).
        curvature: of A on parts, (K, 4, 4), symmetric.
        pull_curvature: of A between pulls and parts, (K, 2, 4).
        scatter, scatter_pull: (K, 4) and (K, 2).
    """

    response: Array
    pull: Array
    curvature: Array
    pull_curvature: Array
    scatter: Array
    scatter_pull: Array

    @classmethod
    def zeros(cls, K: int) -> Local:
        return cls(*map(np.zeros, ((K, 4), (K, 2), (K, 4, 4), (K, 2, 4), (K, 4), (K, 2))))

    @classmethod
    def of(cls, averages: Sequence[Any], K: int) -> Local:
        """From the lowered vector over AVERAGES."""
        columns = np.stack([np.broadcast_to(np.ravel(x), K) for x in averages], axis=1)
        response, pull, pairs, pulled, scatter, scatter_pull = np.split(columns, [4, 6, 16, 24, 28], axis=1)
        curvature = np.empty((K, 4, 4))
        curvature[:, *_UPPER] = curvature[:, *_UPPER[::-1]] = pairs
        return cls(response, pull, curvature, pulled.reshape(K, 2, 4), scatter, scatter_pull)

    def as_weights(self) -> tuple[Array, ...]:
        """The lowered vector of weights of AVERAGES, each (K, 1), which have no second side of the diagonal."""
        pairs = (self.curvature + self.curvature.transpose(0, 2, 1))[:, *_UPPER] / _TWICE
        pulled = self.pull_curvature.reshape(len(pairs), 8)
        columns = [self.response, self.pull, pairs, pulled, self.scatter, self.scatter_pull]
        return tuple(np.concatenate(columns, axis=1).T[:, :, None])

    def dot(self, other: Local) -> float:
        """The sum of these weights times averages."""
        return float(sum(np.sum(getattr(self, x) * getattr(other, x)) for x in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Slopes:
    """Slopes of the shared part of the next order, at beta = P.

    Attributes:
        value: the shared part itself.
        by_V, by_G: (D + 1, D + 1), symmetric.
        by_M: (D + 1, D), at given G.
        by_scale: by the weight b of a prompt's loss, at given order parameters.
    """

    value: float
    by_V: Array
    by_G: Array
    by_M: Array
    by_scale: float


class Fluctuations:
    """The next order of one task set at one saddle point.

    Attributes:
        forms: of the task set.
        counts: n_k, prompts of each task, (K,).
        V, G, M: order parameters, G = C + M M^T / D.
        own, shared: averages over the prompts of each task, of one replica and along what the replicas share.
        own_weights, shared_weights: their weights in the gradient of Psi, and in its derivative.
        own_g, shared_g: the same for gram matrices, over modes and pulls, and over modes.
    """

    def __init__(self, forms: TaskForms, counts: Array, order: tuple[Array, Array, Array], own: Local, shared: Local):
        self.forms, self.counts, self.own, self.shared = forms, counts, own, shared
        self.V, self.G, self.M = order
        K, D, self.modes = forms.K, forms.D, forms.count
        self.own_weights, self.shared_weights = Local.zeros(K), Local.zeros(K)
        self.own_g = np.zeros((self.modes + 2 * K, self.modes + 2 * K))
        self.shared_g = np.zeros((self.modes, self.modes))
        corner = np.tile(np.eye(D + 1)[-1], (K, 1))
        self.ends = np.concatenate([np.pad(forms.directions, ((0, 0), (0, 1))), corner])  # of the pulls, u and e
        self.ends_V = self.ends @ self.V
        self.answers = np.tile(forms.scaled @ self.M.T, (2, 1)) / D
        self.tasks = np.tile(forms.scaled @ forms.scaled.T, (2, 2)) / D
        self.g = forms.gram(self.V)
        self.dg = np.zeros_like(self.own_g)
        n = self.modes
        self.dg[:n, :n] = 2 * forms.gram(self.V, self.G)
        self.dg[:n, n:] = -2 * forms.between(self.ends_V, self.answers)
        self.dg[n:, :n] = self.dg[:n, n:].T
        self.dg[n:, n:] = 2 * self.tasks * (self.ends_V @ self.ends.T)
        self.scatter = Scatter(forms, *order)

    def overlaps_fluctuate(self) -> None:
        """-(1/4) [log det(1 - A g) + tr A g]."""
        forms, n, dg = self.forms, self.modes, self.dg
        per_task = self.counts[:, None, None]
        pulled = per_task * (self.own.pull_curvature @ LOCAL.T)
        A = np.concatenate(
            [
                forms.embedded(per_task * self.own.curvature),
                forms.placed(pulled, forms.pulls - n, forms.places, (2 * forms.K, n)),
            ]
        )
        dA = forms.embedded(per_task * self.shared.curvature)
        N = np.linalg.inv(np.eye(n) - A[:n] @ self.g)
        Y = self.g @ N
        AY = A @ ((Y + Y.T) / 2)
        across = np.concatenate([N, AY[n:]])  # the columns of (1 - A g)^-1 on modes; the others are those of 1
        left = across.T @ dg
        self.own_g += AY @ A.T / 4
        self.shared_g += (N @ (dA + A.T @ dg @ A) @ N.T - dA) / 4
        self._weigh(self.own_weights, (Y - self.g) / 4)
        self._weigh(self.shared_weights, (left @ across + Y @ dA @ Y - dg[:n, :n]) / 4)
        on_pulls = (left[:, n:] - dg[:n, n:]) / 2  # both sides of the diagonal
        local = on_pulls[forms.places[:, None, :], (forms.pulls - n)[:, :, None]]
        self.shared_weights.pull_curvature[:] += per_task * (local @ LOCAL)

    def _weigh(self, weights: Local, on_modes: Array) -> None:
        weights.curvature[:] += self.counts[:, None, None] * self.forms.local(on_modes)

    def one_fellow_less(self) -> None:
        """-(D/4) sum_k n_k tr(B_k V B_k V)."""
        forms = self.forms
        places, every = forms.places, np.concatenate([forms.places, forms.pulls], axis=1)
        factor = -forms.D / 2 * self.counts[:, None]
        B = np.concatenate([self.own.response, self.own.pull], axis=1) @ _SIX.T
        dB = self.shared.response @ LOCAL.T
        g = self.g[places[:, :, None], places[:, None, :]]
        dg = self.dg[every[:, :, None], every[:, None, :]]
        along = np.einsum("kij,kj->ki", dg, B)
        along[:, :4] += np.einsum("kij,kj->ki", g, dB)
        along = factor * along @ _SIX
        self.own_weights.response[:] += factor * np.einsum("kij,kj->ki", g, B[:, :4]) @ LOCAL
        self.shared_weights.response[:] += along[:, :4]
        self.shared_weights.pull[:] += along[:, 4:]
        half = factor[:, :, None] / 2
        mixed = B[:, :4, None] * dB[:, None, :]
        self.own_g += forms.placed(half * B[:, :, None] * B[:, None, :], every, every, self.own_g.shape)
        self.shared_g += forms.placed(half * (mixed + mixed.transpose(0, 2, 1)), places, places, self.shared_g.shape)

    def contexts_scatter(self) -> None:
        """(1/4) sum_mu s^2 Var(chi), over the directions of c across the task."""
        n = self.counts[:, None]
        self.own_weights.scatter[:] += n * self.scatter.own
        self.shared_weights.scatter[:] += n * self.scatter.shared
        self.shared_weights.scatter_pull[:] += n * self.scatter.pulls

    def pairs_meet_twice(self) -> None:
        """(1/8) sum of the `PAIRINGS` of two prompts that meet twice."""
        n = self.counts[:, None, None]

        def pieces(local: Local) -> tuple[Array, ...]:
            every = np.zeros((self.forms.K, 6, 6))
            every[:, :4, :4] = n * local.curvature
            every[:, 4:, :4] = n * local.pull_curvature
            every[:, :4, 4:] = every[:, 4:, :4].transpose(0, 2, 1)
            return tuple(left @ every @ right.T for left, right in _KINDS.values())

        g = np.zeros_like(self.own_g)
        g[: self.modes, : self.modes] = self.g
        own, shared = derivative_along(self._pairing_slopes, (*pieces(self.own), g), (*pieces(self.shared), self.dg))
        self.own_g += own[-1]
        self.shared_g += shared[-1][: self.modes, : self.modes]
        for weights, slopes in ((self.own_weights, own), (self.shared_weights, shared)):
            on = sum(left.T @ x @ right for x, (left, right) in zip(slopes, _KINDS.values(), strict=False))
            weights.curvature[:] += n * on[:, :4, :4]
            weights.pull_curvature[:] += n * (on[:, 4:, :4] + on[:, :4, 4:].transpose(0, 2, 1))

    def _pairing_slopes(self, *pieces: Array) -> tuple[Array, ...]:
        """Gradient of (1/8) sum coefficient tr(X^T g Z g) by the local X and Z of each kind, and by g."""
        forms, g = self.forms, pieces[-1]
        local = dict(zip(_KINDS, pieces[:-1], strict=True))
        local["across, fixed"] = local["fixed, across"].transpose(0, 2, 1)
        through = {kind: forms.times(X, g) for kind, X in local.items()}  # X g
        slopes = {kind: np.zeros_like(X) for kind, X in local.items()}
        by_g = np.zeros_like(g)
        for first, second, coefficient in PAIRINGS:
            for one, other in ((first, second), (second, first)):
                slopes[one] += coefficient / 8 * forms.blocks(g, through[other])
            # X g Z^T and Z^T g X
            for one, other in ((first, second), (_TRANSPOSED[second], _TRANSPOSED[first])):
                by_g += coefficient / 8 * forms.times(local[one], through[other].T)
        slopes["fixed, across"] += slopes.pop("across, fixed").transpose(0, 2, 1)
        return *slopes.values(), (by_g + by_g.T) / 2

    def slopes(self, slopes_of: Callable[[tuple[Array, ...], tuple[Array, ...]], FluctuationSlopes]) -> Slopes:
        """Slopes of what has been added so far.

        Args:
            slopes_of: the lowered `fluctuation_slopes` at given own and shared weights.
        """
        forms, n, V, G, scatter = self.forms, self.modes, self.V, self.G, self.scatter
        found = slopes_of(self.own_weights.as_weights(), self.shared_weights.as_weights())
        ones = np.ones(forms.K)
        own_g = (self.own_g + self.own_g.T) / 2
        on_modes, on_pulls, between = own_g[:n, :n], own_g[n:, n:], -4 * own_g[:n, n:]
        by_G = forms.combine(forms.gathered(found.by_g, ones)) + 2 * forms.gram_slope(on_modes, V)
        by_V = forms.combine(forms.gathered(found.by_v, ones)) + 2 * forms.gram_slope(on_modes, G)
        by_V += 2 * forms.gram_slope((self.shared_g + self.shared_g.T) / 2, V)
        half = self.ends.T @ forms.applied(between, self.answers)
        by_V += (half + half.T) / 2 + self.ends.T @ (2 * on_pulls * self.tasks) @ self.ends
        by_M = forms.pull(*found.by_m)
        by_M += forms.applied(between, self.ends_V).T @ np.tile(forms.scaled, (2, 1)) / forms.D
        value = self.own_weights.dot(self.shared) + float(np.sum(own_g * self.dg))
        if np.any(self.own_weights.scatter):
            own, shared = self.counts[:, None] * self.own.scatter, self.counts[:, None] * self.shared.scatter
            pulled = self.counts[:, None] * self.own.scatter_pull
            by_G += scatter.V.slope(2 * own)
            by_V += 2 * scatter.V.slope(shared) + scatter.G.slope(2 * own) + scatter.pull_slope_V(pulled)
            by_M += scatter.pull_slope_M(pulled)
            value += float(np.sum(own * scatter.shared) + np.sum(pulled * scatter.pulls))
        return Slopes(value, by_V, by_G, by_M, float(np.sum(found.by_scale)))


def derivative_along(
    function: Callable[..., Sequence[Any]], at: Sequence[Any], along: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """A function that is analytic, and its derivative along a direction, exact to rounding: by an imaginary step."""
    step = 1e-40
    moved = function(*(x + 1j * step * d for x, d in zip(at, along, strict=True)))
    return [np.real(x) for x in moved], [np.imag(x) / step for x in moved]
