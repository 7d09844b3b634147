"""The hard edge: near P = n at a small ridge the smallest eigenvalues are few and do not average out.

With r replicas of overlaps Q, most of the weights' volume and of the prompts' weight cancel at P = n, and what is left
at large Q is a function of few numbers,

    Z_r = int dQ det Q^((n - P - r - 1)/2) exp(-(A/2) tr Q^-1 - (B/2) tr Q),        z^2 = A B,

with A / y the number of directions of prompts that are not explained and B y that of weights not determined, y an
eigenvalue of Q. Saddle point: kappa = A / y, kappa (kappa + n - P) = z^2. Exactly, kappa = sum over eigenvalues of
z^2 / (y + z^2) with the eigenvalues' density at the hard edge of a real Wishart matrix of index |P - n| (Verbaarschot,
Phys. Rev. Lett. 72, 2531 (1994)):

    kappa = (mu^2/2) (I_a K_a + I_(a+1) K_(a-1)) + (mu/2) I_a int_mu^inf K_a,       mu = 2 z, a = |P - n|.

Fluctuations around the saddle point are -(1/4) log(2 kappa + a) in log Z, since n (1 - X) = 2 kappa + a for the
critical eigenvalue; this is in the next order already. What the exact law has beyond is W(kappa; a) with

    dW / d log z^2 = -(1/2) (kappa_exact - kappa - z^2 / (2 kappa + a)^2),

a sum of inverse powers of 2 kappa + a far from the edge. It holds for any features: only A and B are theirs. The
uniform mode of the replicas has kappa + epsilon kappa', so that its shared part is W'(kappa) kappa'.

Where 2 kappa + a is of order n, W is of order 1/n like all that the next order leaves out, and nothing says that it is
the edge's. So it is counted X^2 (2 - X)^2 times, X = (min(P, n) - kappa)^2 / (n P) the stability matrix of Gaussian
features. Next to the edge, 1 - X = (2 kappa + a) / n, that is once up to order 1/n^2; for weak prompts and for a large
ridge, where the next order is exact at first order in X, nothing is added to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import sympy as sp
from sympy.polys.domains import QQ
from sympy.polys.rings import PolyElement, ring

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import EnergeticPart, EntropicPart
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.names import Names


@dataclass(frozen=True)
class HardEdge:
    """What W is a function of, from the prompts' side.

    Attributes:
        unexplained: kappa, the prompts' number of directions that the weights leave.
        shared: its change along what the replicas share.
    """

    unexplained: sp.Expr
    shared: sp.Expr


class QuadraticPart(EnergeticPart, Protocol):
    """Prompts under a squared loss: a weight exp(-(b/2) r^2) and I + b C, times `identity`."""

    @property
    def inverse_scale(self) -> sp.Expr:
        """b."""

    @property
    def identity(self) -> sp.Expr: ...

    @property
    def fluctuation(self) -> sp.Expr:
        """T chi."""


def hard_edge(
    names: Names, entropic: EntropicPart, energetic: QuadraticPart, errors: Sequence[sp.Expr], rule: sp.Expr
) -> HardEdge:
    """kappa = P < s >, and of the uniform mode d/d epsilon P < (1 + epsilon b R_0) / (1 + b (T chi + epsilon R)) >.

    R_0 is what R has beside the `errors` of the mean weights: the residual of the rule. Where the mean weights are not
    the rule itself, their distance counts by the volume of its block.
    """
    b, c, R = energetic.inverse_scale, energetic.identity, energetic.covariance.off_diagonal
    dressed = c + b * energetic.fluctuation

    def sum_over_prompts(name: str, value: sp.Expr) -> sp.Expr:
        return names(name, energetic.prompts * Average(value, s.SCALARS))

    shared = sum_over_prompts("residual", b * R / dressed) - sum_over_prompts("tilted", c * b * R / dressed**2)
    for block, error in zip(entropic.blocks, errors, strict=True):
        shared -= error * sum_over_prompts("response", b * R.diff(block.overlap.off_diagonal) / dressed)
        volume = entropic.free_entropy().diff(block.mean, 2) if block.mean else sp.S.Zero
        shared -= names("volume", volume) * (block.mean - rule) ** 2
    return HardEdge(sum_over_prompts("kappa", c / dressed), shared)


@dataclass(frozen=True)
class EdgeLaw:
    """W and its first two derivatives in kappa."""

    entropy: sp.Expr
    slope: sp.Expr
    bend: sp.Expr

    def matched(self, kappa: sp.Symbol, smaller: sp.Symbol, larger: sp.Symbol) -> EdgeLaw:
        """X^2 (2 - X)^2 W and its derivatives; `smaller` and `larger` are min(P, n) and max(P, n)."""
        X = (smaller - kappa) ** 2 / (smaller * larger)
        g = (X * (2 - X)) ** 2
        first, second = g.diff(kappa), g.diff(kappa, 2)
        return EdgeLaw(
            self.entropy * g,
            self.slope * g + self.entropy * first,
            self.bend * g + 2 * self.slope * first + self.entropy * second,
        )


_RING, _H, _INDEX = ring("h, p", QQ)
INVERSE, INDEX = sp.symbols("h p", positive=True)
"""h = 1 / (2 kappa + a) and p = a h: far from the edge h is small, and 0 <= p <= 1."""


def _theta(f: PolyElement) -> PolyElement:
    """mu d/dmu at given a = |P - n|, where 1/h^2 = a^2 + mu^2."""
    return -(1 - _INDEX**2) * (_H * f.diff(_H) + _INDEX * f.diff(_INDEX))


def _integrated(f: PolyElement, shift: int = 0) -> PolyElement:
    """F with theta F + shift (1 - p^2) F = f, power by power."""
    terms = f.exquo(_INDEX**2 - 1).terms()
    return _RING.from_dict({powers: c / (sum(powers) - shift) for powers, c in terms})


def _truncated(f: PolyElement, orders: int) -> PolyElement:
    return _RING.from_dict({powers: c for powers, c in f.terms() if powers[0] <= orders})


def beyond_fluctuations(orders: int) -> PolyElement:
    """kappa_exact - kappa - z^2 / (2 kappa + a)^2 in powers of h, polynomials in p.

    With theta = mu d/dmu, G = I_a K_a solves theta^3 G = 4 theta G / h^2 + 4 mu^2 G, and the first part of kappa_exact
    is G / h^2 - theta^2 G / 4 - a / 2. From the Wronskian theta I_a / I_a = (1 + theta G) / (2 G), so that the second,
    half of Y = mu I_a int K_a, has theta Y = Y (1 + theta G) / (2 G) + Y - mu^2 G.
    """
    G = _H / 2
    for _ in range(orders // 2 + 1):
        G = _H / 2 + _integrated(_truncated(_H**2 / 4 * _theta(_theta(_theta(G))), orders + 3), shift=1)
    inverse, power = _RING.one, _RING.one
    for _ in range(orders + 1):  # 1 / (1 + theta G)
        power = _truncated(-power * _theta(G), orders + 1)
        inverse += power
    over_h = G.exquo(_H)
    factor, start = 2 * _H * over_h * inverse, 2 * over_h**2 * inverse * (1 - _INDEX**2)
    Y = _RING.zero
    for _ in range(orders + 1):
        Y = _truncated(start + factor * (_theta(Y) - Y), orders)
    first = (over_h - _RING(1) / 2).exquo(_H) - _theta(_theta(G)) / 4
    return _truncated(first + Y / 2 - (1 - _INDEX**2) / 4, orders)


def far_from_edge(orders: int = 9) -> EdgeLaw:
    """In powers of INVERSE: W from its theta-derivative, which is -2 dW / d log z^2 with the sign turned."""
    theta_W = -beyond_fluctuations(orders)

    def by_kappa(theta_of: PolyElement) -> PolyElement:
        """z^2 = (1 - p^2) / (4 h^2) and d log z^2 / d kappa = 4 h / (1 - p^2)."""
        return 2 * _H * theta_of.exquo(1 - _INDEX**2)

    slope = by_kappa(theta_W)
    found = (_integrated(theta_W), slope, by_kappa(_theta(slope)))
    return EdgeLaw(*(sp.horner(x.as_expr(INVERSE, INDEX), wrt=INVERSE) for x in found))
