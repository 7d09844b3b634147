"""Gradient flow of fresh tasks in the thermodynamic limit: its observables as averages over the Hessian's spectrum.

dW/dt = -grad E from independent Gaussian weights of variance sigma_0^2 / D, at times t = D tau. A mode of D times the
Hessian at x + lam keeps f = exp(-(x + lam) tau) of its start and takes g = (1 - f) / (x + lam) of the field. What the
field and the start weigh each mode with is read off the limit theory of the ground state, which knows the same modes at
f = 0, g = 1 / (x + lam), for every ridge: with G(lam) = < 1 / (x + lam) > = beta_tilde V, a function A(lam) + B(lam) G
with polynomials A and B is the average of B(-x) / (x + lam) over the same law (A drops out, as everything decays). So

    m = < B_m(-x) / (x + lam) >,     E y^2 - (training error + lam q) = < B_q(-x) / (x + lam) >,

the second being the field's own spectrum, whose derivative in the ridge is -q. The start's weights know nothing of the
prompts. The last row of W relaxes D times faster; at tau > 0 nothing of its start is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import sympy as sp
from sympy.codegen.cfunctions import expm1

from replica_icl.lowering.source import Program
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.theory import task_spectrum as spectrum
from replica_icl.theory.fresh_tasks import derive_fresh_tasks
from replica_icl.theory.fresh_tasks_limit import (
    FreshTasksLimit,
    derive_fresh_tasks_limit,
    effective_ridge,
    excess,
    shrinkage,
    test_error,
)
from replica_icl.theory.marchenko_pastur import real_law

eigenvalue = sp.Symbol("x", nonnegative=True)
"""x, an eigenvalue of D times the Hessian without its ridge."""
start = sp.Symbol("sigma0_squared", nonnegative=True)
"""sigma_0^2, D times the variance of an initial weight."""
time = sp.Symbol("tau", nonnegative=True)
rate, passed = sp.symbols("rate passed", nonnegative=True)
"""x + lam, and (x + lam) tau."""
kept = sp.Symbol("kept", nonnegative=True)
"""f, what a mode keeps of its start."""
learnt = sp.Symbol("learnt", nonnegative=True)
"""x g, the share that a mode has learnt of what the prompts ask for."""
fed = sp.Symbol("fed", nonnegative=True)
"""x g^2, what a mode has of the noise in the field."""
seen = sp.Symbol("seen", nonnegative=True)
"""One where x > 0, zero on the modes that no prompt sees."""
MODE = (eigenvalue, kept, learnt, fed, seen)


@dataclass(frozen=True)
class GradientFlow:
    """What the flow's observables are averages of.

    Attributes:
        limit: theory of the ground state, for every ridge.
    """

    limit: FreshTasksLimit

    def _in_k(self, expression: sp.Expr) -> sp.Expr:
        """On the solution, in k and alpha alone."""
        order = {s.q: self.limit.q, test_error: self.limit.test_error}
        value = expression.subs(s.q, order[s.q]).subs(test_error, order[test_error]).subs(s.m, self.limit.m)
        value = value.subs(s.lam, effective_ridge * shrinkage).subs(shrinkage, 1 - self.limit._shrunk)
        return sp.cancel(sp.together(value.subs(excess, s.context_norm - 1)))

    @cached_property
    def _resolvent(self) -> tuple[sp.Expr, sp.Expr]:
        """lam and G in k."""
        return self._in_k(s.lam), self._in_k(self.limit.V * s.beta_tilde)

    @cached_property
    def scale(self) -> sp.Expr:
        """< x >; x over it has the law of the covariance of alpha D Gaussian vectors in D dimensions.

        Raises:
            ValueError: if it has another law.
        """
        ridge, transform = self._resolvent
        mean = sp.limit(sp.cancel(ridge * (1 - ridge * transform)), effective_ridge, sp.oo)
        law = spectrum.log_volume().diff(spectrum.transform).subs(spectrum.kappa, s.alpha)
        if sp.simplify(law.subs({spectrum.transform: mean * transform, spectrum.distance: ridge / mean})) != 0:
            raise ValueError("the Hessian has not the spectrum of isotropic features")
        return mean

    def _weights(self, value: sp.Expr) -> Sequence[sp.Expr]:
        """c_1, c_2 of value = < (c_1 x + c_2 x^2) / (x + lam) >, for a function of k.

        Raises:
            ValueError: if it is no such average.
        """
        ridge, transform = self._resolvent
        c = sp.symbols("c_0:3")
        # x^n / (x + lam) = x^(n - 1) - lam x^(n - 1) / (x + lam), with < 1 > = 1 and < x > = scale.
        powers = [transform, 1 - ridge * transform, self.scale - ridge * (1 - ridge * transform)]
        gap = sp.numer(sp.together(value - sum(x * y for x, y in zip(c, powers, strict=True))))
        found = sp.solve(sp.Poly(sp.expand(gap), effective_ridge).all_coeffs(), c, dict=True)
        if len(found) != 1 or set(found[0]) != set(c) or found[0][c[0]] != 0:
            raise ValueError(f"no spectral average of features and their field: {value}")
        return [_in_excess(found[0][x]) for x in c[1:]]

    @cached_property
    def label(self) -> sp.Expr:
        """E y^2 of a prompt: what no weights leave."""
        return self.limit.residual.subs({s.m: 0, s.q: 0})

    @cached_property
    def overlap_weight(self) -> sp.Expr:
        """m = weight < x g >.

        Raises:
            ValueError: if m is no such average.
        """
        first, second = self._weights(self._in_k(s.m))
        if second != 0:
            raise ValueError("the overlap with the tasks is more than a multiple of what is learnt")
        return first

    @cached_property
    def field_weights(self) -> Sequence[sp.Expr]:
        """Noise and signal in the field: its square in a mode is (noise + signal x) x.

        Raises:
            ValueError: if the derivative of its average in the ridge is not -q.
        """
        energy = self._in_k(self.limit.ground_observables["train_error"] + s.lam * s.q)
        ridge, _ = self._resolvent
        if sp.simplify(energy.diff(effective_ridge) / ridge.diff(effective_ridge) - self._in_k(s.q)) != 0:
            raise ValueError("the ground-state energy is not stationary in the weights")
        return self._weights(sp.cancel(self.label - energy))

    @cached_property
    def m(self) -> sp.Expr:
        return self.overlap_weight * Average(learnt, MODE)

    @cached_property
    def q(self) -> sp.Expr:
        """From the start, signal and noise; x (noise + signal x) g^2 in terms of what is fed and learnt."""
        noise, signal = self.field_weights
        return start * Average(kept**2, MODE) + signal * Average(learnt**2, MODE) + noise * Average(fed, MODE)

    @cached_property
    def e_icl(self) -> sp.Expr:
        """The residual at m and q, as a sum of terms that are positive: what is not learnt yet is 1 - x g.

        Raises:
            ValueError: if that is not where a mode's error is least.
        """
        noise, signal = self.field_weights
        per_q = self.limit.residual.diff(s.q)
        of_mode = self.limit.residual.subs({s.m: self.overlap_weight * learnt, s.q: signal * learnt**2})
        of_mode = of_mode.subs(s.context_norm, 1 + excess)
        if sp.simplify(of_mode.diff(learnt).subs(learnt, 1)) != 0:
            raise ValueError("a mode that has learnt everything has not the least error")
        floor = _in_excess(of_mode.subs(learnt, 1))
        missing = sp.factor(of_mode.diff(learnt, 2) / 2) * Average((1 - learnt) ** 2, MODE)
        return floor + missing + per_q * (start * Average(kept**2, MODE) + noise * Average(fed, MODE))

    @cached_property
    def train_error(self) -> sp.Expr:
        """E y^2 - 2 h.W + W.S W, as a sum of positive terms: 2 g - x g^2 is (1 - (1 - x g)^2) / x where x > 0.

        What is left of E y^2 when all that prompts ask for is learnt is the noise of prompts beyond the modes.
        """
        noise, signal = self.field_weights
        atom = real_law().atom.subs(spectrum.kappa, s.alpha)
        (share, few), (_, _) = atom.args
        beyond = [_in_excess(self.label - signal * self.scale - noise * (1 - x)) for x in (share, sp.S.Zero)]
        left = sp.Piecewise((beyond[0], few), (beyond[1], True))
        of_noise, of_signal = (Average(x * (1 - learnt) ** 2, MODE) for x in (seen, eigenvalue))
        return left + noise * of_noise + signal * of_signal + start * Average(eigenvalue * kept**2, MODE)

    def end_point(self) -> dict[str, sp.Expr]:
        """e_icl after infinite time without a ridge, on both sides of alpha = 1; unseen modes keep their start."""
        ends = {side: sp.apart(_in_excess(found["e_icl"]), s.alpha) for side, found in self.limit.ridgeless().items()}
        atom = real_law().atom.args[0][0].subs(spectrum.kappa, s.alpha)
        unseen = self.limit.residual.diff(s.q) * start * atom
        return {"above": ends["alpha > 1"], "below": ends["alpha < 1"] + unseen}


def _in_excess(expression: sp.Expr) -> sp.Expr:
    """In delta = |c|^2 - 1, which is not lost beside one in long contexts."""
    return sp.factor(expression.subs(s.context_norm, 1 + excess))


def mode_functions() -> dict[sp.Symbol, sp.Expr]:
    """What a mode keeps, has learnt and is fed, in x, x + lam and (x + lam) tau, without cancellation at early times.

    Raises:
        ValueError: if they do not solve dw/dtau = h - (x + lam) w.
    """
    field, begin = sp.symbols("h w_0", real=True)
    taken = -expm1(-passed) / rate
    weight = (sp.exp(-passed) * begin + taken * field).subs(passed, rate * time)
    balance = (weight.diff(time) - field + rate * weight).rewrite(sp.exp)
    if sp.simplify(balance) != 0 or sp.simplify(weight.subs(time, 0).rewrite(sp.exp) - begin) != 0:
        raise ValueError("the weight of a mode does not follow the gradient")
    return {kept: sp.exp(-passed), learnt: eigenvalue * taken, fed: eigenvalue * taken**2}


def derive_gradient_flow(limit: FreshTasksLimit | None = None) -> GradientFlow:
    """Derive the flow's observables from the limit theory (by default of linear attention)."""
    return GradientFlow(limit or derive_fresh_tasks_limit())


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The functions that the average over the spectrum needs."""
    finite = derive_fresh_tasks((attention or linear_attention()).covariance)
    theory = derive_gradient_flow(derive_fresh_tasks_limit(finite))
    norm = ((excess, theory.limit.excess_value), (s.context_norm, 1 + excess))
    return (
        Program(
            name="spectrum",
            summary="Mean eigenvalue of D times the Hessian; over it, the law is that of alpha D vectors' covariance.",
            arguments=(s.nu, s.noise),
            definitions=norm,
            outputs={"scale": theory.scale},
        ),
        Program(
            name="mode",
            summary="What a mode keeps of its start, has learnt, and is fed of the noise.",
            arguments=(eigenvalue, rate, passed),
            outputs={x.name: value for x, value in mode_functions().items()},
        ),
        Program(
            name="observables",
            summary="Observables of the flow from its modes, averaged over the spectrum.",
            arguments=(s.alpha, s.nu, s.noise, start),
            definitions=norm,
            outputs={name: getattr(theory, name) for name in ("e_icl", "train_error", "m", "q")},
        ),
        Program(
            name="end_point",
            summary="e_icl after infinite time without a ridge, for alpha above and below one.",
            arguments=(s.alpha, s.nu, s.noise, start),
            definitions=norm,
            outputs=theory.end_point(),
        ),
    )
