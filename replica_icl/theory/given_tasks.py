"""A given set of K tasks at finite D, N, P: what one prompt of one task contributes, and what becomes of the weights.

Given the (K, D) task matrix the order parameters are matrices on the context side (`symbolic.columns`): V (D+1, D+1),
the thermal covariance of each of W's D columns, C the covariance of their means over prompts, and M the mean of W. A
prompt of task w enters through five numbers: T, its context's part p along w/|w|, the squared part x across it, its
corner l, and |w|. Given them its residuals' covariance is that of `task_contexts`, and its term of the free entropy is
the squared loss of the replica machinery. Sums over prompts of the derivatives of that term are the slopes under which
the columns of W are stationary.
"""

from __future__ import annotations

import sympy as sp

from replica_icl.lowering.source import Matrix, Program, Vector, VectorArgument
from replica_icl.model.attention.merged import Attention
from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.model.prompts.gaussian import fresh_task_prompts
from replica_icl.symbolic import columns
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.theory import task_fluctuations
from replica_icl.theory.task_contexts import PARTS, PULLS, SCALARS, mean_form
from replica_icl.theory.task_fluctuations import fluctuations, means, overlaps


def covariance(attention: Attention | None = None) -> ReplicaSymmetric:
    """Residual covariance of a prompt: C_aa - C_ab = T D tr(V F), C_ab = R."""
    form = mean_form(attention)
    chi = s.query_norm * s.D * _dot(form.parts, fluctuations)
    shared = form.target * s.task_norm + _dot(form.pulls, means) + s.D * _dot(form.parts, overlaps)
    residual = s.noise + s.query_norm * shared
    return ReplicaSymmetric(chi + residual, residual)


def _dot(first: tuple[sp.Expr, ...], second: tuple[sp.Symbol, ...]) -> sp.Expr:
    return sum((a * b for a, b in zip(first, second, strict=True)), sp.S.Zero)


def loss(attention: Attention | None = None) -> SquaredLoss:
    """One prompt's term, at beta = P (b = 1): V is proportional to 1/beta and nothing else depends on it."""
    return SquaredLoss(covariance(attention), prompts=sp.S.One, inverse_scale=sp.S.One)


def free_entropy(attention: Attention | None = None) -> sp.Expr:
    """One prompt's term of log Z, averaged over prompts of its task."""
    return Average(loss(attention).log_weight(), SCALARS)


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """Slopes of a prompt's term, the columns' overlaps at given slopes, and the law of a prompt given its task."""
    term, one = free_entropy(attention), loss(attention)
    law = fresh_task_prompts()
    p = sp.expand(law.scalars[s.aligned] / sp.sqrt(s.task_norm))
    scalars = Program(
        name="scalars",
        summary="The scalars of a prompt at given factors and task norm.",
        arguments=(*law.chi_squares, *law.gaussians, s.D, s.N, s.noise),
        outputs={
            "T": law.scalars[s.query_norm],
            "p": p,
            "x": sp.expand(law.scalars[s.context_norm] - p**2),
            "l": law.scalars[s.corner],
        },
    )
    v = VectorArgument("v", PARTS, fluctuations)
    g = VectorArgument("g", PARTS, overlaps)
    m = VectorArgument("m", PULLS, means)
    # In units of V^-1, P times which is -2/D d/dg: a = < T f s > > 0 for each part f.
    response = [-2 / s.D * term.diff(x) for x in overlaps]
    averages = Program(
        name="averages",
        summary="a: -2/D d/dg of a prompt's term, and its slopes in v; b: d/dm; chi: thermal variance of a residual.",
        arguments=(v, s.D),
        outputs={
            "a": Vector.of(PARTS, response),
            "slopes": Matrix.of(PARTS, PARTS, [[value.diff(x) for x in fluctuations] for value in response]),
            "b": Vector.of(PULLS, [term.diff(x) for x in means]),
            "chi": Average(one.fluctuation, SCALARS),
        },
    )
    tilted = [2 / s.D * (term.diff(x) - term.diff(y)) for x, y in zip(fluctuations, overlaps, strict=True)]
    observed = {
        "error": Average(one.covariance.off_diagonal, SCALARS),
        "training": Average(one.covariance.off_diagonal * one.shrinkage**2, SCALARS),
    }
    given = (v, g, m, s.task_norm, s.D, s.noise)
    residuals = Program(
        name="residuals",
        summary="c: 2/D (d/dv - d/dg); squared residuals on new and on training prompts; a prompt's term of log Z.",
        arguments=given,
        outputs={"c": Vector.of(PARTS, tilted), **observed, "free_entropy": term},
    )
    by = {"v": (PARTS, fluctuations), "g": (PARTS, overlaps), "m": (PULLS, means)}
    slopes = Program(
        name="residual_slopes",
        summary="Slopes of b and c, and of the squared residuals, in v, g and m.",
        arguments=given,
        outputs={
            "b_by_v": Matrix.of(PULLS, PARTS, [[term.diff(x, y) for y in fluctuations] for x in means]),
            **{
                f"c_by_{name}": Matrix.of(PARTS, axis, [[value.diff(x) for x in symbols] for value in tilted])
                for name, (axis, symbols) in by.items()
            },
            **{
                f"{observable}_by_{name}": Vector.of(axis, [value.diff(x) for x in symbols])
                for observable, value in observed.items()
                for name, (axis, symbols) in by.items()
            },
        },
    )
    at = columns.stationary()
    thermal = Program(
        name="thermal_covariance",
        summary="V of the columns at given slopes.",
        arguments=(columns.slope_G, s.D, s.P, s.ridge),
        outputs={"V": at.V},
    )
    weights = Program(
        name="weights",
        summary="M and C of the columns at given V and slopes.",
        arguments=(columns.V, columns.slope_V, columns.slope_G, columns.slope_M, s.D),
        outputs={"M": at.M, "C": at.C},
    )
    return scalars, averages, residuals, slopes, thermal, weights, *task_fluctuations.programs(attention)
