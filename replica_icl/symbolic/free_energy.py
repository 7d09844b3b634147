"""The replicated action in two parts, entropic (weights and their prior) and energetic (prompts and their loss).

Each part is an object of its own, so that another weight prior or another loss replaces one of them. Each gives its
contribution to log < Z^n > at an explicit integer n, replica-symmetric at symbolic n, and per replica as n -> 0.
Source: the derivation itself (derivations/02 and 03); results compared with arXiv:2408.02288 and arXiv:2405.11751.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, determinant, per_replica

n = s.replicas


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
class WeightBlock:
    """One block of weights: how many, their overlap matrix (norm^2 = scale * overlap), a mean direction, their ridge.

    Attributes:
        name: of the block.
        count: number of weights, e.g. D^2.
        scale: |W|^2 = scale * Q_aa, e.g. D.
        overlap: replica-symmetric overlap matrix.
        mean: overlap m with one fixed direction, normalised so that m^2 counts like Q; zero without one.
        ridge: of this block, lambda_0 unless blocks are regularised differently.
    """

    name: str
    count: sp.Expr
    scale: sp.Expr
    overlap: ReplicaSymmetric
    mean: sp.Expr
    ridge: sp.Expr = s.ridge

    @property
    def gram(self) -> ReplicaSymmetric:
        """Overlaps orthogonal to the mean direction, Q - m m^T."""
        return ReplicaSymmetric(self.overlap.diagonal - self.mean**2, self.overlap.off_diagonal - self.mean**2)

    def volume_constant(self) -> sp.Expr:
        """What the log-volume holds beside (count / 2) log(eigenvalue of Q - m m^T), per replica."""
        value = sp.Symbol("value", positive=True)
        log_volume = shell_entropy(self.count, self.scale * value) - self.count / 2 * sp.log(value)
        return sp.simplify(sp.expand_log(log_volume))


@dataclass(frozen=True)
class GaussianPrior:
    """Entropic part of weights under the ridge, exp(-beta lambda_0 |W|^2 / 2): Gram determinants and the ridge.

    log-volume + ridge = sum over blocks of (count/2) log det(Q - m m^T) - (beta lambda_0 / 2) scale tr Q + constant.
    """

    blocks: tuple[WeightBlock, ...]
    inverse_temperature: sp.Expr = s.beta

    def explicit(self, replicas: int) -> sp.Expr:
        """At an integer number of replicas, with the matrices written out."""
        total = sp.S.Zero
        for block in self.blocks:
            gram = determinant(block.gram.explicit(replicas))
            trace = block.overlap.explicit(replicas).trace()
            total += block.count / 2 * sp.log(gram) - self._field(block) / 2 * block.scale * trace
            total += replicas * block.volume_constant()
        return total

    def replica_symmetric(self) -> sp.Expr:
        """At symbolic n, from the replica-symmetric spectrum."""
        total = sp.S.Zero
        for block in self.blocks:
            total += block.count / 2 * block.gram.log_determinant(n)
            total -= self._field(block) / 2 * block.scale * n * block.overlap.diagonal
            total += n * block.volume_constant()
        return total

    def free_entropy(self) -> sp.Expr:
        """Per replica as n -> 0."""
        return per_replica(self.replica_symmetric(), n)

    def _field(self, block: WeightBlock) -> sp.Expr:
        return self.inverse_temperature * block.ridge

    def constant(self) -> sp.Expr:
        """The part of the free entropy that depends on sizes alone."""
        return sum((block.volume_constant() for block in self.blocks), sp.S.Zero)


@dataclass(frozen=True)
class SquaredLoss:
    """Energetic part: P independent prompts, each < exp(-(b/2) sum_a r_a^2) > = < det(I + b C)^(-1/2) >.

    Attributes:
        covariance: residual covariance C of one prompt's replicas, given the prompt's scalars.
        prompts: number of prompts, P.
        inverse_scale: b = beta / P.
        identity: c, to write I + b C as (c I + b' C) / c with b' = b c: at b' = 1 and c -> 0 the zero-temperature
            limit without a ridge is regular.
    """

    covariance: ReplicaSymmetric
    prompts: sp.Expr = s.P
    inverse_scale: sp.Expr = s.inverse_scale
    identity: sp.Expr = sp.S.One

    @property
    def fluctuation(self) -> sp.Expr:
        """C_aa - C_ab: the thermal variance T chi of a residual."""
        return sp.factor(self.covariance.diagonal - self.covariance.off_diagonal)

    @property
    def shrinkage(self) -> sp.Expr:
        """s = 1 / (1 + b T chi), what training leaves of a prompt's residual."""
        return self.identity / (self.identity + self.inverse_scale * self.fluctuation)

    def explicit(self, replicas: int) -> sp.Expr:
        """At an integer number of replicas, with the determinant written out."""
        dressed = self.identity * sp.eye(replicas) + self.inverse_scale * self.covariance.explicit(replicas)
        boltzmann = (determinant(dressed) / self.identity**replicas) ** sp.Rational(-1, 2)
        return self.prompts * sp.log(Average(boltzmann, s.SCALARS))

    def replica_symmetric(self) -> sp.Expr:
        """At symbolic n, from the replica-symmetric spectrum."""
        return self.prompts * sp.log(Average(self._in_scalars(sp.exp(self._log_boltzmann)), s.SCALARS))

    def free_entropy(self) -> sp.Expr:
        """Per replica as n -> 0: -(P/2) < log(1 + b T chi) + b R / (1 + b T chi) >."""
        return self.prompts * Average(self._in_scalars(per_replica(self._log_boltzmann, n)), s.SCALARS)

    def tilted_residuals(self) -> ReplicaSymmetric:
        """< r_a r_b > on a training prompt under the Boltzmann weight, (I + b C)^(-1) C at n -> 0.

        Off the diagonal: squared training residual of the mean weights. On it: that of one Gibbs sample.
        """
        solved = self._dressed.solve_into(_PLAIN, n)
        return ReplicaSymmetric(
            *(
                self._in_scalars(_by_shared(sp.limit(self.identity * x, n, 0)))
                for x in (solved.diagonal, solved.off_diagonal)
            )
        )

    def source(self) -> ReplicaSymmetric:
        """< r_a r_b > on a prompt that was not trained on, from a source field.

        A prompt with weight exp(-(eta/2) r.M r) adds log < det(I + eta M C)^(-1/2) > to the action; its response to
        eta at eta = 0 is -< tr(M C) > / 2. M couples one replica to itself, or two different ones.
        """
        eta = sp.Symbol("eta", positive=True)
        own, cross = sp.Matrix([[1, 0], [0, 0]]), sp.Matrix([[0, 1], [1, 0]]) / 2

        def response(M: sp.Matrix) -> sp.Expr:
            boltzmann = (sp.eye(2) + eta * M * _PLAIN.explicit(2)).det() ** sp.Rational(-1, 2)
            return self._in_scalars(sp.simplify(-2 * boltzmann.diff(eta).subs(eta, 0)))

        return ReplicaSymmetric(response(own), response(cross))

    @property
    def _dressed(self) -> ReplicaSymmetric:
        """I + b C (times c) in the two numbers that a replica-symmetric covariance has."""
        return ReplicaSymmetric(
            self.identity + self.inverse_scale * _PLAIN.diagonal, self.inverse_scale * _PLAIN.off_diagonal
        )

    @property
    def _log_boltzmann(self) -> sp.Expr:
        """log det(I + b C)^(-1/2) at symbolic n."""
        return -(self._dressed.log_determinant(n) - n * sp.log(self.identity)) / 2

    def _in_scalars(self, expression: sp.Expr) -> sp.Expr:
        return expression.subs({_FLUCTUATION: self.fluctuation, _SHARED: self.covariance.off_diagonal})


_FLUCTUATION = sp.Dummy("T_chi", positive=True)
_SHARED = sp.Dummy("R", positive=True)
_PLAIN = ReplicaSymmetric(_FLUCTUATION + _SHARED, _SHARED)
"""Any replica-symmetric covariance: C_aa - C_ab = T chi and C_ab = R. The algebra is done in these two symbols."""


def _by_shared(expression: sp.Expr) -> sp.Expr:
    """The part without R and the part with it, each factored."""
    without = sp.factor(expression.subs(_SHARED, 0))
    return without + sp.factor(expression - without)
