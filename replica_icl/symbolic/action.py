"""The replicated action in two parts and what each has to give: entropic (weights, prior), energetic (prompts, loss).

The two parts meet in the overlaps of the replicas alone, so that a weight prior and a loss are chosen independently.
Each gives its contribution to log < Z^n > at an explicit integer n, replica-symmetric at symbolic n, and per replica as
n -> 0, its curvature for the stability matrix, and what is observed in it. Order parameters that a part keeps for
itself, such as the conjugate fields of the overlaps under a prior that has no closed form in the overlaps, are its
`conjugates`: the free entropy is stationary in them like in the overlaps.

Variants: `model.priors`, `model.losses`. Source: derivations/, "replicated-action" and "fresh-tasks".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import sympy as sp

from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, TwoGroups


def shell_entropy(count: sp.Expr, gram: sp.Expr) -> sp.Expr:
    """Leading log-volume of `count` weights whose squared norm is `gram`, one eigenvalue of the replica Gram matrix.

    The constraint |W|^2 = gram in Fourier form leaves extr over its conjugate h of
    (1/2) (h gram - count log(h / 2 pi)); the extremum is taken here.
    """
    conjugate = sp.Symbol("h", positive=True)
    exponent = (conjugate * gram - count * sp.log(conjugate / (2 * sp.pi))) / 2
    (extremum,) = sp.solve(exponent.diff(conjugate), conjugate)
    return exponent.subs(conjugate, extremum)


@dataclass(frozen=True)
class Population:
    """Weights of a block that its mean direction meets alike.

    Attributes:
        count: how many.
        share: component of the mean direction on each, e.g. one for a diagonal weight of the identity.
    """

    count: sp.Expr
    share: sp.Expr


@dataclass(frozen=True)
class WeightBlock:
    """One block of weights: how many, their overlap matrix (norm^2 = scale * overlap), a mean direction.

    Attributes:
        name: of the block.
        count: number of weights, e.g. D^2.
        scale: |W|^2 = scale * Q_aa, e.g. D.
        overlap: replica-symmetric overlap matrix.
        mean: overlap m with one fixed direction of squared norm `scale`: their product is scale * m; zero without one.
    """

    name: str
    count: sp.Expr
    scale: sp.Expr
    overlap: ReplicaSymmetric
    mean: sp.Expr

    @property
    def populations(self) -> tuple[Population, ...]:
        """`scale` weights with a component one of the mean direction, e.g. the diagonal ones, and the others."""
        if self.mean == 0:
            return (Population(self.count, sp.S.Zero),)
        return Population(self.scale, sp.S.One), Population(sp.factor(self.count - self.scale), sp.S.Zero)

    @property
    def gram(self) -> ReplicaSymmetric:
        """Overlaps orthogonal to the mean direction, Q - m m^T."""
        return ReplicaSymmetric(self.overlap.diagonal - self.mean**2, self.overlap.off_diagonal - self.mean**2)

    @property
    def fluctuation(self) -> sp.Expr:
        """V = Q_aa - Q_ab."""
        return sp.factor(self.overlap.diagonal - self.overlap.off_diagonal)

    def volume_constant(self) -> sp.Expr:
        """What the log-volume holds beside (count / 2) log(eigenvalue of Q - m m^T), per replica."""
        value = sp.Symbol("value", positive=True)
        log_volume = shell_entropy(self.count, self.scale * value) - self.count / 2 * sp.log(value)
        return sp.simplify(sp.expand_log(log_volume))


class EntropicPart(Protocol):
    """Weights under a prior exp(-beta r(W)): their volume at given overlaps, and what the prior leaves of it."""

    @property
    def blocks(self) -> tuple[WeightBlock, ...]: ...

    @property
    def conjugates(self) -> tuple[sp.Symbol, ...]:
        """Order parameters that the part keeps beside the overlaps; none where they are eliminated."""

    def explicit(self, replicas: int) -> sp.Expr:
        """At an integer number of replicas, with the matrices written out."""

    def replica_symmetric(self) -> sp.Expr:
        """At symbolic n."""

    def free_entropy(self) -> sp.Expr:
        """Per replica as n -> 0."""

    def at_overlaps(self, overlaps: Sequence[ReplicaSymmetric]) -> Self:
        """The same weights with another overlap matrix for each block."""

    def ground_state(self) -> sp.Expr:
        """The free entropy per unit of beta / P as it freezes, beta -> infinity, with V in units of beta = P."""

    def curvature(self, direction: sp.Matrix) -> tuple[sp.Expr, ...]:
        """Per block, second derivative in epsilon of the action at overlaps Q + epsilon `direction`."""


class EnergeticPart(Protocol):
    """P independent prompts under a loss: log of the average of exp(-b sum_a loss(r_a)) over one prompt, P times."""

    @property
    def covariance(self) -> ReplicaSymmetric:
        """Of one prompt's residuals, given its scalars."""

    @property
    def prompts(self) -> sp.Expr:
        """P."""

    def explicit(self, replicas: int) -> sp.Expr:
        """At an integer number of replicas, with the matrices written out."""

    def replica_symmetric(self) -> sp.Expr:
        """At symbolic n."""

    def free_entropy(self) -> sp.Expr:
        """Per replica as n -> 0."""

    def ground_state(self) -> sp.Expr:
        """The free entropy per unit of beta / P as it freezes, beta -> infinity, with V in units of beta = P."""

    def at_covariance(self, covariance: ReplicaSymmetric) -> Self:
        """The same prompts with another residual covariance."""

    def curvature(self, direction: sp.Matrix) -> sp.Expr:
        """Second derivative in epsilon of a prompt's log-weight at covariance C + epsilon `direction`, n -> 0.

        Only for directions of the replicon subspace (no diagonal, no row sums).
        """

    def tilted_residuals(self) -> ReplicaSymmetric:
        """< r_a r_b > on a training prompt: off the diagonal of the mean weights, on it of one Gibbs sample."""

    def source(self) -> ReplicaSymmetric:
        """< r_a r_b > on a prompt that was not trained on."""


class PairedWeights(Protocol):
    """An entropic part that also knows two groups of replicas on one sample."""

    def paired(self, block: WeightBlock, overlaps: TwoGroups) -> sp.Expr:
        """A block's action, from the overlaps orthogonal to the mean direction."""


class PairedPrompts(Protocol):
    """An energetic part that also knows two groups of replicas on one sample."""

    @property
    def prompts(self) -> sp.Expr:
        """P."""

    def paired(self, dressed: TwoGroups) -> sp.Expr:
        """One prompt's log-weight, from the matrix I + b C."""
