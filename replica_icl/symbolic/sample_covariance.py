"""How observables differ from sample to sample: two groups of replicas that share one sample of prompts.

< Z_1^n1 Z_2^n2 > with n1 replicas in one group and n2 in another has the covariance of log Z_1 and log Z_2 over samples
as its coefficient of n1 n2. The groups differ by source fields; the overlaps within a group are at their own saddle
points. The overlaps across, of one group's mean weights with the other's, are all that is new: the coefficient is
stationary in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average

_n1, _n2 = sp.Dummy("n_1", positive=True), sp.Dummy("n_2", positive=True)


_NONE = {_n1: 0, _n2: 0}


def group_log_determinant(own: tuple[sp.Expr, sp.Expr], shared: tuple[sp.Expr, sp.Expr], across: sp.Expr) -> sp.Expr:
    """log det of a matrix of n1 + n2 replicas, as far as it depends on both groups.

    Args:
        own: diagonal minus off-diagonal element of each group.
        shared: off-diagonal element of each group.
        across: element between the groups.
    """
    uniform = sp.Matrix(
        [[own[0] + _n1 * shared[0], _n2 * across], [_n1 * across, own[1] + _n2 * shared[1]]]
    )  # on vectors that are uniform within each group
    differences = (_n1 - 1) * sp.log(own[0]) + (_n2 - 1) * sp.log(own[1])
    return sp.log(uniform.det()) + differences


@dataclass(frozen=True)
class PairedPrompt:
    """What one prompt is to two groups of replicas, given its scalars.

    Attributes:
        fluctuation: 1 + b T chi of each group (times `identity`, as in `SquaredLoss`).
        residual: R of each group, and across.
        mean_part: what of each R, and across, comes from the query along the prompt's own context and task.
        weight: b (times `identity`).
    """

    fluctuation: tuple[sp.Expr, sp.Expr]
    residual: tuple[sp.Expr, sp.Expr, sp.Expr]
    mean_part: tuple[sp.Expr, sp.Expr, sp.Expr]
    weight: sp.Expr


def energetic_covariance(prompt: PairedPrompt, prompts: sp.Expr, dimension: sp.Expr) -> sp.Expr:
    """The ground states' part of what `prompts` independent prompts contribute: second order in residuals squared.

    log < e^X > with X = -(1/2) log det(I + b C) is, at n1 n2, the average of X's own coefficient and the covariance of
    its two first ones. Residuals are Gaussian given the norms, but for what comes from a fixed direction v of the
    query: given |x~|, (x~.v)^4 is a fraction D / (D + 2) of a Gaussian's, as for any point on a sphere.
    """
    own, shared, across = sp.symbols("d1 d2", positive=True), sp.symbols("R1 R2", positive=True), sp.Dummy("R_x")
    exponent = -group_log_determinant(own, shared, across) / 2
    one, two, both = (exponent.diff(*n).subs(_NONE) for n in ((_n1,), (_n2,), (_n1, _n2)))
    b = prompt.weight
    values = dict(zip((*own, *shared, across), (*prompt.fluctuation, *(b * R for R in prompt.residual)), strict=True))
    # Without the thermal part, -(1/2) log(1 + b T chi).
    one, two, both = (sp.cancel(x).subs(values) for x in (one + sp.log(own[0]) / 2, two + sp.log(own[1]) / 2, both))
    own_1, own_2, paired = prompt.mean_part
    d1, d2 = prompt.fluctuation
    sphere = (dimension / (dimension + 2) - 1) / 4 * (own_1 * own_2 + 2 * paired**2) * b**2 / (d1 * d2)
    means = [Average(x, s.SCALARS) for x in (both + one * two + sphere, one, two)]
    return prompts * (means[0] - means[1] * means[2])


def entropic_covariance(count: sp.Expr, own: tuple[sp.Expr, sp.Expr], across: sp.Expr) -> sp.Expr:
    """A weight block's contribution: (count / 2) log det of the overlaps orthogonal to the mean direction."""
    shared = sp.Dummy("shared_1"), sp.Dummy("shared_2")
    return count / 2 * group_log_determinant(own, shared, across).diff(_n1, _n2).subs(_NONE)
