"""Training by gradient flow in the limit of fresh tasks: modes of the Hessian, averaged over its spectrum.

The energy is quadratic, so dW/dt = -grad E = h - (S + lambda_0) W falls into modes of S. At times t = D tau a mode of
D S with eigenvalue x has a rate x + lambda. In the limit the D^2 block is a regression with isotropic features, whose
second moment, best rule and remaining error are those of the residual of `fresh_tasks_limit`; so D S has the
Marchenko-Pastur law of ratio 1/alpha, which is checked against the saddle point, and its eigenbasis knows nothing of
the start, of the best rule and of the noise. The last row relaxes D times faster: at any tau > 0 its start is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import sympy as sp

from replica_icl.lowering.source import Program
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.theory import marchenko_pastur as law
from replica_icl.theory.fresh_tasks import derive_fresh_tasks
from replica_icl.theory.fresh_tasks_limit import (
    FreshTasksLimit,
    derive_fresh_tasks_limit,
    effective_ridge,
    response,
)

time = sp.Symbol("tau", nonnegative=True)
"""tau = t/D."""
place = law.place
"""x: eigenvalue of D S."""
start, signal, noise = sp.symbols("w_0 B eta", real=True)
"""Of one mode: its initial weight, its part of the best rule, and its part of the noise in the field."""
initial_variance = sp.Symbol("start", nonnegative=True)
"""sigma_0^2: D times the variance of an entry of the initial weights."""
feature_variance, best, floor = sp.symbols("variance best floor", positive=True)
"""Second moment of the features times D, the best rule as a multiple of the identity, and the error that it leaves."""
kept, learnt, per_mode = sp.symbols("kept learnt per_mode", nonnegative=True)
"""f, x g and x g^2: what a mode keeps of its start, what it has learnt, and what it has of the noise."""
inside = sp.Symbol("inside", nonnegative=True)
"""One on the continuous part of the spectrum, zero on its atom."""
unseen = sp.Symbol("unseen", nonnegative=True)
"""Share of prompts beyond the number of modes, 1 - 1/alpha where that is positive."""
MODE = (kept, learnt, per_mode, place, inside)


def mode() -> sp.Expr:
    """w(tau) of one mode: dw/dtau = x B + eta - (x + lambda) w from w_0."""
    w = sp.Function("w")
    flow = sp.Eq(w(time).diff(time), place * signal + noise - (place + s.lam) * w(time))
    return sp.dsolve(flow, w(time), ics={w(0): start}).rhs


def shares() -> dict[sp.Symbol, sp.Expr]:
    """kept, learnt and per_mode in x, lambda and tau: coefficients of the start, the rule and the noise."""
    solution = sp.expand(mode())
    of_start, of_signal, of_noise = (sp.simplify(solution.coeff(x)) for x in (start, signal, noise))
    return {kept: of_start, learnt: of_signal, per_mode: sp.simplify(place * of_noise**2)}


@dataclass(frozen=True)
class GradientFlow:
    """Errors and overlaps along the flow.

    Attributes:
        limit: the theory of fresh tasks in the limit, whose ground state the flow ends in.
    """

    limit: FreshTasksLimit

    @cached_property
    def _residual(self) -> sp.Expr:
        return self.limit.residual.subs(s.context_norm, 1 + self.limit.excess_value)

    @cached_property
    def regression(self) -> dict[sp.Symbol, sp.Expr]:
        """Feature variance, best rule and what it leaves, in nu and rho.

        Raises:
            ValueError: if D S does not have the Marchenko-Pastur law of that variance and ratio 1/alpha.
        """
        variance = self._residual.diff(s.q)
        rule_error = self._residual.subs(s.q, s.m**2)
        (rule,) = sp.solve(rule_error.diff(s.m), s.m)
        # v = tr (D S + lambda)^-1 / D^2 at the saddle, against the law's transform at lambda / variance.
        per_norm = self.limit.residual.diff(s.q)
        k_of_v = s.lam * response * per_norm / (1 - s.lam * response)  # v = k / (lambda (variance + k))
        saddle = sp.numer(sp.together(self.limit.ridge_polynomial.as_expr().subs(effective_ridge, k_of_v)))
        scaled = {law.spectrum.transform: per_norm * response, law.spectrum.distance: s.lam / per_norm}
        quadratic = law.resolvent_polynomial().as_expr().subs(scaled).subs(law.kappa, s.alpha)
        if sp.rem(sp.Poly(sp.expand(saddle), response), sp.Poly(quadratic, response)) != 0:
            raise ValueError("the features do not have the Marchenko-Pastur law")
        return {
            feature_variance: sp.factor(variance),
            best: sp.factor(rule),
            floor: sp.factor(rule_error.subs(s.m, rule)),
        }

    @property
    def distance(self) -> sp.Expr:
        """|W - best rule|^2 / D per mode, from independent start, rule and noise (of variance floor x / alpha)."""
        return initial_variance * kept**2 + best**2 * (1 - learnt) ** 2 + floor / s.alpha * per_mode

    @cached_property
    def observables(self) -> dict[str, sp.Expr]:
        """Averages over the spectrum. Residuals on training prompts are noise - features (W - best rule)."""
        fitted = 2 * floor / s.alpha * learnt  # of the noise, once; x per_mode = learnt^2 is its square
        training = sp.expand(place * self.distance - fitted).subs(place * per_mode, learnt**2)
        # Written with 1 - (1 - learnt)^2, and the share of noise that is never fitted on its own: all terms positive.
        smooth = place * (initial_variance * kept**2 + best**2 * (1 - learnt) ** 2)
        if sp.expand(training - smooth + floor / s.alpha * (1 - (1 - learnt) ** 2)) != 0:
            raise ValueError("the training error is not its sum of positive terms")
        noisy = unseen + Average(inside * (1 - learnt) ** 2, MODE) / s.alpha
        q = initial_variance * kept**2 + best**2 * learnt**2 + floor / s.alpha * per_mode
        return {
            "e_icl": floor + feature_variance * Average(self.distance, MODE),
            "train_error": floor * noisy + Average(smooth, MODE),
            "m": best * Average(learnt, MODE),
            "q": Average(q, MODE),
        }

    @property
    def end_points(self) -> dict[str, sp.Expr]:
        """e_icl without a ridge after infinite time: all modes with x > 0 have learnt, those of the atom never move."""
        inverse = {side: x.subs(law.kappa, s.alpha) / feature_variance for side, x in law.inverse_moment().items()}
        forgotten = (1 - s.alpha) * feature_variance * (best**2 + initial_variance)
        fluctuation = {side: feature_variance * floor / s.alpha * x for side, x in inverse.items()}
        return {
            "above": sp.factor(floor + fluctuation["above"]),
            "below": sp.factor(floor + fluctuation["below"]) + forgotten,
        }


def derive_gradient_flow(limit: FreshTasksLimit | None = None) -> GradientFlow:
    """Derive training by gradient flow (by default of linear attention)."""
    return GradientFlow(limit or derive_fresh_tasks_limit())


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The functions that numeric code runs; averages over the spectrum stay open."""
    covariance = (attention or linear_attention()).covariance
    theory = derive_gradient_flow(derive_fresh_tasks_limit(derive_fresh_tasks(covariance)))
    names = (feature_variance, best, floor)
    return (
        Program(
            name="regression",
            summary="D times the features' second moment, the best rule, and the error that it leaves.",
            arguments=(s.nu, s.noise),
            outputs={x.name: theory.regression[x] for x in names},
        ),
        Program(
            name="observables",
            summary="Errors and overlaps from what each mode has kept and learnt.",
            arguments=(s.alpha, *names, initial_variance, unseen),
            outputs=theory.observables,
        ),
        Program(
            name="end_points",
            summary="e_icl without a ridge after infinite time, for alpha above and below 1.",
            arguments=(s.alpha, *names, initial_variance),
            outputs=theory.end_points,
        ),
    )
