"""Any weight prior, the weights' half: overlaps from the conjugate fields, at finite size and in the limit.

The ground state's free entropy is stationary in the fields, in which the constraints are linear: each overlap is a
derivative of what the prior's scalar channel leaves of the weights. A ridge acts beside every prior. What puts the
fields on the weights is the prompts' half, `theory.prompt_fields`.

Scaling in the limit. With A, X and h of order D and P = alpha D^2 an off-diagonal weight is of order D^(-1/2) and a
diagonal one of order one. P r(W) weighs like A W^2, so a term of r that is homogeneous of degree d in W acts on
off-diagonal weights where its penalty is of order D^(d/2 - 2): lambda_1 ~ D^(-3/2), lambda_0 ~ 1/D. On diagonal weights
it acts where the penalty is of order 1/D for every d. An absolute value acts on both at once at no scale: on the
diagonal it is smaller by sqrt(D), which `diagonal` penalties keep or leave out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import sympy as sp

from replica_icl.lowering.source import Axis, Program, Vector, VectorArgument
from replica_icl.symbolic import channel
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import EntropicPart
from replica_icl.symbolic.channel import Potential, tidy
from replica_icl.symbolic.conjugates import SeparableWeights
from replica_icl.symbolic.normal import NormalDensity, NormalTail
from replica_icl.theory.conjugate_fields import (
    CONJUGATE,
    DIRECTION,
    FIELDS,
    LAST_ROW,
    LIMIT_FIELDS,
    LIMIT_ORDER,
    TOKENS,
)
from replica_icl.theory.fresh_tasks import BLOCKS, ORDER, ORDER_PARAMETERS, derive_fresh_tasks

if TYPE_CHECKING:
    from replica_icl.priors import Prior


def on_diagonal(penalty: sp.Symbol) -> sp.Symbol:
    """The penalty on diagonal weights at its own scale, 1/D."""
    return sp.Symbol(f"{penalty.name}_diagonal", nonnegative=True)


def orders(potential: Potential) -> dict[sp.Symbol, tuple[sp.Expr, sp.Expr]]:
    """Of each penalty, the powers of D that make it of order one: for off-diagonal weights and for diagonal ones.

    Raises:
        ValueError: naming a penalty in which the potential is not linear, or whose term is not homogeneous in W.
    """
    factor, found = sp.Symbol("factor", positive=True), {}
    for penalty in potential.penalties:
        degrees = set()
        for _, r in potential.branches:
            term = r.diff(penalty)
            ratio = sp.simplify(term.subs(channel.weight, factor * channel.weight) / term)
            degrees.add(sp.simplify(factor * ratio.diff(factor) / ratio))
            if penalty in term.free_symbols or not all(d.is_number for d in degrees):
                raise ValueError(f"the thermodynamic scale of {penalty.name} cannot be read off the potential {r}")
        if len(degrees) != 1:
            raise ValueError(f"the branches of the potential scale {penalty.name} differently")
        (degree,) = degrees
        found[penalty] = (2 - degree / 2, sp.S.One)
    return found


def overlaps(weights: EntropicPart) -> dict[sp.Symbol, sp.Expr]:
    """m, q, V, u, V_u from stationarity in the fields, at finite size, under any prior whose ground state is known."""
    free_entropy, found = weights.ground_state(), {}
    for field, overlap in CONJUGATE.items():
        equation = free_entropy.diff(field)
        found[overlap] = -equation.subs(overlap, 0) / equation.diff(overlap)
    return found


def named(penalties: Sequence[sp.Symbol]) -> tuple[VectorArgument, ...]:
    """The penalties as one argument, or as none if there are none."""
    axis = Axis("PENALTIES", tuple(x.name for x in penalties))
    return (VectorArgument("penalties", axis, tuple(penalties)),) if penalties else ()


def overlaps_program(weights: EntropicPart, penalties: Sequence[sp.Symbol]) -> Program:
    """The weights' half at finite size."""
    found = overlaps(weights)
    return Program(
        name="overlaps",
        summary="Overlaps from the conjugate fields, and the entropic part's curvature.",
        arguments=(VectorArgument("fields", FIELDS, tuple(CONJUGATE)), s.D, s.P, s.ridge, *named(penalties)),
        outputs={
            "overlaps": Vector.of(ORDER, (found[x] for x in ORDER_PARAMETERS)),
            "curvature": Vector.of(BLOCKS, weights.curvature(DIRECTION)),
        },
    )


@dataclass(frozen=True)
class SeparablePrior:
    """The weights of fresh tasks under a separable prior and a ridge.

    Attributes:
        potential: r(W) of the prior, without the ridge.
    """

    potential: Potential

    @cached_property
    def weights(self) -> SeparableWeights:
        """Two populations on tokens, diagonal and off-diagonal, and the last row, fields kept."""
        blocks = derive_fresh_tasks().entropic.blocks
        return SeparableWeights(blocks, (TOKENS, LAST_ROW), self.potential.plus(s.ridge * channel.weight**2 / 2), s.P)

    @cached_property
    def limit(self) -> tuple[dict[sp.Symbol, sp.Expr], sp.Expr]:
        """m, q and V, and the curvature over D^2, from fields over D, as D -> infinity.

        Diagonal weights feel the noise of their field by a relative D^(-1/2) only, so that m is W at the mean field.
        """
        tokens, fields = self.weights.blocks[0], self.weights.fields[0]
        _, others = tokens.populations

        def total(name: str) -> sp.Expr:
            """Sum over the off-diagonal weights of a mean over their channel, D -> infinity."""
            return self._leading(others.count * self.weights.of_weight(name, others, fields) / _SUM_ORDER[name])

        square, response = total("square"), total("response")
        curvature = self.weights.curvature_of(sp.S.One, total("squared_response"), DIRECTION)
        return {s.m: self._diagonal, s.q: s.m**2 + square, s.V: response}, curvature

    @property
    def _diagonal(self) -> sp.Expr:
        """W of a diagonal weight at its mean field, the noise of which is of a lower order."""
        A, _, h = TOKENS.symbols
        at_fields = {channel.stiffness: A, channel.price: s.P, channel.field: h}

        def scaled(expression: sp.Expr) -> sp.Expr:
            return sp.factor(sp.simplify(self._at_scale(expression.subs(at_fields), diagonal=True)))

        regions = self.weights.channel.regions
        pieces = [(scaled(region.response), h < scaled(region.upper / s.D)) for region in regions[:-1]]
        return sp.Piecewise(*pieces, (scaled(regions[-1].response), True))

    def _leading(self, expression: sp.Expr) -> sp.Expr:
        """D -> infinity at thermodynamic scales, term by term in the tails and densities."""
        scaled = tidy(self._at_scale(expression))
        functions = {f: sp.Dummy() for f in scaled.atoms(NormalTail, NormalDensity)}
        if any(f.has(s.D) for f in functions):
            raise ValueError("off-diagonal weights have no limit at these scales")
        back = {name: f for f, name in functions.items()}
        terms = sp.Add.make_args(scaled.xreplace(functions))
        return sum((sp.limit(term, s.D, sp.oo) for term in terms), sp.S.Zero).xreplace(back)

    def _at_scale(self, expression: sp.Expr, diagonal: bool = False) -> sp.Expr:
        """`expression` with fields, ridge and penalties at their thermodynamic scales."""
        scaled: dict[sp.Symbol, sp.Expr] = {x: s.D * x for x in TOKENS.symbols}
        scaled |= {s.P: s.alpha * s.D**2, s.ridge: s.lam / s.D}
        for penalty, (off_diagonal, on) in self.orders.items():
            scaled[penalty] = on_diagonal(penalty) * s.D**-on if diagonal else penalty * s.D**-off_diagonal
        return sp.powdenest(expression.subs(scaled, simultaneous=True), force=True)

    @cached_property
    def orders(self) -> dict[sp.Symbol, tuple[sp.Expr, sp.Expr]]:
        """As `orders`."""
        return orders(self.potential)


_SUM_ORDER = {"square": s.D, "response": s.D, "squared_response": sp.S.One}
"""Powers of D of sums over the off-diagonal weights: of W^2 and dW/dg these are D q and D V."""


def programs_of(potential: Potential) -> tuple[Program, ...]:
    """The functions that solvers and message passing run of one prior.

    A potential whose penalties have no thermodynamic scale of their own has no functions for the limit.
    """
    theory = SeparablePrior(potential)
    penalties = potential.penalties
    w, slope = theory.weights.channel.proximal()
    found = [
        Program(
            name="proximal",
            summary="W and dW/dg of one weight at the field g >= 0, stiffness A; W is odd in g. p: P.",
            arguments=(channel.field, channel.stiffness, channel.price, s.ridge, *named(penalties)),
            outputs={"W": w, "slope": slope},
        ),
        overlaps_program(theory.weights, penalties),
    ]
    try:
        powers = theory.orders
    except ValueError:
        return tuple(found)
    order, curvature = theory.limit
    m = order[s.m]
    own = named(penalties)
    diagonal = [
        VectorArgument("diagonal", argument.axis, tuple(on_diagonal(x) for x in argument.symbols)) for argument in own
    ]
    found.append(
        Program(
            name="limit_overlaps",
            summary="Overlaps in the limit from conjugate fields over D, and the entropic part's curvature over D^2.",
            arguments=(
                VectorArgument("fields", LIMIT_FIELDS, TOKENS.symbols),
                *(s.alpha, s.lam),
                *own,
                *diagonal,
            ),
            definitions=((s.m, m),),
            outputs={
                "overlaps": Vector.of(LIMIT_ORDER, (s.m, order[s.q], order[s.V])),
                "curvature": curvature,
            },
        )
    )
    found += [
        Program(
            name="thermodynamic",
            summary="Penalties at the scales of off-diagonal and of diagonal weights, from raw ones.",
            arguments=(s.D, argument),
            outputs={
                "penalties": Vector.of(argument.axis, (x * s.D ** powers[x][0] for x in penalties)),
                "diagonal": Vector.of(argument.axis, (x * s.D ** powers[x][1] for x in penalties)),
            },
        )
        for argument in own
    ]
    return tuple(found)


def programs_of_declared(prior: type[Prior]) -> tuple[Program, ...]:
    """The same of a prior that states its potential, or its entropic part, itself: one from outside the package.

    Raises:
        ValueError: if the class states neither, or a potential without closed form (see `symbolic.channel`).
    """
    penalties = {name: sp.Symbol(name, positive=True) for name in prior.penalty_names()}
    if prior.entropic is not None:
        blocks = derive_fresh_tasks().entropic.blocks
        weights = prior.entropic(blocks, (TOKENS, LAST_ROW), s.P, s.ridge, **penalties)
        return (overlaps_program(weights, tuple(penalties.values())),)
    if prior.potential is None:
        raise ValueError(f"{prior.__name__} states no potential")
    stated = prior.potential(channel.weight, **penalties)
    branches = stated if isinstance(stated, tuple) else ((sp.oo, stated),)
    return programs_of(Potential(tuple((sp.sympify(end), sp.sympify(r)) for end, r in branches)))
