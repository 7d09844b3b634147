"""The law of one prompt's scalars at finite D and N, exact, as functions of independent factors.

Given the task, the labels are iid N(0, omega + rho), so |y|^2 is a chi-square; given the labels, the token components
along the task are Gaussian around their regression on the labels; and the rest of the context vector is isotropic.
That is the 2 x 2 Wishart law of (t.t, t.eps, eps.eps), t the tokens along the task, in the variables that the residual
needs. Compared with the exact Wick moments (`symbolic.moments`) and with token-level prompts by tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy as sp

from replica_icl.lowering.source import Program
from replica_icl.symbolic import symbols as s

label_norm = sp.Symbol("Y", positive=True)
"""|y|^2 / (N (omega + rho)), a chi-square of N degrees of freedom over N."""
transverse = sp.Symbol("h", positive=True)
"""What the context vector has orthogonal to the task, a chi-square of D - 1 degrees of freedom over D - 1."""
deviation = sp.Symbol("xi", real=True)
"""Deviation of the context along the task from its regression on the labels, N(0, 1); absent without label noise."""


@dataclass(frozen=True)
class ScalarLaw:
    """Independent factors, and the prompt's scalars as expressions in them.

    Attributes:
        chi_squares: factor -> degrees of freedom; each is chi2_dof / dof, of mean one.
        gaussians: standard normal factors.
        scalars: each of `symbols.SCALARS` in the factors, D, N and rho.
    """

    chi_squares: Mapping[sp.Symbol, sp.Expr]
    gaussians: tuple[sp.Symbol, ...]
    scalars: Mapping[sp.Symbol, sp.Expr]

    def highest_power(self, factor: sp.Symbol, expression: sp.Expr) -> sp.Expr:
        """Highest power of `factor` in an expression in the factors."""
        terms = sp.Add.make_args(sp.expand(expression))
        return max(term.as_powers_dict().get(factor, sp.S.Zero) for term in terms)

    def mean_over(self, expression: sp.Expr, factors: tuple[sp.Symbol, ...]) -> sp.Expr:
        """Exact average over some of the factors of an expression in all of them, a polynomial in those."""
        normal = [factor for factor in factors if factor in self.gaussians]
        total = sp.S.Zero
        for term in sp.Add.make_args(sp.expand(expression)):
            powers = term.as_powers_dict()
            if any(powers.get(factor, 0) % 2 for factor in normal):
                continue
            value = term.subs(dict.fromkeys(factors, 1))
            value *= sp.prod([sp.factorial2(powers.get(factor, 0) - 1) for factor in normal])
            for factor in (x for x in factors if x in self.chi_squares):
                dof = self.chi_squares[factor]
                value *= sp.prod([(dof + 2 * i) / dof for i in range(powers.get(factor, 0))])
            total += value
        return total

    def moment(self, expression: sp.Expr) -> sp.Expr:
        """Exact average of a polynomial in the scalars, a rational function of D, N and rho."""
        in_factors = expression.subs(self.scalars, simultaneous=True)
        return sp.factor(self.mean_over(in_factors, (*self.chi_squares, *self.gaussians)))


def fresh_task_prompts() -> ScalarLaw:
    """The law of a prompt with its own Gaussian task, at context length N and label noise rho."""
    labels = (s.task_norm + s.noise) * label_norm
    along = sp.sqrt(s.task_norm) * label_norm + sp.sqrt(s.noise * label_norm / s.N) * deviation
    return ScalarLaw(
        chi_squares={s.query_norm: s.D, s.task_norm: s.D, label_norm: s.N, transverse: s.D - 1},
        gaussians=(deviation,),
        scalars={
            s.query_norm: s.query_norm,
            s.task_norm: s.task_norm,
            s.aligned: sp.sqrt(s.task_norm) * along,
            s.context_norm: along**2 + labels * (s.D - 1) * transverse / s.N,
            s.corner: labels,
        },
    )


def programs() -> tuple[Program, ...]:
    """The law for the quadrature: degrees of freedom of its factors, and the scalars at given factors."""
    law = fresh_task_prompts()
    return (
        Program(
            name="degrees_of_freedom",
            summary="Degrees of freedom of the chi-square factors of the prompt law.",
            arguments=(s.D, s.N),
            outputs={factor.name: dof for factor, dof in law.chi_squares.items()},
        ),
        Program(
            name="powers",
            summary="Highest power of each chi-square factor in T |c|^2, what the integrands of the theory depend on.",
            arguments=(),
            outputs={
                factor.name: law.highest_power(factor, law.scalars[s.query_norm] * law.scalars[s.context_norm])
                for factor in law.chi_squares
            },
        ),
        Program(
            name="scalars",
            summary="The scalars of a prompt at given factors.",
            arguments=(*law.chi_squares, *law.gaussians, s.D, s.N, s.noise),
            outputs={scalar.name: value for scalar, value in law.scalars.items()},
        ),
    )
