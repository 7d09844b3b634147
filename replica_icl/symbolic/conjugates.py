"""Weights under any separable prior: the entropic part with the conjugate fields of the overlaps kept.

Delta functions fix the overlaps of a block's replicas, scale Q_ab = W_a.W_b and scale m_a = tr W_a. In Fourier form
each has a conjugate field, hat Q_ab and hat m_a, and the weights decouple from one another:

    extr  scale [ tr(hat Q Q) / 2 - hat m.m ]
          + sum over weights of log int prod_a dW_a exp(-W.hat Q W / 2 + e hat m.W - beta sum_a r(W_a)),

e the weight's component of the mean direction. Replica-symmetric fields are hat Q_ab = A delta_ab - X, hat m_a = h. A
Gaussian variable z for X makes the n replicas of a weight independent, and as n -> 0 its log-integral becomes
< log int dW exp(-A W^2/2 + (e h + sqrt(X) z) W - beta r(W)) >_z. As beta -> infinity that is minus the least energy of
the scalar channel. The ridge eliminates all fields in closed form (`model.priors.ridge`); other priors keep them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import sympy as sp

from replica_icl.symbolic import channel
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import Population, WeightBlock
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.channel import Potential, ScalarChannel
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, per_replica

n = s.replicas
noise = sp.Symbol("z", real=True)
"""z ~ N(0, 1), the bound variable of averages over the channel's noise."""


@dataclass(frozen=True)
class Fields:
    """Conjugate fields of one block's overlaps.

    Attributes:
        stiffness: A = hat Q_aa - hat Q_ab.
        variance: X = -hat Q_ab.
        pull: h = hat m; zero for a block without a mean direction.
    """

    stiffness: sp.Symbol
    variance: sp.Symbol
    pull: sp.Expr

    @property
    def matrix(self) -> ReplicaSymmetric:
        """hat Q."""
        return ReplicaSymmetric(self.stiffness - self.variance, -self.variance)

    @property
    def symbols(self) -> tuple[sp.Symbol, ...]:
        """The fields that there are."""
        own = (self.stiffness, self.variance)
        return (*own, self.pull) if isinstance(self.pull, sp.Symbol) else own


def constraint(block: WeightBlock, fields: Fields) -> sp.Expr:
    """scale [ tr(hat Q Q) / 2 - hat m.m ] at symbolic n, from the spectra of both matrices."""
    pairs = zip(fields.matrix.spectrum(n), block.overlap.spectrum(n), strict=True)
    trace = sum((times * ours * theirs for (ours, times), (theirs, _) in pairs), sp.S.Zero)
    return block.scale * (trace / 2 - n * fields.pull * block.mean)


def frozen_constraint(block: WeightBlock, fields: Fields) -> sp.Expr:
    """What the constraints are per unit of beta / P as beta -> infinity, per replica: scale (A q/2 - X V/2 - h m).

    With beta = P t the fields grow like A t, h t and X t^2, and the overlaps fluctuate by V / t.
    """
    heat, shared = sp.Symbol("t", positive=True), block.overlap.off_diagonal
    hot = Fields(heat * fields.stiffness, heat**2 * fields.variance, heat * fields.pull)
    overlap = ReplicaSymmetric(shared + block.fluctuation / heat, shared)
    value = per_replica(constraint(replace(block, overlap=overlap), hot), n)
    return sp.expand(sp.limit(sp.expand(value / heat), heat, sp.oo))


@dataclass(frozen=True)
class SeparableWeights:
    """Entropic part of weights under a separable prior exp(-beta sum r(W)), fields kept.

    Attributes:
        blocks: of weights.
        fields: of each block.
        potential: r, even and convex.
        inverse_temperature: beta; in the ground state what r costs in units of the fields (P, see `ground_state`).
    """

    blocks: tuple[WeightBlock, ...]
    fields: tuple[Fields, ...]
    potential: Potential
    inverse_temperature: sp.Expr = s.beta

    @property
    def conjugates(self) -> tuple[sp.Symbol, ...]:
        """The fields, in which the free entropy is stationary."""
        return tuple(x for fields in self.fields for x in fields.symbols)

    @cached_property
    def channel(self) -> ScalarChannel:
        """What one weight does."""
        return ScalarChannel(self.potential)

    def explicit(self, replicas: int) -> sp.Expr:
        """At an integer number of replicas, with the matrices and the integrals over one weight's replicas written."""
        total = sp.S.Zero
        for block, fields in self._pairs:
            hat_Q = fields.matrix.explicit(replicas)
            total += block.scale * (hat_Q * block.overlap.explicit(replicas)).trace() / 2
            total -= block.scale * replicas * fields.pull * block.mean
            for population in block.populations:
                W = sp.Matrix([sp.Symbol(f"W_{a}", real=True) for a in range(replicas)])
                exponent = -(W.T * hat_Q * W)[0, 0] / 2 + population.share * fields.pull * sum(W)
                exponent -= self.inverse_temperature * sum(self._at(w) for w in W)
                integral = sp.Integral(sp.exp(sp.expand(exponent)), *((w, -sp.oo, sp.oo) for w in W))
                total += population.count * sp.log(integral)
        return total

    def replica_symmetric(self) -> sp.Expr:
        """At symbolic n, an average over z for each population of weights."""
        total = sp.S.Zero
        for block, fields in self._pairs:
            total += constraint(block, fields)
            for population in block.populations:
                total += population.count * sp.log(Average(self.partition(population, fields) ** n, (noise,)))
        return total

    def free_entropy(self) -> sp.Expr:
        """Per replica as n -> 0."""
        return per_replica(self.replica_symmetric(), n)

    def ground_state(self) -> sp.Expr:
        """The free entropy per unit of beta / P as it freezes, fields and V in units of beta = P.

        Least energies stand as functions of the fields; `doit` writes them out.
        """
        total = sp.S.Zero
        for block, fields in self._pairs:
            total += frozen_constraint(block, fields)
            for population in block.populations:
                total -= population.count * self.channel.least_energy(*self.at(population, fields))
        return total

    def at(self, population: Population, fields: Fields) -> tuple[sp.Expr, ...]:
        """A, X, h, p of the scalar channel of one population's weights."""
        return fields.stiffness, fields.variance, population.share * fields.pull, self.inverse_temperature

    def of_weight(self, name: str, population: Population, fields: Fields) -> sp.Expr:
        """An average over the scalar channel ("energy", "square", ...) for the weights of one population."""
        return self.channel.at(name, self.at(population, fields))

    def partition(self, population: Population, fields: Fields) -> sp.Expr:
        """int dW exp(-A W^2/2 + (e h + sqrt(X) z) W - beta r(W)), one weight at given z; unevaluated."""
        W = sp.Symbol("W", real=True)
        push = population.share * fields.pull + sp.sqrt(fields.variance) * noise
        exponent = -fields.stiffness * W**2 / 2 + push * W - self.inverse_temperature * self._at(W)
        return sp.Integral(sp.exp(exponent), (W, -sp.oo, sp.oo))

    def at_overlaps(self, overlaps: Sequence[ReplicaSymmetric]) -> SeparableWeights:
        """The same weights with another overlap matrix for each block."""
        moved = (replace(block, overlap=overlap) for block, overlap in zip(self.blocks, overlaps, strict=True))
        return replace(self, blocks=tuple(moved))

    def curvature(self, direction: sp.Matrix) -> tuple[sp.Expr, ...]:
        """Per block, second derivative of the ground state's action along Q + epsilon `direction`, fields stationary.

        On the replicon subspace W.d W of one weight's replicas is that of their independent deviations from their mean,
        of variance v: of variance 2 v^2 tr d^2. Along d the fields' own curvature is therefore
        tr d^2 / 2 times the sum of v^2 over the weights, v = dW/dg, and their response to the overlaps leaves
        -(scale^2 / 2) tr d^2 over that sum.
        """
        found = []
        for block, fields in self._pairs:
            each = (p.count * self.of_weight("squared_response", p, fields) for p in block.populations)
            found.append(self.curvature_of(block.scale, sum(each, sp.S.Zero), direction))
        return tuple(found)

    @staticmethod
    def curvature_of(scale: sp.Expr, squared_responses: sp.Expr, direction: sp.Matrix) -> sp.Expr:
        """A block's curvature from its scale and the sum of v^2 over its weights."""
        return -(scale**2) * (direction * direction.T).trace() / (2 * squared_responses)

    @property
    def _pairs(self) -> list[tuple[WeightBlock, Fields]]:
        return list(zip(self.blocks, self.fields, strict=True))

    def _at(self, W: sp.Expr) -> sp.Expr:
        """r(W)."""
        pieces = [(r.subs(channel.weight, sp.Abs(W)), sp.Abs(W) < end) for end, r in self.potential.branches[:-1]]
        last = self.potential.branches[-1][1].subs(channel.weight, sp.Abs(W))
        return sp.Piecewise(*pieces, (last, True))
