"""The next order of the free entropy: what fluctuations around the replica-symmetric saddle point add to it.

The saddle point knows a prompt by its norms. The free entropy of n weights is of order n there, and what is left is of
order one: a relative 1/n, n = D^2 + D for linear attention, that is 1/D^2 beside the norms' 1/D. With the stability
matrix I - X it has these parts:

- Overlaps of two replicas fluctuate around the saddle: -(1/4) log det(I - X), as for any real Gaussian features.
- Gaussian features would also fluctuate in norm, block A by 2 / (weights of A). The prompt law has the norms already,
  so that this is taken back: -(1/2) tr X.
- Features are products of context and query: directions of such products have more fourth moments than those of
  Gaussian vectors. Where prompts meet twice, these add what `Meetings` counts.
- The saddle point has the norms' mean effect. That a sample's own norms move its saddle point is the Jensen term
  -(1/2) tr(Psi''^-1 Cov), Psi'' the Hessian of the free entropy in all order parameters and Cov the covariance, over
  norms, of its gradient in one sample.

At first order in X the second and the last part make of pairs of prompts, which the saddle point counts P^2, the
P (P - 1) that there are, with each prompt's own norms; so that the next order is exact for many weak prompts and for a
large ridge. Near P = n at a small ridge a single eigenvalue matters: `hard_edge`.

Every part is a sum over eigenvalues of the replica matrices. There are n - 1 equal ones, and one that also carries what
the replicas share; so that as n -> 0 a function phi of one replica's fluctuations becomes phi and its derivative along
the shared part. The chapters "next-order" and "next-order-seen" of derivations/ derive each part and check it against
exact moments, Wishart determinants and simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sympy as sp

from replica_icl.symbolic.action import EnergeticPart, EntropicPart, WeightBlock
from replica_icl.symbolic.averages import Average, expand_averages
from replica_icl.symbolic.hard_edge import HardEdge, QuadraticPart, hard_edge
from replica_icl.symbolic.names import Names
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.symbolic.stability import replicon_matrix


@dataclass(frozen=True)
class Meetings:
    """How often directions of features meet, beyond what Gaussian vectors would, where prompts meet in closed walks.

    Attributes:
        twice: per pair of weight blocks, pairings of (s . s')^4 beyond the three of a Gaussian vector.
        thrice: of X, what (s . s')^2 (s' . s'')^2 (s'' . s)^2 has beyond tr X^3.
    """

    twice: sp.Matrix
    thrice: Callable[[sp.Matrix], sp.Expr] = lambda X: sp.S.Zero

    def entropy(self, X: sp.Matrix) -> sp.Expr:
        """In -(1/2) log det: one closed walk of four steps and four of six, each 1 / (2 steps) and squares 1/2."""
        blocks = range(X.shape[0])
        twice = sum((self.twice[i, j] * X[i, j] * X[j, i] for i in blocks for j in blocks), sp.S.Zero)
        return twice / 8 + self.thrice(X) / 3


def fluctuation_entropy(X: sp.Matrix, meetings: Meetings) -> sp.Expr:
    """Order-one part of log Z of one replica at given norms; X is that of the stability matrix I - X over blocks."""
    return -sp.log((sp.eye(X.shape[0]) - X).det()) / 4 - X.trace() / 2 + meetings.entropy(X)


@dataclass(frozen=True)
class Curvature:
    """Second derivatives of the free entropy Psi = A(V) + B(m, q, V), linear in q, with A_V = B_q.

    Attributes:
        response: J = B_qV = A_VV, between shared overlaps q and fluctuations V, over weight blocks.
        widths: B_VV.
        aligned: k = B_Vm.
        mean: h = B_mm.
    """

    response: sp.Matrix
    widths: sp.Matrix
    aligned: sp.Matrix
    mean: sp.Expr

    @classmethod
    def of(cls, names: Names, psi: sp.Expr, blocks: Sequence[WeightBlock]) -> Curvature:
        (m,) = [b.mean for b in blocks if b.mean]
        q, V = [b.overlap.off_diagonal for b in blocks], [b.fluctuation for b in blocks]
        in_V = [expand_averages(psi.diff(x) - psi.diff(y)) for x, y in zip(V, q, strict=True)]
        return cls(
            names.matrix("J", sp.Matrix([[psi.diff(y, x) for x in V] for y in q]), symmetric=True),
            names.matrix("B", sp.Matrix([[equation.diff(x) for x in V] for equation in in_V]), symmetric=True),
            names.matrix("k", sp.Matrix([equation.diff(m) for equation in in_V])),
            names("h", psi.diff(m, 2)),
        )


@dataclass(frozen=True)
class NextOrder:
    """What the next order adds to the free entropy, per replica as n -> 0, but for the hard edge.

    Attributes:
        thermal: from the replicas' own fluctuations; it does not depend on temperature.
        shared: from what they share, the mean weights and the residuals; proportional to beta, -beta times the
            correction of the ground-state energy. Both in names for their ingredients.
        names: what the names stand for, in order parameters and averages.
        curvature: of the saddle point's free entropy.
        errors: per weight block, what the replicas share: squared distance of the mean weights from the rule, in the
            block's overlap units.
        edge: what the hard edge is a function of.
    """

    thermal: sp.Expr
    shared: sp.Expr
    names: Names
    curvature: Curvature
    errors: tuple[sp.Expr, ...]
    edge: HardEdge


def next_order(entropic: EntropicPart, energetic: QuadraticPart, rule: sp.Expr, meetings: Meetings) -> NextOrder:
    """The next order of the replica-symmetric free entropy.

    Args:
        entropic, energetic: the two parts of the action of a quadratic energy.
        rule: the linear rule that the prompts ask for, along the mean direction of the blocks that have one. W minus
            this rule is what fluctuations of the overlaps see; with it, those of m and of Q are independent.
        meetings: of the features' directions.
    """
    names = Names()
    rule = names("rule", rule)
    errors = [b.overlap.off_diagonal - (2 * rule * b.mean - rule**2 if b.mean else 0) for b in entropic.blocks]
    X, in_residuals, in_overlaps = _stability(names, entropic, energetic)
    along = in_residuals + sum((change * error for change, error in zip(in_overlaps, errors, strict=True)), 0 * X)
    entries = sp.Matrix(*X.shape, lambda i, j: sp.Dummy(f"X_{i}{j}", positive=True))
    phi = fluctuation_entropy(entries, meetings)
    values = dict(zip(entries, X, strict=True))
    shared = sum(
        (phi.diff(entry).subs(values) * change for entry, change in zip(entries, along, strict=True)), sp.S.Zero
    )
    own_rules = sum(
        (change[i, i] * rule**2 / 4 for i, change in enumerate(in_overlaps) if entropic.blocks[i].mean), sp.S.Zero
    )
    curvature = Curvature.of(names, entropic.free_entropy() + energetic.free_entropy(), entropic.blocks)
    norms = _norms(names, curvature, entropic, energetic)
    edge = hard_edge(names, entropic, energetic, errors, rule)
    thermal, shared = phi.subs(values) + norms[0], shared + own_rules + norms[1]
    return NextOrder(thermal, shared, names, curvature, tuple(errors), edge)


def _stability(
    names: Names, entropic: EntropicPart, energetic: EnergeticPart
) -> tuple[sp.Matrix, sp.Matrix, list[sp.Matrix]]:
    """X, its change along R that the residuals share, and its change with each block's V at given residuals."""
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
    return (
        names.matrix("X", X.subs(at_saddle)),
        names.matrix("in_residuals", X.diff(step).subs(at_saddle)),
        [names.matrix("in_overlaps", X.diff(x).subs(at_saddle)) for x in moved],
    )


def _norms(
    names: Names, curvature: Curvature, entropic: EntropicPart, energetic: EnergeticPart
) -> tuple[sp.Expr, sp.Expr]:
    """-(1/2) tr(Psi''^-1 Cov), thermal and shared part, with each prompt's own rule in -(1/4) tr X.

    Like Psi'' a prompt's gradient is p in q, p + r in V and g in m. Its own rule in -(1/4) tr X, g / |c|^2 and not the
    mean of all prompts, makes -< g^2 > / 2 h of the mean rule's square, which is all of Cov_mm but for the mean of g.
    """
    (one_prompt,) = energetic.free_entropy().atoms(Average)
    prompts, prompt = energetic.prompts, one_prompt.integrand
    (m,) = [b.mean for b in entropic.blocks if b.mean]
    p = [prompt.diff(b.overlap.off_diagonal) for b in entropic.blocks]
    r = [sp.simplify(prompt.diff(b.fluctuation) - x) for b, x in zip(entropic.blocks, p, strict=True)]
    g = [prompt.diff(m)]

    def averages(name: str, values: list[sp.Expr]) -> sp.Matrix:
        return names.matrix(name, sp.Matrix([Average(value, one_prompt.variables) for value in values]))

    means = {"p": averages("p", p), "r": averages("r", r), "g": averages("g", g)}

    def covariances(x: str, rows: list[sp.Expr], y: str, columns: list[sp.Expr]) -> sp.Matrix:
        products = averages(x + y, [row * column for row in rows for column in columns])
        return prompts * (products.reshape(len(rows), len(columns)) - means[x] * means[y].T)

    inverse, k, h = curvature.response.inv(), curvature.aligned, curvature.mean
    overlaps = covariances("p", p, "p", p)
    shared = (
        -(inverse * covariances("r", r, "p", p)).trace()
        + (inverse * (curvature.widths - k * k.T / h) * inverse * overlaps).trace() / 2
        + ((inverse * k).T * covariances("p", p, "g", g))[0, 0] / h
        + prompts * means["g"][0] ** 2 / (2 * h)
    )
    return -(inverse * overlaps).trace() / 2, shared
