"""How far single samples are from the averages of fresh tasks: covariances of m, q, u and the energy over samples.

A source theta_i for the observable O_i in the energy makes -O_i the response of log Z, so that a covariance of two
observables is the second derivative of cov(log Z(theta), log Z(theta')) in theta_i and theta'_j: the saddle point of
each group of replicas moves with its own source, and the overlaps across stay stationary.
"""

from __future__ import annotations

import sympy as sp

from replica_icl.lowering.source import Axis, Matrix, Program, Vector, VectorArgument
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import split_averages, with_denominators_alike
from replica_icl.symbolic.sample_covariance import PairedPrompt, energetic_covariance, entropic_covariance
from replica_icl.theory.fresh_tasks import (
    ORDER,
    ORDER_PARAMETERS,
    FreshTasks,
    derive_fresh_tasks,
    field,
    in_response_units,
    last_row_field,
    unit,
)

OTHER = {x: sp.Symbol(f"{x.name}_other", positive=True) for x in ORDER_PARAMETERS}
"""Order parameters of the second group of replicas."""
ACROSS = sp.symbols("q_across u_across", positive=True)
"""Overlaps q and u of one group's mean weights with the other's."""
SOURCES = {"m": s.m, "q": s.q + s.V, "u": s.u + s.V_u}
"""Observables with a source in the energy, in the order parameters of one replica."""
SOURCED = Axis("SOURCED", tuple(SOURCES))
FOLLOWING = Axis("FOLLOWING", ("e_icl", "contrast"))
"""Observables that are functions of those with a source."""
BENDS = Axis("BENDS", ("m_weight_norm", "weight_norm_weight_norm"))
BETWEEN = Axis("ACROSS", tuple(x.name for x in ACROSS))


def covariance(theory: FreshTasks) -> sp.Expr:
    """cov(log Z, log Z') of two groups over samples, ground-state part, before ACROSS is made stationary."""
    here, other = {x: x for x in ORDER_PARAMETERS}, OTHER
    groups, (q_x, u_x) = (here, other), ACROSS
    entry = theory.covariance.entry

    def residual(a: dict[sp.Symbol, sp.Expr], b: dict[sp.Symbol, sp.Expr], q: sp.Expr, u: sp.Expr) -> sp.Expr:
        return entry(a[s.m], b[s.m], q, u)

    def mean_part(a: dict[sp.Symbol, sp.Expr], b: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
        return entry(a[s.m], b[s.m], a[s.m] * b[s.m], sp.S.Zero) - s.noise

    loss = theory.energetic
    dressed = loss.identity + loss.inverse_scale * loss.fluctuation
    prompt = PairedPrompt(
        fluctuation=(dressed, dressed.subs(OTHER)),
        residual=(*(residual(g, g, g[s.q], g[s.u]) for g in groups), residual(here, other, q_x, u_x)),
        mean_part=(mean_part(here, here), mean_part(other, other), mean_part(here, other)),
        weight=loss.inverse_scale,
    )
    tokens, last_row = theory.entropic.blocks
    return (
        energetic_covariance(loss, prompt, s.D)
        + entropic_covariance(theory.entropic, tokens, (s.V, OTHER[s.V]), q_x - s.m * OTHER[s.m])
        + entropic_covariance(theory.entropic, last_row, (s.V_u, OTHER[s.V_u]), u_x)
    )


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The covariance and its derivatives where both groups are the same, each group moved in a direction of its own."""
    response = in_response_units(derive_fresh_tasks((attention or linear_attention()).covariance))
    value = covariance(response)
    first, second = (sp.symbols([f"{x.name}_{which}" for x in ORDER_PARAMETERS]) for which in ("first", "second"))
    steps = sp.symbols("step_first step_second")
    moved = {x: x + steps[0] * change for x, change in zip(ORDER_PARAMETERS, first, strict=True)}
    moved |= {y: y + steps[1] * change for y, change in zip(OTHER.values(), second, strict=True)}
    same = {**dict.fromkeys(steps, 0), **{other: x for x, other in OTHER.items()}, ACROSS[0]: s.q, ACROSS[1]: s.u}
    value = value.subs(moved, simultaneous=True)

    def of_value(*by: sp.Symbol) -> sp.Expr:
        return split_averages(with_denominators_alike(sp.sympify(value.diff(*by) if by else value).subs(same)))

    norm = sp.Symbol("weight_norm", positive=True)
    contrast = response.observables["contrast"].subs(s.q, (norm - s.u) / s.D)
    at_saddle = {norm: response.observables["weight_norm"]}
    bends = [contrast.diff(x, y).subs(at_saddle) for x, y in ((s.m, norm), (norm, norm))]
    slopes = [
        [split_averages(response.observables[name].diff(x)) for x in (s.m, s.q, s.u)] for name in FOLLOWING.things
    ]
    return (
        Program(
            name="sample_covariance",
            summary="Covariance of log Z over samples between two groups of replicas, and its slopes in directions.",
            arguments=(
                *ORDER_PARAMETERS,
                *(s.D, s.P, unit, field, last_row_field, s.noise),
                VectorArgument("first", ORDER, tuple(first)),
                VectorArgument("second", ORDER, tuple(second)),
            ),
            outputs={
                "value": of_value(),
                "slope": of_value(steps[0]),
                "mixed": of_value(*steps),
                "first_across": Vector.of(BETWEEN, [of_value(steps[0], z) for z in ACROSS]),
                "second_across": Vector.of(BETWEEN, [of_value(steps[1], z) for z in ACROSS]),
                "across": Matrix.symmetric_of(BETWEEN, lambda i, j: of_value(ACROSS[i], ACROSS[j])),
            },
        ),
        Program(
            name="following",
            summary="Slopes of e_icl and contrast in m, q and u; bends of contrast in m and |W|^2, and in |W|^2 twice.",
            arguments=(*ORDER_PARAMETERS, s.D, s.P, unit, s.noise),
            outputs={
                "slopes": Matrix.of(FOLLOWING, SOURCED, slopes),
                "bends": Vector.of(BENDS, bends),
            },
        ),
    )
