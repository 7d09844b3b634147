"""Fresh tasks: every pre-training prompt has a task of its own, w ~ N(0, I_D) (Li et al., arXiv:2408.02288).

This file states the ensemble, i.e. its weight blocks, order parameters and residuals, and hands them to the replica
machinery. The average over a prompt's scalars (T, omega, c.w/sqrt(D), |c|^2, l) stays unevaluated: which law they
follow is decided when the expressions are lowered (exact prompt law) or concentrated (thermodynamic limit).
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.attention import ResidualCovariance, residual_covariance
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.free_energy import GaussianPrior, SquaredLoss, WeightBlock
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.symbolic.saddle import SaddlePoint
from replica_icl.symbolic.stability import replicon_matrix

ORDER_PARAMETERS = (s.m, s.q, s.V, s.u, s.V_u)


@dataclass(frozen=True)
class FreshTasks:
    """The theory of fresh tasks at finite D, N, P, with the prompt average unevaluated.

    Attributes:
        covariance: residual covariance of two replicas, from the forward pass.
        entropic: weights and ridge; blocks: the D^2 weights on tokens (m, q, V) and the D of the last row (u, V_u).
        energetic: prompts and squared loss.
    """

    covariance: ResidualCovariance
    entropic: GaussianPrior
    energetic: SquaredLoss

    @property
    def free_entropy(self) -> sp.Expr:
        """log Z over the D^2 + D acting weights, to be extremised over the order parameters."""
        return self.entropic.free_entropy() + self.energetic.free_entropy()

    @property
    def saddle(self) -> SaddlePoint:
        return SaddlePoint(self.free_entropy, ORDER_PARAMETERS)

    @property
    def observables(self) -> dict[str, sp.Expr]:
        """Observables at the saddle, each from a source field or a derivative of the same free energy.

        e_icl, train_error: squared residual of the mean weights (two different replicas), on new and on training
        prompts. e_gibbs, train_gibbs: the same for one Gibbs sample (a replica with itself). weight_norm: |W|^2 of
        the mean weights. contrast: tr W / (|W| sqrt(D + 1)) over the full matrix (Li et al., Fig. 4a).
        """
        test, training = self.energetic.source(), self.energetic.tilted_residuals()
        norm = sum((b.scale * b.overlap.off_diagonal for b in self.entropic.blocks), sp.S.Zero)
        return {
            "e_icl": Average(test.off_diagonal, s.SCALARS),
            "train_error": Average(training.off_diagonal, s.SCALARS),
            "e_gibbs": Average(test.diagonal, s.SCALARS),
            "train_gibbs": Average(training.diagonal, s.SCALARS),
            "weight_norm": norm,
            "contrast": s.D * s.m / sp.sqrt((s.D + 1) * norm),
        }

    @property
    def replicon(self) -> sp.Matrix:
        """Stability matrix I - X over the two weight blocks; stable while its eigenvalues are positive."""
        return replicon_matrix(self.entropic, self.energetic)


def derive_fresh_tasks(covariance: ResidualCovariance | None = None) -> FreshTasks:
    """Derive the theory of fresh tasks.

    Args:
        covariance: residual covariance of the forward pass; by default the one of linear attention.
    """
    covariance = covariance or residual_covariance()
    tokens = ReplicaSymmetric(s.q + s.V, s.q)
    last_row = ReplicaSymmetric(s.u + s.V_u, s.u)
    residuals = ReplicaSymmetric(
        covariance.entry(s.m, s.m, tokens.diagonal, last_row.diagonal),
        covariance.entry(s.m, s.m, tokens.off_diagonal, last_row.off_diagonal),
    )
    return FreshTasks(
        covariance=covariance,
        entropic=GaussianPrior(
            (
                WeightBlock("tokens", s.D**2, s.D, tokens, s.m),
                WeightBlock("last row", s.D, sp.S.One, last_row, sp.S.Zero),
            )
        ),
        energetic=SquaredLoss(residuals),
    )
