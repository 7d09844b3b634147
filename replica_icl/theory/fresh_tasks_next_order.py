"""Fresh tasks, the next order: the pieces of the linear system that moves the saddle point and what is measured at it.

With Psi the free entropy and Psi_1 its next order, the saddle moves by -(Psi'')^-1 Psi_1', and an observable by its
slope times that and by what it gains from Psi_1 itself: training errors are -(2/P) d/db, at fixed b P lambda_0. With
I + b C written as (c I + b' C) / c, Psi_1 is a function of b'/c: this is (2 c / P) c d/dc in the solver's units.
Psi_1 has a thermal part, whose slope in V is that of the shared part in q like everything thermal (m, q and u do not
depend on temperature). So in d/dV - d/dq the thermal part is gone, with the terms that would have to cancel by a power
of the ridge, and the system is left in the order in which it is solved: V, m, and then q and u.
"""

from __future__ import annotations

import sympy as sp

from replica_icl.lowering.source import Axis, Matrix, Program, Vector, VectorArgument
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.hard_edge import INDEX, INVERSE, EdgeLaw, far_from_edge
from replica_icl.theory.fresh_tasks import (
    BLOCKS,
    ORDER,
    ORDER_PARAMETERS,
    derive_fresh_tasks,
    field,
    in_response_units,
    last_row_field,
    unit,
)

OBSERVABLES = Axis("OBSERVABLES", ("e_icl", "train_error", "contrast", "thermal_test"))
"""Of the mean weights, and what a Gibbs sample adds to e_icl at the solver's temperature."""
EDGE = Axis("EDGE", ("entropy", "slope", "bend", "energy"))
"""Of the hard edge: W, W', W'' kappa' and W' kappa', numbers at the saddle point."""
DISTANCE = Axis("DISTANCE", ("directions", "shared"))
"""From the hard edge: kappa and kappa', see `symbolic.hard_edge`."""
edge_numbers = sp.symbols("W W_slope W_bend W_energy", real=True)
law_numbers = sp.symbols("W W_slope W_bend", real=True)
kappa, smaller, larger = sp.symbols("kappa smaller larger", positive=True)


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The next order at a saddle point, and how far that is from the hard edge."""
    response = in_response_units(derive_fresh_tasks((attention or linear_attention()).covariance))
    correction = response.next_order
    names, edge, curvature = correction.names, correction.edge, correction.curvature
    entropy, slope_of_edge, bend_of_edge, energy = edge_numbers

    def slope(by: sp.Symbol) -> sp.Expr:
        """Of the shared part. The hard edge's is W'(kappa) kappa', of whose factors each has a slope."""
        moved, moved_shared = (names.slope(x, by) for x in (edge.unexplained, edge.shared))
        return names.slope(correction.shared, by) + bend_of_edge * moved + slope_of_edge * moved_shared

    observables = {name: response.observables[name] for name in OBSERVABLES.things[:3]}
    observables["thermal_test"] = response.observables["e_gibbs"] - observables["e_icl"]
    slopes = [[names("slope", value.diff(x)) for x in ORDER_PARAMETERS] for value in observables.values()]
    gains = {"train_error": 2 * unit**2 / s.P * slope(unit)}
    outputs = {
        "thermal": correction.thermal + entropy,
        "shared": correction.shared + energy,
        "pull": Vector.of(ORDER, map(slope, ORDER_PARAMETERS)),
        "slopes": Matrix.of(OBSERVABLES, ORDER, slopes),
        "gains": Vector.of(OBSERVABLES, [gains.get(name, sp.S.Zero) for name in observables]),
    }
    blocks, fields = response.entropic.blocks, (field, last_row_field)
    ridges = [-2 * sum(x * response.free_entropy.diff(x, block.fluctuation) for x in fields) for block in blocks]
    from_weights = [sum((x * y for x, y in zip(ridges, of, strict=True)), sp.S.Zero)
                    for of in ([block.fluctuation for block in blocks], correction.errors)]  # fmt: skip
    sizes = (*ORDER_PARAMETERS, s.D, s.P, unit, field, last_row_field, s.noise)
    return (
        Program(
            name="next_order",
            summary="Next order of the free entropy, slopes of its shared part; slopes and gains of observables.",
            arguments=(*sizes, VectorArgument("edge", EDGE, edge_numbers)),
            outputs=outputs,
            ingredients=names.values,
        ),
        Program(
            name="curvature",
            summary="Second derivatives of the free entropy at the saddle point, see `symbolic.next_order.Curvature`.",
            arguments=sizes,
            outputs={
                "response": Matrix.symmetric_of(BLOCKS, lambda i, j: curvature.response[i, j]),
                "widths": Matrix.symmetric_of(BLOCKS, lambda i, j: curvature.widths[i, j]),
                "aligned": Vector.of(BLOCKS, curvature.aligned),
                "mean": curvature.mean,
            },
            ingredients=names.values,
        ),
        Program(
            name="hard_edge",
            summary="Directions that are left, by the prompts and by the weights, and the change along what is shared.",
            arguments=sizes,
            outputs={
                "prompts": Vector.of(DISTANCE, (edge.unexplained, edge.shared)),
                "weights": Vector.of(DISTANCE, from_weights),
            },
            ingredients=names.values,
        ),
        Program(
            name="far_from_edge",
            summary="What the hard edge adds to log Z of one replica, with its first two derivatives in kappa.",
            arguments=(INVERSE, INDEX),
            outputs=vars(far_from_edge()),
        ),
        Program(
            name="matched",
            summary="The hard edge's W and derivatives as they are counted; the law's, min(P, n) and max(P, n).",
            arguments=(*law_numbers, kappa, smaller, larger),
            outputs=vars(EdgeLaw(*law_numbers).matched(kappa, smaller, larger)),
        ),
    )
