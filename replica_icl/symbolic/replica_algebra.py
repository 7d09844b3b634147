"""Replica-symmetric linear algebra at a symbolic number of replicas, and the limit n -> 0.

A replica-symmetric matrix has one value on the diagonal and one off it. SymPy has no determinant of symbolic size,
so the spectrum is read off explicit eigenvectors: the uniform vector, once, and differences of two replicas,
n - 1 times. `explicit` and `spectrum` are compared at n = 1 .. 4 by the derivation and by tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp
from sympy.polys.matrices import DomainMatrix


def determinant(matrix: sp.Matrix) -> sp.Expr:
    """Determinant of an explicit matrix of polynomials, in exact polynomial arithmetic."""
    exact = DomainMatrix.from_Matrix(matrix)
    return exact.domain.to_sympy(exact.det())


@dataclass(frozen=True)
class ReplicaSymmetric:
    """The n x n matrix with `diagonal` on the diagonal and `off_diagonal` elsewhere; n may be a symbol."""

    diagonal: sp.Expr
    off_diagonal: sp.Expr

    def explicit(self, n: int) -> sp.Matrix:
        """The matrix itself at an integer n."""
        return sp.Matrix(n, n, lambda a, b: self.diagonal if a == b else self.off_diagonal)

    def spectrum(self, n: sp.Expr) -> tuple[tuple[sp.Expr, sp.Expr], tuple[sp.Expr, sp.Expr]]:
        """((eigenvalue, multiplicity) of replica differences, the same of the uniform vector)."""
        # (M v)_1 for v = (1, -1, 0, ...): the diagonal times 1 plus one off-diagonal entry times -1.
        difference = self.diagonal - self.off_diagonal
        # (M v)_1 for v = (1, 1, ..., 1): the diagonal plus n - 1 off-diagonal entries.
        column = sp.Symbol("column", integer=True)
        uniform = self.diagonal + sp.summation(self.off_diagonal, (column, 2, n))
        return (sp.expand(difference), n - 1), (sp.expand(uniform), sp.S.One)

    def log_determinant(self, n: sp.Expr) -> sp.Expr:
        """log det at symbolic n, from the spectrum."""
        return sum((multiplicity * sp.log(value) for value, multiplicity in self.spectrum(n)), sp.S.Zero)

    def solve_into(self, other: ReplicaSymmetric, n: sp.Expr) -> ReplicaSymmetric:
        """self^(-1) other, again replica-symmetric, from the two shared eigenvectors."""
        difference, uniform = (
            theirs[0] / ours[0] for ours, theirs in zip(self.spectrum(n), other.spectrum(n), strict=True)
        )
        off_diagonal = (uniform - difference) / n
        return ReplicaSymmetric(difference + off_diagonal, off_diagonal)


GROUP_SIZES = sp.Dummy("n_1", positive=True), sp.Dummy("n_2", positive=True)


@dataclass(frozen=True)
class TwoGroups:
    """The matrix of n1 + n2 replicas in two groups that share one sample, symmetric within each and across.

    Attributes:
        own: diagonal minus off-diagonal element of each group.
        shared: off-diagonal element of each group.
        across: element between the groups.
    """

    own: tuple[sp.Expr, sp.Expr]
    shared: tuple[sp.Expr, sp.Expr]
    across: sp.Expr

    def log_determinant(self) -> sp.Expr:
        """log det at symbolic group sizes `GROUP_SIZES`."""
        n1, n2 = GROUP_SIZES
        own, shared = self.own, self.shared
        uniform = sp.Matrix(
            [[own[0] + n1 * shared[0], n2 * self.across], [n1 * self.across, own[1] + n2 * shared[1]]]
        )  # on vectors that are uniform within each group
        differences = (n1 - 1) * sp.log(own[0]) + (n2 - 1) * sp.log(own[1])
        return sp.log(uniform.det()) + differences


def per_replica(expression: sp.Expr, n: sp.Symbol) -> sp.Expr:
    """lim_{n -> 0} expression / n for an expression that vanishes at n = 0, i.e. its derivative there.

    With < Z^n > = exp(expression) this is the quenched log Z.

    Raises:
        ValueError: if the expression does not vanish at n = 0 (then < Z^0 > = 1 is violated).
    """
    at_zero = sp.simplify(sp.expand_log(expression.subs(n, 0), force=True))
    if at_zero != 0:
        raise ValueError(f"the replicated action does not vanish at n = 0: {at_zero}")
    return expression.diff(n).subs(n, 0)
