"""The Marchenko-Pastur law itself: density, distribution and a quadrature rule, from the replica machinery's resolvent.

`task_spectrum` has the Stieltjes transform of R_K = (1/K) sum w_k w_k^T, K = kappa D, as the saddle point of a Gaussian
volume. On the real axis its imaginary part is the density of eigenvalues. The same law, with other ratios, is that of
a prompt's tokens (kappa = N/D) and, scaled, of the features in the thermodynamic limit (kappa = alpha).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sympy as sp

from replica_icl.lowering.source import Program
from replica_icl.theory import task_spectrum as spectrum

place = sp.Symbol("x", positive=True)
"""An eigenvalue, or a place between the edges."""
low, high = sp.symbols("x_low x_high", positive=True)
"""Edges of the spectrum."""
below, above = sp.symbols("below above", nonnegative=True)
"""Distances from the edges, x - low and high - x."""
sine, cosine = sp.symbols("sine cosine", real=True)
"""sin theta and cos(theta/2) of the angle in x = low + (high - low) cos(theta/2)^2."""
kappa = spectrum.kappa


@cache
def resolvent_polynomial() -> sp.Poly:
    """The quadratic for < 1 / (r + z) > in `task_spectrum.transform` and `task_spectrum.distance`."""
    in_transform = spectrum.quadratic().as_expr().subs(spectrum.signal, 1 / spectrum.transform - spectrum.distance)
    return sp.Poly(sp.expand(sp.numer(sp.together(in_transform))), spectrum.transform)


@cache
def _on_the_axis() -> tuple[sp.Expr, sp.Expr]:
    """Leading coefficient and discriminant of the quadratic at z = -x."""
    polynomial = sp.Poly(resolvent_polynomial().as_expr().subs(spectrum.distance, -place), spectrum.transform)
    return polynomial.LC(), sp.discriminant(polynomial, spectrum.transform)


@cache
def edges() -> tuple[sp.Expr, sp.Expr]:
    """Ends of the spectrum, (1 -+ 1/sqrt(kappa))^2: between them the discriminant is negative."""
    roots = [(1 - 1 / sp.sqrt(kappa)) ** 2, (1 + 1 / sp.sqrt(kappa)) ** 2]
    discriminant = _on_the_axis()[1]
    product = sp.LC(discriminant, place) * (place - roots[0]) * (place - roots[1])
    if sp.simplify(discriminant - product) != 0:
        raise ValueError("the edges are not the roots of the discriminant")
    return roots[0], roots[1]


@cache
def density() -> sp.Expr:
    """Density between the edges: Im < 1 / (r - x) > / pi, in x and the edges."""
    leading, discriminant = _on_the_axis()
    slope = sp.sqrt(sp.LC(discriminant, place))
    return slope * sp.sqrt((high - place) * (place - low)) / (2 * sp.pi * sp.Abs(leading))


@cache
def distribution() -> sp.Expr:
    """Integral of the density from the lower edge to x, elementary; its derivative is checked.

    Raises:
        ValueError: if it is not.
    """
    grown = sp.sqrt((high - place) * (place - low))
    outer = sp.atan2(sp.sqrt(place - low), sp.sqrt(high - place))
    inner = sp.atan2(sp.sqrt(high * (place - low)), sp.sqrt(low * (high - place)))
    area = grown + (low + high) * outer - 2 * sp.sqrt(low * high) * inner
    value = density() / (grown / place) * area
    at = {low: sp.Rational(1, 5), high: sp.Rational(7, 3)}
    for x in (sp.Rational(1, 2), sp.Rational(9, 5)):
        slope = sp.N((value.diff(place) - density()).subs(at).subs(place, x).subs(kappa, 2), 40)
        if not abs(slope) < sp.Float("1e-35"):
            raise ValueError("the distribution is not the integral of the density")
    return value


@cache
def rule() -> tuple[sp.Expr, sp.Expr]:
    """x and density times |dx/dtheta|: in the angle, the square roots at the edges are gone."""
    ends = dict(zip((low, high), edges(), strict=True))
    width = sp.simplify((high - low).subs(ends))
    # |dx/dtheta| = (high - low) sin(theta) / 2 is the root of (high - x)(x - low), too.
    per_angle = density() / sp.sqrt((high - place) * (place - low)) * (width / 2 * sine) ** 2
    return ends[low] + width * cosine**2, sp.simplify(per_angle)


@cache
def inverse_moment() -> dict[str, sp.Expr]:
    """< 1/r > for kappa > 1, and over the positive part of the spectrum for kappa < 1."""
    polynomial, (G, z) = resolvent_polynomial().as_expr(), (spectrum.transform, spectrum.distance)
    regular, constant = sp.symbols("regular constant")
    (above,) = sp.solve(polynomial.subs(z, 0), G)
    expanded = sp.expand(z * polynomial.subs(G, (1 - kappa) / z + regular + constant * z))
    (below,) = sp.solve(expanded.coeff(z, 1), regular)
    return {"above": sp.factor(above), "below": sp.factor(below)}


def programs(attention: Any = None) -> tuple[Program, ...]:
    """The law for numeric code: a law of random matrices, whatever the forward pass."""
    angle_x, angle_weight = rule()

    def from_edges(expression: sp.Expr) -> sp.Expr:
        return expression.subs(high, place + above).subs(place, low + below)

    return (
        Program(
            name="edges",
            summary="Ends of the spectrum.",
            arguments=(kappa,),
            outputs={"low": edges()[0], "high": edges()[1]},
        ),
        Program(
            name="law",
            summary="Density between the edges, and its integral from the lower one, at distances from both.",
            arguments=(below, above, low, kappa),
            outputs={"density": from_edges(density()), "distribution": from_edges(distribution())},
        ),
        Program(
            name="rule",
            summary="Eigenvalue and weight per angle, at sin theta and cos(theta/2).",
            arguments=(sine, cosine, kappa),
            definitions=((place, angle_x),),
            outputs={"x": place, "weight": angle_weight},
        ),
    )
