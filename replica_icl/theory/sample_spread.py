"""How far single samples are from the averages of fresh tasks: covariances of m, q, u and the energy over samples.

A source theta_i for the observable O_i in the energy makes -O_i the response of log Z, so that a covariance of two
observables is the second derivative of cov(log Z(theta), log Z(theta')) in theta_i and theta'_j: the saddle point of
each group of replicas moves with its own source, and the overlaps across stay stationary.
"""

from __future__ import annotations

import sympy as sp

from replica_icl.lowering import Program
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import split_averages
from replica_icl.symbolic.sample_covariance import PairedPrompt, energetic_covariance, entropic_covariance
from replica_icl.theory.fresh_tasks import (
    ORDER_PARAMETERS,
    FreshTasks,
    derive_fresh_tasks,
    field,
    in_response_units,
    last_row_field,
    unit,
    with_denominators_alike,
)

OTHER = {x: sp.Symbol(f"{x.name}_other", positive=True) for x in ORDER_PARAMETERS}
"""Order parameters of the second group of replicas."""
ACROSS = sp.symbols("q_across u_across", positive=True)
"""Overlaps q and u of one group's mean weights with the other's."""
SOURCES = {"m": s.m, "q": s.q + s.V, "u": s.u + s.V_u}
"""Observables with a source in the energy, in the order parameters of one replica."""


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


def programs(theory: FreshTasks | None = None) -> tuple[Program, ...]:
    """The covariance and its derivatives where both groups are the same, and the response of the saddle to a source."""
    response = in_response_units(theory or derive_fresh_tasks())
    value = covariance(response)
    same = {**{other: x for x, other in OTHER.items()}, ACROSS[0]: s.q, ACROSS[1]: s.u}
    pairs = [(x, y) for i, x in enumerate(ORDER_PARAMETERS) for y in ORDER_PARAMETERS[i:]]
    outputs: dict[str, sp.Expr] = {"value": value}
    outputs |= {f"slope_{x}": value.diff(x) for x in ORDER_PARAMETERS}
    outputs |= {f"mixed_{x}_{y}": value.diff(x, OTHER[y]) for x, y in pairs}
    outputs |= {f"mixed_{x}_{z.name}": value.diff(x, z) for x in ORDER_PARAMETERS for z in ACROSS}
    outputs |= {f"across_{z.name}": value.diff(z) for z in ACROSS}
    outputs |= {f"across_{y.name}_{z.name}": value.diff(y, z) for i, y in enumerate(ACROSS) for z in ACROSS[i:]}
    outputs = {name: x.subs(same) for name, x in outputs.items()}
    outputs |= {f"hessian_{x}_{y}": response.free_entropy.diff(x, y) for x, y in pairs}
    outputs |= {
        f"source_{name}_by_{x}": -sp.sympify(o).diff(x) for name, o in SOURCES.items() for x in ORDER_PARAMETERS
    }
    for name in ("e_icl", "contrast"):
        outputs |= {f"{name}_by_{x}": response.observables[name].diff(x) for x in (s.m, s.q, s.u)}
    return (
        Program(
            name="sample_covariance",
            summary="Covariance of log Z over samples between two groups of replicas, with what its derivatives need.",
            arguments=(*ORDER_PARAMETERS, s.D, s.P, unit, field, last_row_field, s.noise),
            outputs={name: split_averages(with_denominators_alike(x)) for name, x in outputs.items()},
        ),
    )
