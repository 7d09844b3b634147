"""The squared loss, (1/2) r^2 per prompt: Gaussian residuals give a determinant, written here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, TwoGroups, determinant, per_replica

n = s.replicas


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
        boltzmann = _gaussian_average(determinant(dressed) / self.identity**replicas)
        return self.prompts * sp.log(Average(boltzmann, s.SCALARS))

    def replica_symmetric(self) -> sp.Expr:
        """At symbolic n, from the replica-symmetric spectrum."""
        return self.prompts * sp.log(Average(self._in_scalars(sp.exp(self._log_boltzmann)), s.SCALARS))

    def log_weight(self) -> sp.Expr:
        """Of one prompt at given scalars, per replica as n -> 0: -(1/2) [log(1 + b T chi) + b R / (1 + b T chi)]."""
        return self._in_scalars(per_replica(self._log_boltzmann, n))

    def free_entropy(self) -> sp.Expr:
        """Per replica as n -> 0: -(P/2) < log(1 + b T chi) + b R / (1 + b T chi) >."""
        return self.prompts * Average(self.log_weight(), s.SCALARS)

    def ground_state(self) -> sp.Expr:
        """The free entropy per unit of beta / P as it freezes, -(P/2) < R / (1 + T chi) >, V in units of beta = P."""
        heat = sp.Symbol("t", positive=True)
        own = replace(self, inverse_scale=heat, identity=sp.S.One)
        frozen = per_replica(own._log_boltzmann, n).subs(_FLUCTUATION, _FLUCTUATION / heat) / heat
        return self.prompts * Average(self._in_scalars(sp.limit(frozen, heat, sp.oo)), s.SCALARS)

    def at_covariance(self, covariance: ReplicaSymmetric) -> SquaredLoss:
        """The same prompts with another residual covariance."""
        return replace(self, covariance=covariance)

    def curvature(self, direction: sp.Matrix) -> sp.Expr:
        """Second derivative of a prompt's log-weight along C + epsilon `direction`, as n -> 0 (where its weight is 1).

        Raises:
            ValueError: if the direction leaves the replicon subspace; within it the part that all replicas share
                drops out.
        """
        step = sp.Symbol("epsilon", real=True)
        dressed, shared = sp.symbols("dressed shared", positive=True)
        size = direction.shape[0]
        boltzmann = _gaussian_average(
            determinant(dressed * sp.eye(size) + shared * sp.ones(size, size) + step * direction)
        )
        curvature = sp.factor((boltzmann.diff(step, 2) / boltzmann).subs(step, 0))
        if shared in curvature.free_symbols or sp.simplify(boltzmann.diff(step).subs(step, 0)) != 0:
            raise ValueError("the direction leaves the replicon subspace")
        return curvature.subs(dressed, 1 / self.shrinkage) * (self.inverse_scale / self.identity) ** 2

    def paired(self, dressed: TwoGroups) -> sp.Expr:
        """One prompt's log-weight for two groups of replicas, from the matrix I + b C."""
        return _log_gaussian_average(dressed.log_determinant())

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
        return _log_gaussian_average(self._dressed.log_determinant(n) - n * sp.log(self.identity))

    def _in_scalars(self, expression: sp.Expr) -> sp.Expr:
        return expression.subs({_FLUCTUATION: self.fluctuation, _SHARED: self.covariance.off_diagonal})


def _gaussian_average(det: sp.Expr) -> sp.Expr:
    """< exp(-(b/2) |r|^2) > over Gaussian residuals of covariance C, from det(I + b C)."""
    return det ** sp.Rational(-1, 2)


def _log_gaussian_average(log_det: sp.Expr) -> sp.Expr:
    """Its logarithm, from log det(I + b C)."""
    return -log_det / 2


_FLUCTUATION = sp.Dummy("T_chi", positive=True)
_SHARED = sp.Dummy("R", positive=True)
_PLAIN = ReplicaSymmetric(_FLUCTUATION + _SHARED, _SHARED)
"""Any replica-symmetric covariance: C_aa - C_ab = T chi and C_ab = R. The algebra is done in these two symbols."""


def _by_shared(expression: sp.Expr) -> sp.Expr:
    """The part without R and the part with it, each factored."""
    without = sp.factor(expression.subs(_SHARED, 0))
    return without + sp.factor(expression - without)
