"""What message passing converges to when it lacks the Onsager reaction (Li et al., arXiv:2408.02288, AMP points).

Its fixed point is the ground state with lambda_i replaced by lambda_i - V_i / beta, where V_i / beta =
sum_{j != i} J_ij^2 / (lambda_j - V_j / beta): independent of beta, and self-averaging over the many j. With the exact
second moments of J it takes one number per weight block, and the spin glass keeps its form with a smaller ridge each.
"""

from __future__ import annotations

import sympy as sp

from replica_icl.lowering.source import Matrix, Program, Vector
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.moments import coupling_blocks, precision_blocks
from replica_icl.theory.fresh_tasks import BLOCKS


def partners(factor: sp.Expr) -> Matrix:
    """Sum over j != i of E J_ij^2, for i in one block and j in one block; `factor` of the features."""
    square = {block.name: block.variance + block.mean**2 for block in coupling_blocks(factor)}

    def over(context: str, same: sp.Expr, contexts: sp.Expr) -> sp.Expr:
        """`contexts` partners on the context side, each with D on the query side, `same` of them at the same query."""
        different = contexts * (s.D - 1)
        total = different * square[f"{context}, different query"]
        return total + (same * square[f"{context}, same query"] if same != 0 else 0)

    tokens = over("same context", sp.S.Zero, sp.S.One) + over("different context", s.D - 1, s.D - 1)
    from_tokens = [tokens, over("context and corner", sp.S.One, sp.S.One)]
    from_last_row = [over("context and corner", s.D, s.D), over("corner", sp.S.Zero, sp.S.One)]
    return Matrix.of(BLOCKS, BLOCKS, [from_tokens, from_last_row])


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """Mean of lambda_i - lambda_0 per block, and the sums of squared couplings between blocks."""
    factor = (attention or linear_attention()).feature_factor
    precisions = {block.name: block.mean for block in precision_blocks(factor)}
    return (
        Program(
            name="coupling_moments",
            summary="Mean lambda_i - lambda_0 and sum_j E J_ij^2 of a weight, by block, from the Wick moments.",
            arguments=(s.D, s.N, s.P, s.noise),
            outputs={
                "precisions": Vector.of(BLOCKS, [precisions["D block"], precisions["last row"]]),
                "squares": partners(factor),
            },
        ),
    )
