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
from replica_icl.symbolic.action import PairedPrompts, PairedWeights, WeightBlock
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import GROUP_SIZES, TwoGroups

_n1, _n2 = GROUP_SIZES
_NONE = {_n1: 0, _n2: 0}


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


def energetic_covariance(energetic: PairedPrompts, prompt: PairedPrompt, dimension: sp.Expr) -> sp.Expr:
    """The ground states' part of what P independent prompts contribute: second order in residuals squared.

    log < e^X > with X a prompt's log-weight, -(1/2) log det(I + b C), is, at n1 n2, the average of X's own coefficient
    and the covariance of its two first ones. Residuals are Gaussian given the norms, but for what comes from a fixed
    direction v of the query: given |x~|, (x~.v)^4 is a fraction D / (D + 2) of a Gaussian's, as for any point on a
    sphere.
    """
    own, shared, across = sp.symbols("d1 d2", positive=True), sp.symbols("R1 R2", positive=True), sp.Dummy("R_x")
    exponent = energetic.paired(TwoGroups(own, shared, across))
    one, two, both = (exponent.diff(*n).subs(_NONE) for n in ((_n1,), (_n2,), (_n1, _n2)))
    b = prompt.weight
    values = dict(zip((*own, *shared, across), (*prompt.fluctuation, *(b * R for R in prompt.residual)), strict=True))
    # Without the thermal part, -(1/2) log(1 + b T chi).
    one, two, both = (sp.cancel(x).subs(values) for x in (one + sp.log(own[0]) / 2, two + sp.log(own[1]) / 2, both))
    own_1, own_2, paired = prompt.mean_part
    d1, d2 = prompt.fluctuation
    sphere = (dimension / (dimension + 2) - 1) / 4 * (own_1 * own_2 + 2 * paired**2) * b**2 / (d1 * d2)
    means = [Average(x, s.SCALARS) for x in (both + one * two + sphere, one, two)]
    return energetic.prompts * (means[0] - means[1] * means[2])


def entropic_covariance(
    entropic: PairedWeights, block: WeightBlock, own: tuple[sp.Expr, sp.Expr], across: sp.Expr
) -> sp.Expr:
    """A weight block's contribution: the volume at the overlaps orthogonal to the mean direction."""
    shared = sp.Dummy("shared_1"), sp.Dummy("shared_2")
    return entropic.paired(block, TwoGroups(own, shared, across)).diff(_n1, _n2).subs(_NONE)
