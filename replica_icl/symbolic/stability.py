"""Stability of the replica-symmetric saddle from the replica-space Hessian of the same action.

The dangerous directions keep every row sum of the overlap matrix: the replicon subspace, of dimension n (n - 3) / 2,
which exists for n >= 4 only. One of its directions is dQ_12 + dQ_34 - dQ_13 - dQ_24. The last-row overlaps U can move
along the same direction in replica space, so that the Hessian on the replicon subspace is a matrix over blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import EnergeticPart, EntropicPart
from replica_icl.symbolic.averages import Average, expand_averages


def replicon_direction(replicas: int) -> sp.Matrix:
    """The symmetric n x n matrix of dQ_12 + dQ_34 - dQ_13 - dQ_24: zero diagonal, zero row sums.

    Raises:
        ValueError: below four replicas, where the replicon subspace is empty.
    """
    if replicas < 4:
        raise ValueError(f"the replicon subspace is empty for n = {replicas}; n must be at least 4")
    direction = sp.zeros(replicas, replicas)
    for a, b, sign in ((0, 1, 1), (2, 3, 1), (0, 2, -1), (1, 3, -1)):
        direction[a, b] = direction[b, a] = sign
    return direction


def replicon_matrix(entropic: EntropicPart, energetic: EnergeticPart, replicas: int = 4) -> sp.Matrix:
    """I - X over the weight blocks: the replicon Hessian, in units of its entropic part.

    The saddle is stable while every eigenvalue is positive. X_ij = -(energetic_ij) / (entropic_ii); for one block under
    ridge and squared loss it is P b^2 V^2 / D^2 < (T |c|^2)^2 s^2 >. Built at an explicit `replicas` >= 4, with the
    prompts' Boltzmann weight at n -> 0 (where it is 1); the result does not depend on `replicas`.
    """
    direction = replicon_direction(replicas)
    matrix = stability_matrix(energetic_curvature(entropic, energetic, direction), entropic.curvature(direction))
    return matrix.applyfunc(expand_averages)


def energetic_curvature(entropic: EntropicPart, energetic: EnergeticPart, direction: sp.Matrix) -> sp.Matrix:
    """Second derivatives of the energetic part when two blocks' overlaps move along `direction`, per pair of blocks."""
    curvature = energetic.curvature(direction)
    pace = [energetic.covariance.off_diagonal.diff(block.overlap.off_diagonal) for block in entropic.blocks]
    size = len(pace)
    return sp.Matrix(size, size, lambda i, j: energetic.prompts * Average(curvature * pace[i] * pace[j], s.SCALARS))


def stability_matrix(energetic: sp.Matrix, entropic: Sequence[sp.Expr]) -> sp.Matrix:
    """I - X from the second derivatives of both parts, X_ij = -(energetic_ij) / (entropic_i)."""
    return sp.Matrix(*energetic.shape, lambda i, j: sp.Integer(i == j) + energetic[i, j] / entropic[i])


def smallest_eigenvalue(matrix: sp.Matrix) -> sp.Expr:
    """Smallest eigenvalue of a 1 x 1 or 2 x 2 matrix with a real spectrum.

    In the 2 x 2 case as determinant over the larger eigenvalue, which keeps its digits when it is small.
    """
    if matrix.shape == (1, 1):
        return matrix[0, 0]
    half_trace, gap = (matrix[0, 0] + matrix[1, 1]) / 2, (matrix[0, 0] - matrix[1, 1]) / 2
    return half_trace - sp.sqrt(gap**2 + matrix[0, 1] * matrix[1, 0])
