"""The Hessian S + lambda_0 of fresh tasks, S = (1/P) sum s s^T over the D (D + 1) acting weights (Li et al., Fig. S7).

Without targets there are no fields h, the mean weights vanish, and log Z is a Gaussian volume and so the determinant of
the Hessian. Its saddle point in V and V_u is that of the full theory; taken at a ridge -z off the negative real axis it
is the resolvent of S in two blocks, and the imaginary part of log det counts eigenvalues.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from replica_icl.lowering.source import Program
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.theory.fresh_tasks import (
    FreshTasks,
    derive_fresh_tasks,
    field,
    in_response_units,
    last_row_field,
    unit,
)


def without_targets(theory: FreshTasks) -> FreshTasks:
    """The same theory for targets that are zero: replicas share nothing, so all that is left is fluctuation."""

    def fluctuation(matrix: ReplicaSymmetric) -> ReplicaSymmetric:
        return ReplicaSymmetric(sp.expand(matrix.diagonal - matrix.off_diagonal), sp.S.Zero)

    blocks = tuple(replace(b, overlap=fluctuation(b.overlap), mean=sp.S.Zero) for b in theory.entropic.blocks)
    return replace(
        theory,
        entropic=replace(theory.entropic, blocks=blocks),
        energetic=replace(theory.energetic, covariance=fluctuation(theory.energetic.covariance)),
    )


def trace_log(theory: FreshTasks | None = None) -> sp.Expr:
    """Disorder average of tr log(S + field) over the acting weights, to be taken at the saddle point in V and V_u.

    log Z without targets at beta = P is (n / 2) log(2 pi / P) - (1 / 2) tr log(S + field), n = D (D + 1).
    """
    theory = without_targets(in_response_units(theory or derive_fresh_tasks()))
    weights = sum((block.count for block in theory.entropic.blocks), sp.S.Zero)
    one_ridge = {unit: sp.S.One, last_row_field: field}
    return weights * sp.log(2 * sp.pi / s.P) - 2 * theory.free_entropy.subs(one_ridge)


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """tr log(S + field); the saddle point itself is `fluctuations` of fresh tasks."""
    theory = derive_fresh_tasks((attention or linear_attention()).covariance)
    return (
        Program(
            name="log_determinant",
            summary="Disorder average of tr log(S + field) over the acting weights, at the saddle point in V and V_u.",
            arguments=(s.V, s.V_u, s.D, s.P, field),
            outputs={"trace_log": trace_log(theory)},
        ),
    )
