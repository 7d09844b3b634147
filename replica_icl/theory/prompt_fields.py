"""Fresh tasks under any weight prior, the prompts' half: the conjugate fields that they put on the weights.

The ground state's free entropy is stationary in the overlaps, in which it is linear as far as it knows the conjugate
fields: each field is a derivative of the energetic part alone, whatever the prior. What the weights make of the fields
is the prior's half, `theory.weight_priors`. Fields and V, V_u are in units of beta = P: responses to a field on P E.
In the limit A, X and h are of order D; V, m and q of order one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import sympy as sp

from replica_icl.lowering.source import Matrix, Program, Vector, VectorArgument
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.model.priors import ridge
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import expand_averages
from replica_icl.symbolic.conjugates import SeparableWeights
from replica_icl.symbolic.stability import energetic_curvature, smallest_eigenvalue, stability_matrix
from replica_icl.theory.conjugate_fields import (
    CONJUGATE,
    DIRECTION,
    FIELDS,
    LAST_ROW,
    LIMIT_FIELDS,
    LIMIT_OVERLAPS,
    LIMIT_PARAMETERS,
    OVERLAPS,
    TOKENS,
)
from replica_icl.theory.fresh_tasks import BLOCKS, FreshTasks, derive_fresh_tasks
from replica_icl.theory.fresh_tasks_limit import FreshTasksLimit, derive_fresh_tasks_limit


def kept_weights(theory: FreshTasks) -> SeparableWeights:
    """The weights of the theory with their fields; what the fields are does not depend on the prior."""
    return SeparableWeights(theory.entropic.blocks, (TOKENS, LAST_ROW), ridge.POTENTIAL, s.P)


def at_prompts(finite: FreshTasks) -> FreshTasks:
    """The same theory at beta = P."""
    return replace(finite, energetic=replace(finite.energetic, inverse_scale=sp.S.One))


def fields_of(free_entropy: sp.Expr, fields: Iterable[sp.Symbol]) -> list[sp.Expr]:
    """Each field from the saddle-point equation of its overlap, which is linear in it."""
    equations = {field: free_entropy.diff(CONJUGATE[field]) for field in fields}
    return [expand_averages(-e.subs(x, 0) / e.diff(x)) for x, e in equations.items()]


def finite_program(finite: FreshTasks) -> Program:
    """Fields, errors and curvature at finite D, N, P."""
    theory = at_prompts(finite)
    kept = kept_weights(theory)
    curvature = energetic_curvature(kept, theory.energetic, DIRECTION).applyfunc(expand_averages)
    return Program(
        name="fields",
        summary="Conjugate fields, observables of the ground state, and the energetic part's curvature.",
        arguments=(OVERLAPS, s.D, s.P, s.noise),
        outputs={
            "fields": Vector.of(FIELDS, fields_of(kept.ground_state() + theory.energetic.ground_state(), CONJUGATE)),
            **{x: expand_averages(theory.observables[x]) for x in ("e_icl", "train_error", "contrast")},
            "curvature": Matrix.symmetric_of(BLOCKS, lambda i, j: curvature[i, j]),
        },
    )


def limit_program(limit: FreshTasksLimit) -> Program:
    """The same in the thermodynamic limit, fields over D; the curvature over D^2."""
    theory = at_prompts(limit.finite)
    kept = kept_weights(theory)
    scaled = {x: x * s.D for x in TOKENS.symbols}
    constraint = sp.expand(kept.ground_state().subs(scaled, simultaneous=True) / s.D**2)
    constraint = sum((x for x in constraint.args if x.free_symbols & set(LIMIT_PARAMETERS)), sp.S.Zero)
    energetic = limit._concentrated(theory.energetic.ground_state() / s.D**2)
    return Program(
        name="limit_fields",
        summary="Conjugate fields over D, observables of the ground state, the energetic part's curvature over D^2.",
        arguments=(LIMIT_OVERLAPS, s.alpha, s.nu, s.noise),
        definitions=((s.context_norm, 1 + limit.excess_value),),
        outputs={
            "fields": Vector.of(LIMIT_FIELDS, fields_of(constraint + energetic, TOKENS.symbols)),
            **{x: limit._concentrated(theory.observables[x]) for x in ("e_icl", "train_error", "contrast")},
            "curvature": limit._concentrated(energetic_curvature(kept, theory.energetic, DIRECTION)[0, 0] / s.D**2),
        },
    )


def stability_programs() -> tuple[Program, Program]:
    """The smallest stability eigenvalue from the curvatures of both halves."""
    prompts = sp.symbols("y_tokens y_mixed y_last_row", positive=True)
    weights = sp.symbols("k_tokens k_last_row", negative=True)
    both = stability_matrix(sp.Matrix([prompts[:2], prompts[1:]]), weights)
    one = stability_matrix(sp.Matrix([prompts[:1]]), weights[:1])
    return (
        Program(
            name="stability",
            summary="Smallest stability eigenvalue, from the energetic curvature y and the entropic one k.",
            arguments=(*prompts, VectorArgument("weights", BLOCKS, weights)),
            outputs={"replicon": smallest_eigenvalue(both)},
        ),
        Program(
            name="limit_stability",
            summary="The same in the limit.",
            arguments=(prompts[0], weights[0]),
            outputs={"replicon": smallest_eigenvalue(one)},
        ),
    )


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The functions that solvers run for any prior."""
    finite = derive_fresh_tasks((attention or linear_attention()).covariance)
    return finite_program(finite), limit_program(derive_fresh_tasks_limit(finite)), *stability_programs()
