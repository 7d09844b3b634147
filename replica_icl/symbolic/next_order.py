"""The next order of the free entropy: what fluctuations around the replica-symmetric saddle point add to it.

The saddle point knows a prompt by its norms. The free entropy of n weights is of order n there, and what is left is of
order one: a relative 1/n, n = D^2 + D for linear attention, that is 1/D^2 beside the norms' 1/D. All of it is a
function of the stability matrix I - X, and has three parts:

- Overlaps of two replicas fluctuate around the saddle: -(1/4) log det(I - X), as for any real Gaussian features.
- Gaussian features would also fluctuate in norm, block A by 2 / (weights of A). The prompt law has the norms already,
  so that this is taken back: -(1/2) tr X.
- A feature is a product of context and query: its direction has more fourth moments than that of a Gaussian vector.
  Where two prompts meet twice, the pairings that are not among the Gaussian ones add (1/8) sum extra_AB X_AB X_BA.

Every part is a sum over eigenvalues of the replica matrices. There are n - 1 equal ones, and one that also carries what
the replicas share; so that as n -> 0 a function phi of one replica's fluctuations becomes phi and its derivative along
the shared part. The chapters "next-order" and "next-order-seen" of derivations/ derive each part and check it against
exact moments, Wishart determinants and simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from replica_icl.symbolic.action import EnergeticPart, EntropicPart
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.symbolic.stability import replicon_matrix


def fluctuation_entropy(X: sp.Matrix, extra: sp.Matrix) -> sp.Expr:
    """Order-one part of log Z of one replica, from X of the stability matrix I - X.

    Args:
        X: over the weight blocks.
        extra: per pair of blocks, the pairings of (s . s')^4 beyond the three of a Gaussian vector.
    """
    blocks = range(X.shape[0])
    twice = sum((extra[i, j] * X[i, j] * X[j, i] for i in blocks for j in blocks), sp.S.Zero)
    return -sp.log((sp.eye(X.shape[0]) - X).det()) / 4 - X.trace() / 2 + twice / 8


@dataclass(frozen=True)
class NextOrder:
    """What the next order adds to the free entropy, per replica as n -> 0.

    Attributes:
        thermal: from the replicas' own fluctuations; it does not depend on temperature.
        shared: from what they share, the mean weights and the residuals; proportional to beta, -beta times the
            correction of the ground-state energy.
    """

    thermal: sp.Expr
    shared: sp.Expr


def next_order(
    entropic: EntropicPart, energetic: EnergeticPart, errors: tuple[sp.Expr, ...], extra: sp.Matrix
) -> NextOrder:
    """The next order of the replica-symmetric free entropy.

    Args:
        entropic, energetic: the two parts of the action of a quadratic energy.
        errors: per weight block, what the replicas share: squared distance of the mean weights from the linear rule
            that the prompts ask for, in the block's overlap units.
        extra: as in `fluctuation_entropy`.
    """
    step = sp.Dummy("epsilon", positive=True)
    own = [b.fluctuation for b in entropic.blocks]
    moved = [sp.Dummy(f"V_{i}", positive=True) for i in range(len(own))]
    overlaps = [
        ReplicaSymmetric(b.overlap.off_diagonal + value, b.overlap.off_diagonal)
        for b, value in zip(entropic.blocks, moved, strict=True)
    ]
    residual = energetic.covariance
    covariance = ReplicaSymmetric(residual.diagonal + step * residual.off_diagonal, residual.off_diagonal)
    stability = replicon_matrix(entropic.at_overlaps(overlaps), energetic.at_covariance(covariance))
    X = sp.eye(len(own)) - stability
    at_saddle = {step: sp.S.Zero, **dict(zip(moved, own, strict=True))}

    names = sp.Matrix(*X.shape, lambda i, j: sp.Dummy(f"X_{i}{j}", real=True))
    phi = fluctuation_entropy(names, extra)
    values = {name: entry.subs(at_saddle) for name, entry in zip(names, X, strict=True)}
    shared = sp.S.Zero
    for name, entry in zip(names, X, strict=True):
        along = entry.diff(step) + sum((entry.diff(x) * error for x, error in zip(moved, errors, strict=True)), 0)
        shared += phi.diff(name).subs(values) * along.subs(at_saddle)
    return NextOrder(phi.subs(values), shared)
