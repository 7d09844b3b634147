"""The ridge, lambda_0 |W|^2 / 2: the entropic part is a determinant of the overlaps, with the conjugate fields gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import WeightBlock
from replica_icl.symbolic.channel import Potential, weight
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, TwoGroups, determinant, per_replica

n = s.replicas


@dataclass(frozen=True)
class GaussianPrior:
    """Entropic part of weights under the ridge, exp(-beta lambda_0 |W|^2 / 2): Gram determinants and the ridge.

    log-volume + ridge = sum over blocks of (count/2) log det(Q - m m^T) - (beta lambda_0 / 2) scale tr Q + constant.

    Attributes:
        blocks: of weights.
        inverse_temperature: beta.
        ridges: one per block; empty: lambda_0 for all.
    """

    blocks: tuple[WeightBlock, ...]
    inverse_temperature: sp.Expr = s.beta
    ridges: tuple[sp.Expr, ...] = ()

    conjugates = ()

    def explicit(self, replicas: int) -> sp.Expr:
        """At an integer number of replicas, with the matrices written out."""
        total = sp.S.Zero
        for block, field in self._fields:
            total += self._log_volume(block, sp.log(determinant(block.gram.explicit(replicas))))
            total -= field / 2 * block.scale * block.overlap.explicit(replicas).trace()
            total += replicas * block.volume_constant()
        return total

    def replica_symmetric(self) -> sp.Expr:
        """At symbolic n, from the replica-symmetric spectrum."""
        total = sp.S.Zero
        for block, field in self._fields:
            total += self._log_volume(block, block.gram.log_determinant(n))
            total -= field / 2 * block.scale * n * block.overlap.diagonal
            total += n * block.volume_constant()
        return total

    def free_entropy(self) -> sp.Expr:
        """Per replica as n -> 0."""
        return per_replica(self.replica_symmetric(), n)

    def constant(self) -> sp.Expr:
        """The part of the free entropy that depends on sizes alone."""
        return sum((block.volume_constant() for block in self.blocks), sp.S.Zero)

    def ground_state(self) -> sp.Expr:
        """The free entropy per unit of beta / P as it freezes, V in units of beta = P."""
        heat = sp.Symbol("t", positive=True)
        hot = replace(self, inverse_temperature=s.P * heat).at_overlaps(
            [
                ReplicaSymmetric(b.overlap.off_diagonal + b.fluctuation / heat, b.overlap.off_diagonal)
                for b in self.blocks
            ]
        )
        terms = sp.Add.make_args(sp.expand(sp.expand_log(hot.free_entropy() / heat, force=True)))
        return sum((sp.limit(term, heat, sp.oo) for term in terms), sp.S.Zero)

    def at_overlaps(self, overlaps: Sequence[ReplicaSymmetric]) -> GaussianPrior:
        """The same weights with another overlap matrix for each block."""
        moved = (replace(block, overlap=overlap) for block, overlap in zip(self.blocks, overlaps, strict=True))
        return replace(self, blocks=tuple(moved))

    def curvature(self, direction: sp.Matrix) -> tuple[sp.Expr, ...]:
        """Per block, second derivative of the action along Q + epsilon `direction`."""
        step = sp.Symbol("epsilon", real=True)

        def of_block(block: WeightBlock) -> sp.Expr:
            moved = determinant(block.gram.explicit(direction.shape[0]) + step * direction)
            return sp.factor(self._log_volume(block, sp.log(moved)).diff(step, 2).subs(step, 0))

        return tuple(of_block(block) for block in self.blocks)

    def paired(self, block: WeightBlock, overlaps: TwoGroups) -> sp.Expr:
        """A block's log-volume for two groups of replicas."""
        return self._log_volume(block, overlaps.log_determinant())

    @staticmethod
    def _log_volume(block: WeightBlock, log_determinant: sp.Expr) -> sp.Expr:
        """The log-volume without its constant, from log det(Q - m m^T)."""
        return block.count / 2 * log_determinant

    @property
    def _fields(self) -> list[tuple[WeightBlock, sp.Expr]]:
        """Each block with its beta times ridge."""
        ridges = self.ridges or (s.ridge,) * len(self.blocks)
        return [(block, self.inverse_temperature * ridge) for block, ridge in zip(self.blocks, ridges, strict=True)]


POTENTIAL = Potential.of(s.ridge * weight**2 / 2)
"""r(W), for channels that keep the fields."""
