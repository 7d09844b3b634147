"""Weights in independent columns, with matrices as order parameters: what the replicated action leaves of a column.

Given what the prompts know of the context side, W's D columns are independent and alike: prompts enter through
W_a W_b^T and through W_a times a task. With replica-symmetric overlaps

    < W_a W_b^T > / D = G + V delta_ab,    G = C + M M^T / D,    M = < W >,

all of the action but the columns' volume is, to first order around any point, linear in V, G and M. Under such a linear
action the columns are Gaussian, and at an extremum they have the overlaps that they were given: `stationary`.

Why this is a saddle point, although V, C and M have of order D^2 entries. The exponent is D/2 times a log-determinant
of size D + 1, of order D^2, so that each entry has an exponent of order D alone, and fluctuations of D^2 entries could
add of order D^2. They do not: the Hessian is that of the volume, up to a matrix X that is a sum over prompts of the
square of one prompt's weight. A fluctuation of W_a W_b^T that has nothing to do with any prompt's context leaves no
trace, and in the direction of a prompt's context it is one of about D^2. Of order D are only the trace of X, the
prompts meeting themselves, and one mode per task. The trace is exact in the law of the prompts' norms but for each
prompt having one fellow less than its task has prompts; together with the K modes it is the next order of
`theory.task_fluctuations`, a relative 1/D. What is then left is a relative 1/D^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from replica_icl.symbolic import symbols as s

size = s.D + 1
"""Rows of W: D tokens and the corner."""

V, C = (sp.MatrixSymbol(name, size, size) for name in ("V", "C"))
M = sp.MatrixSymbol("M", size, s.D)
slope_V, slope_G = (sp.MatrixSymbol(f"slope_{name}", size, size) for name in ("V", "G"))
"""Derivatives of the prompts' part of the free entropy by V and by G, at given M; symmetric."""
slope_M = sp.MatrixSymbol("slope_M", size, s.D)
"""Its derivative by M at given G."""


@dataclass(frozen=True)
class Stationary:
    """The overlaps of the columns at given slopes of the prompts' part of the free entropy.

    Attributes:
        V: thermal covariance of a column, in `slope_G`.
        M: the mean weights, in V and `slope_M`.
        C: covariance over samples of a column's mean, in V, `slope_V` and `slope_G`.
    """

    V: sp.MatrixExpr
    M: sp.MatrixExpr
    C: sp.MatrixExpr


def prior(inverse_temperature: sp.Expr = s.P) -> sp.Expr:
    """The ridge per replica, -(beta lambda_0 / 2) < |W_a|^2 >."""
    G = sp.MatrixSymbol("G", size, size)
    return -inverse_temperature * s.ridge * s.D / 2 * (sp.Trace(V) + sp.Trace(G))


def stationary(inverse_temperature: sp.Expr = s.P) -> Stationary:
    """Columns under an action that is linear in V, G and M.

    With n replicas a column's weight is exp(-(1/2) sum_ab w_a.(K delta_ab - Delta) w_b + h.sum_a w_a). Per replica and
    as n -> 0 its exponent is -(1/2) tr K G - (1/2) tr (K - Delta) V + h.m for one of D columns: K and Delta are read
    off the slopes. The columns' covariance V delta_ab + C is the inverse of K delta_ab - Delta.
    """
    G = sp.MatrixSymbol("G", size, size)
    action = sp.expand(sp.Trace(slope_V * V) + sp.Trace(slope_G * G) + prior(inverse_temperature))
    # The gradient by a matrix X of tr A X is A^T, and slopes are symmetric.
    by_V, by_G = (sp.Add(*(_slope(term, X) for term in action.args)) for X in (V, G))
    K, Delta = -2 / s.D * by_G, sp.expand(2 / s.D * (by_V - by_G))
    return Stationary(sp.Inverse(K), V * slope_M, _across(V, Delta))


def _slope(term: sp.Expr, X: sp.MatrixSymbol) -> sp.MatrixExpr:
    slope = term.diff(X)
    return sp.ZeroMatrix(size, size) if slope == 0 else slope.subs({a.T: a for a in (slope_V, slope_G)})


def _across(thermal: sp.MatrixExpr, Delta: sp.MatrixExpr) -> sp.MatrixExpr:
    """C in (K delta_ab - Delta)(V delta_ab + C) = delta_ab as n -> 0: C = V Delta V with V = K^-1.

    Of n equal columns of C, the sum over replicas leaves K C - Delta V - n Delta C = 0 off the diagonal.
    """
    return thermal * Delta * thermal
