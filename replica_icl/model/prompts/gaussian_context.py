"""The law of a prompt's scalars once more, with the tokens and labels first and the task last: for quadrature.

In `gaussian` the task comes first, and |c|^2 is a sum in which label noise can cancel the task's part: where it is
small, no product of one-dimensional rules sees it. Here |c|^2 is a product and a sum of positive factors, and all that
depends on the task given the rest is Gaussian and averaged exactly.

Turn the N tokens so that the labels are (b, 0, ..., 0). Token t = X^T y / |y| bears the whole label b = |y|, so that
c = b t / N and l = b^2 / N; the others are silent: each says that x.w / sqrt(D) plus its noise is zero. Averaged over
its directions, a silent token gives the task's density a factor (omega + rho)^(-1/2). So task, t and b have the density

    b^(N-1) (omega + rho)^(-(N-1)/2) exp[-|w|^2 / 2 - |t|^2 / 2 - (b - t.w / sqrt(D))^2 / (2 rho)].

1. (omega + rho)^(-(N-1)/2) is the integral over k > 0 of k^((N-3)/2) exp[-k (omega + rho)], up to a constant: given k
   the task is Gaussian with variance D / L in every direction, L = D + 2 k, and has one label b.
2. So w across t is Gaussian with variance D / L, and along t it is the regression on b: with s = |t|^2 / L, the
   variance that the task gives the label, t.w / sqrt(D) has mean b s / (s + rho) and variance s rho / (s + rho), and
   b^2 is (s + rho) times a chi-square of N degrees of freedom, independent of t and k.
3. What is left for t and k is exp(-s L / 2) (s + rho)^((N-1)/2) L^(-D/2) k^((N-3)/2) exp(-k rho). In the components of
   t / sqrt(L), D normal ones of squared norm s, the powers of L are gone; and s L / 2 = s D / 2 + s k. So D s is a
   chi-square of D degrees of freedom, and 2 k (s + rho) one of N - 1, independent of it.

At N = 1 there is no silent token, and k = 0. The two laws are compared by tests.
"""

from __future__ import annotations

import sympy as sp

from replica_icl.lowering.source import Axis, Matrix, Program
from replica_icl.model.prompts.gaussian import ScalarLaw, deviation, label_norm
from replica_icl.symbolic import symbols as s

signal = sp.Symbol("signal", positive=True)
"""s, what the task adds to the variance rho of the label b, a chi-square of D degrees of freedom over D."""
silent = sp.Symbol("silent", positive=True)
"""2 k (s + rho) / (N - 1), what the silent tokens say of the task, a chi-square of N - 1 over N - 1."""
across = sp.Symbol("across", positive=True)
"""The task's components across the context, a chi-square of D - 1 degrees of freedom over D - 1."""

MOMENTS = Axis("MOMENTS", ("g", "omega", "gg", "gomega", "omegaomega"))
"""Products of g / |c|^2 and omega / |c|^2, the two scalars in which the theory's integrands are polynomials."""
INVERSE_POWERS = Axis("INVERSE_POWERS", ("zeroth", "first", "second"))
"""Powers of 1 / Y."""


_precision = sp.Symbol("precision", positive=True)
"""L (s + rho), written out by `prompts_by_context`."""


def _with_precision(precision: sp.Expr) -> ScalarLaw:
    context_norm = label_norm * signal * precision / s.N
    aligned = label_norm * signal + sp.sqrt(s.noise * label_norm * signal / s.N) * deviation
    return ScalarLaw(
        chi_squares={s.query_norm: s.D, signal: s.D, silent: s.N - 1, label_norm: s.N, across: s.D - 1},
        gaussians=(deviation,),
        scalars={
            s.query_norm: s.query_norm,
            s.task_norm: aligned**2 / context_norm + (s.D - 1) * across * (signal + s.noise) / precision,
            s.aligned: aligned,
            s.context_norm: context_norm,
            s.corner: (signal + s.noise) * label_norm,
        },
    )


def prompts_by_context() -> ScalarLaw:
    """The law of a prompt with its own Gaussian task, at context length N and label noise rho."""
    return _with_precision(s.D * (signal + s.noise) + (s.N - 1) * silent)


def task_moments() -> Matrix:
    """Means of MOMENTS over the task at given tokens and labels, in powers of 1 / Y; L (s + rho) stays a symbol."""
    law = _with_precision(_precision)
    scalars, inverse = law.scalars, sp.Symbol("inverse", positive=True)
    g, omega = (scalars[x] / scalars[s.context_norm] for x in (s.aligned, s.task_norm))
    rows = []
    for product in (g, omega, g * g, g * omega, omega * omega):
        mean = law.mean_over(product, (deviation, across))
        polynomial = sp.Poly(sp.expand(mean.subs(label_norm, 1 / inverse)), inverse)
        rows.append([sp.factor(polynomial.coeff_monomial(inverse**k)) for k in range(len(INVERSE_POWERS))])
    return Matrix.of(MOMENTS, INVERSE_POWERS, rows)


def programs() -> tuple[Program, ...]:
    """The law for the quadrature. T and Y multiply what depends on the other two factors."""
    law, opaque = prompts_by_context(), _with_precision(_precision)
    written_out = law.scalars[s.context_norm] / opaque.scalars[s.context_norm] * _precision
    factors = [factor for factor in law.chi_squares if factor is not across]
    products = [s.query_norm * law.scalars[s.context_norm], s.query_norm * law.scalars[s.corner] ** 2]
    a, corner = opaque.scalars[s.context_norm], opaque.scalars[s.corner]
    return (
        Program(
            name="context_degrees",
            summary="Degrees of freedom of the chi-square factors, tokens and labels first.",
            arguments=(s.D, s.N),
            outputs={factor.name: law.chi_squares[factor] for factor in factors},
        ),
        Program(
            name="context_powers",
            summary="Highest power of each factor in T |c|^2 and T l^2, what the integrands of the theory depend on.",
            arguments=(),
            outputs={factor.name: max(law.highest_power(factor, x) for x in products) for factor in factors},
        ),
        Program(
            name="context",
            summary="|c|^2 / Y, l^2 / (|c|^2 Y), and means over the task of products of g / |c|^2 and omega / |c|^2.",
            arguments=(signal, silent, s.D, s.N, s.noise),
            outputs={
                "norm": sp.factor(a / label_norm),
                "corner": sp.factor(corner**2 / a / label_norm),
                "moments": task_moments(),
            },
            definitions=((_precision, sp.simplify(written_out)),),
        ),
    )
