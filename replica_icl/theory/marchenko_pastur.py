"""The spectral law of `task_spectrum` on the real axis, that of Marchenko and Pastur: edges, density, counting.

There it is known by its transform G(z) = < 1 / (r + z) >. At z = -x + i0 the quadratic for G has complex roots while
its discriminant is negative: between the edges. The density is -Im G / pi, and as log(r - x + i0) has the imaginary
part pi for r < x alone, Im < log(r + z) > / pi is the share of eigenvalues below x: no integral over the density is
taken. All is told in x and in the half-chord c(x) = sqrt((high - x) (x - low)), which vanishes at the edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import sympy as sp

from replica_icl.lowering.source import Program
from replica_icl.model.attention.merged import Attention
from replica_icl.theory.task_spectrum import distance, kappa, log_volume, transform

position = sp.Symbol("x", positive=True)
"""x, on the real axis."""
half_chord = sp.Symbol("c", nonnegative=True)
"""c = sqrt((high - x) (x - low))."""


@dataclass(frozen=True)
class RealLaw:
    """The law of K = kappa D Gaussian vectors' covariance.

    Attributes:
        low, high: ends of the continuous part.
        atom: weight at zero.
        density: in x and c.
        counting: share of eigenvalues up to x, the atom included, in x and c.
    """

    low: sp.Expr
    high: sp.Expr
    atom: sp.Expr
    density: sp.Expr
    counting: sp.Expr


def _edges(discriminant: sp.Poly) -> tuple[sp.Expr, sp.Expr]:
    """Roots of the discriminant as squares, so that the lower one keeps its digits where it is small."""
    root = sp.Symbol("t", positive=True)
    found = [sp.factor(sp.simplify(x.subs(kappa, root**2))) for x in sp.roots(discriminant, position)]
    low, high = sorted(found, key=lambda edge: edge.subs(root, 2))
    back = {root: sp.sqrt(kappa)}
    return low.subs(back), high.subs(back)


def _atom(quadratic: sp.Poly) -> sp.Expr:
    """Weight w at zero: G is w / z near z = 0, which leaves a linear equation for w where it is not zero."""
    weight = sp.Symbol("w", positive=True)
    leading = sp.limit(sp.expand(distance * quadratic.as_expr().subs(transform, weight / distance)), distance, 0)
    (found,) = sp.solve(sp.cancel(leading / weight), weight)
    return sp.Piecewise((found, kappa < 1), (sp.S.Zero, True))


def _angle(value: sp.Expr) -> sp.Expr:
    """arg of a rational function of x and c with a positive denominator."""
    real, imaginary = sp.expand(sp.numer(sp.together(value))).as_real_imag()
    return sp.atan2(sp.factor(imaginary), sp.factor(real))


@cache
def real_law() -> RealLaw:
    """Continue the transform to the real axis.

    Raises:
        ValueError: if the free entropy is not stationary in a quadratic of negative leading coefficient in z.
    """
    stationary = sp.Poly(sp.numer(sp.together(log_volume().diff(transform))), transform)
    if stationary.degree() != 2:
        raise ValueError(f"the transform of the law solves no quadratic: {stationary}")
    A, B, _ = (sp.expand(x.subs(distance, -position)) for x in stationary.all_coeffs())
    discriminant = sp.Poly(sp.expand(stationary.discriminant().subs(distance, -position)), position)
    low, high = _edges(discriminant)
    if not (A.is_positive and discriminant.LC().is_positive):
        raise ValueError("the sign of the imaginary part is not that of the root that is taken")
    value = -B / (2 * A) - sp.I * sp.sqrt(discriminant.LC()) * half_chord / (2 * A)
    counted = sp.S.Zero
    for term in sp.Add.make_args(sp.expand(-2 * log_volume())):
        coefficient, rest = term.as_independent(sp.log, as_Add=False)
        at = (rest.args[0] if isinstance(rest, sp.log) else term).subs({transform: value, distance: -position})
        counted += coefficient * _angle(at) if isinstance(rest, sp.log) else sp.im(sp.expand(at))
    density = -sp.im(sp.expand(value)) / sp.pi
    return RealLaw(low, high, _atom(stationary), sp.factor(density), counted / sp.pi)


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """Edges and atom, and the law at given points; the same for every forward pass."""
    law = real_law()
    return (
        Program(
            name="support",
            summary="Ends of the continuous part of the law, and the weight of the atom at zero.",
            arguments=(kappa,),
            outputs={"low": law.low, "high": law.high, "atom": law.atom},
        ),
        Program(
            name="density",
            summary="Density at x per unit of the half-chord, c = sqrt((high - x) (x - low)).",
            arguments=(position, kappa),
            outputs={"per_chord": sp.cancel(law.density / half_chord)},
        ),
        Program(
            name="counting",
            summary="Share of eigenvalues up to x, the atom at zero included, at the half-chord c.",
            arguments=(position, half_chord, kappa),
            outputs={"share": law.counting},
        ),
    )
