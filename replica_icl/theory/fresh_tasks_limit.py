"""Thermodynamic limit of fresh tasks: D -> infinity at fixed alpha = P/D^2, nu = N/D, lam = lambda_0 D, rho.

The prompt law concentrates, the last row decouples, and the saddle-point equations reduce to one scalar equation for
the effective ridge k. Every result below is computed from the finite-size free entropy of `fresh_tasks`; the limit is
stated in arXiv:2405.11751 (kappa -> infinity) in other variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import sympy as sp

from replica_icl.lowering.source import Axis, Matrix, Program
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import concentrate
from replica_icl.symbolic.moments import concentrated_means
from replica_icl.symbolic.saddle import SaddlePoint, stable_positive_root
from replica_icl.theory.fresh_tasks import SIDES, FreshTasks, balance, derive_fresh_tasks

excess = sp.Symbol("delta", positive=True)
"""delta = |c|^2 - 1 in the limit, (1 + rho)/nu: what finite contexts add to the context norm."""
response = sp.Symbol("v", positive=True)
"""v = beta_tilde V: the response to a field, finite in the ground state."""
shrinkage = sp.Symbol("s", positive=True)
"""s = 1 / (1 + b chi): training error = e_icl s^2."""
effective_ridge = sp.Symbol("k", positive=True)
"""k = lam / s."""
test_error = sp.Symbol("e", positive=True)
"""e = e_icl."""

LIMIT_PARAMETERS = (s.m, s.q, s.V)


@dataclass(frozen=True)
class FreshTasksLimit:
    """The limit theory: free entropy density, saddle-point equations and their closed-form solution.

    Attributes:
        finite: the finite-size theory that the limit is taken of.
        scalars: where the prompt law concentrates; |c|^2 stays a symbol, with value `context_norm`.
    """

    finite: FreshTasks
    scalars: Mapping[sp.Symbol, sp.Expr]

    @cached_property
    def context_norm(self) -> sp.Expr:
        """|c|^2 in the limit, 1 + delta."""
        return 1 + excess

    @cached_property
    def excess_value(self) -> sp.Expr:
        """delta in the control parameters."""
        return sp.factor(self.scalars[s.context_norm] - 1)

    def _concentrated(self, expression: sp.Expr) -> sp.Expr:
        """`expression` under the concentrated law, in intensive variables, as D -> infinity."""
        last_row = {s.u: s.u / s.D, s.V_u: s.V_u / s.D}
        intensive = {
            s.P: s.alpha * s.D**2,
            s.beta: s.beta_tilde * s.D**2,
            s.ridge: s.lam / s.D,
            s.N: s.nu * s.D,
        }
        scalars = {**self.scalars, s.context_norm: s.context_norm}
        value = concentrate(expression, scalars).subs(s.inverse_scale, s.beta / s.P)
        value = value.subs(last_row, simultaneous=True).subs(intensive, simultaneous=True)
        return sum((sp.limit(term, s.D, sp.oo) for term in sp.Add.make_args(sp.expand(value))), sp.S.Zero)

    @cached_property
    def entropic(self) -> sp.Expr:
        """Entropic part of lim log Z / D^2, without the constant (1 + log(2 pi / D)) / 2 of the weights' volume."""
        prior = self.finite.entropic
        limit = self._concentrated((prior.free_entropy() - prior.constant()) / s.D**2)
        return sp.collect(limit, [1 / s.V, s.lam * s.beta_tilde], func=sp.factor)

    @cached_property
    def energetic(self) -> sp.Expr:
        """Energetic part of lim log Z / D^2."""
        limit = self._concentrated(self.finite.energetic.free_entropy() / s.D**2)
        logarithm, rest = limit.as_independent(sp.log)[::-1]
        return logarithm + sp.factor(rest)

    @property
    def saddle(self) -> SaddlePoint:
        """lim log Z / D^2 at finite beta_tilde, in (m, q, V)."""
        return SaddlePoint(self.entropic + self.energetic, LIMIT_PARAMETERS)

    @cached_property
    def ground_state(self) -> SaddlePoint:
        """lim_{beta -> infinity} of the free entropy over beta_tilde at V = v / beta_tilde: minus the ground energy."""
        scaled = (self.saddle.free_entropy / s.beta_tilde).subs(s.V, response / s.beta_tilde)
        terms = sp.Add.make_args(sp.expand(sp.expand_log(scaled, force=True)))
        limit = sum((sp.limit(term, s.beta_tilde, sp.oo) for term in terms), sp.S.Zero)
        return SaddlePoint(limit, (s.m, s.q, response))

    @cached_property
    def residual(self) -> sp.Expr:
        """R = C_ab in the limit: the squared residual of the mean weights on a new prompt, e_icl."""
        return self._concentrated(self.finite.observables["e_icl"])

    @cached_property
    def fluctuation(self) -> sp.Expr:
        """chi in the limit: the thermal variance of a residual on a new prompt."""
        return sp.factor(self._concentrated(self.finite.observables["e_gibbs"]) - self.residual)

    # Elimination: V through s by definition, s through k by d/dq, then m, q and e are rational in k.

    @cached_property
    def _V_of_shrinkage(self) -> sp.Expr:
        """V solving s (1 + b chi(V)) = 1."""
        b = s.beta_tilde / s.alpha
        (V,) = sp.solve(shrinkage * (1 + b * self.fluctuation) - 1, s.V)
        return V

    @cached_property
    def shrinkage_polynomial(self) -> sp.Poly:
        """The quadratic for s that d/dq = 0 becomes; beta_tilde drops out."""
        balance = self.saddle.free_entropy.diff(s.q).subs(s.V, self._V_of_shrinkage)
        return _without_content(sp.numer(sp.together(balance)), shrinkage)

    @cached_property
    def ridge_polynomial(self) -> sp.Poly:
        """The quadratic for the effective ridge k = lam / s."""
        in_k = self.shrinkage_polynomial.as_expr().subs(shrinkage, s.lam / effective_ridge)
        return _without_content(sp.numer(sp.together(in_k)), effective_ridge)

    @cached_property
    def _shrunk(self) -> sp.Expr:
        """1 - s in k alone: the quadratic for k read as k = lam + (1 - s) k."""
        (lam,) = sp.solve(self.ridge_polynomial.as_expr(), s.lam)
        return sp.factor(1 - lam / effective_ridge)

    def _in_k(self, expression: sp.Expr) -> sp.Expr:
        """`expression` on the solution, as a rational function of k (lam is eliminated)."""
        return sp.factor(sp.simplify(expression.subs(s.V, self._V_of_shrinkage).subs(shrinkage, 1 - self._shrunk)))

    @cached_property
    def shrinkage(self) -> sp.Expr:
        """s in closed form."""
        return stable_positive_root(self.shrinkage_polynomial, grouped_by=s.context_norm)

    @cached_property
    def effective_ridge(self) -> sp.Expr:
        """k in closed form."""
        return stable_positive_root(self.ridge_polynomial, grouped_by=s.context_norm)

    @cached_property
    def V(self) -> sp.Expr:
        """V in k and s, 1 / (beta_tilde s (a + k))."""
        return sp.factor((self._V_of_shrinkage * shrinkage).subs(shrinkage, 1 - self._shrunk)) / shrinkage

    @cached_property
    def m(self) -> sp.Expr:
        """Overlap m in k, from d/dm."""
        (m,) = sp.solve(self.saddle.equations[s.m], s.m)
        return self._in_k(m)

    @cached_property
    def q(self) -> sp.Expr:
        """Self-overlap q in m, k and e, from d/dV - d/dq: m^2 and a positive multiple of e."""
        pull = self.energetic.diff(s.V)
        per_error = sp.simplify(pull.diff(s.q) / self.residual.diff(s.q))
        at_zero_error = sp.simplify(pull - per_error * self.residual)
        stationary = self.entropic.diff(s.V) + at_zero_error + per_error * test_error
        (q,) = sp.solve(stationary - self.saddle.equations[s.q], s.q)
        return s.m**2 + self._in_k(sp.expand(q - s.m**2))

    @cached_property
    def replicon(self) -> sp.Expr:
        """Replicon eigenvalue in k and s, as a sum of positive terms."""
        in_k = self._in_k(self._concentrated(self.finite.replicon[0, 0]))
        return shrinkage + sp.factor(in_k - (1 - self._shrunk))

    @cached_property
    def test_error(self) -> sp.Expr:
        """e_icl in k: e = R(m, q(e)) solved for e, numerator and denominator sums of positive terms.

        Raises:
            ValueError: if the denominator is not the replicon eigenvalue (both measure the same response).
        """
        per_error = self.residual.diff(s.q) * self.q.diff(test_error)
        if sp.simplify(1 - per_error - self.replicon.subs(shrinkage, 1 - self._shrunk)) != 0:
            raise ValueError("the denominator of e_icl is not the replicon eigenvalue")
        numerator = self.residual.subs(s.q, self.q.subs(test_error, 0))
        (best,) = sp.solve(numerator.diff(s.m), s.m)
        floor = sp.together(numerator.subs(s.m, best).subs(s.context_norm, 1 + excess))
        floor = sp.expand(sp.numer(floor)) / sp.denom(floor)
        away = numerator.diff(s.m, 2) / 2 * sp.factor(self.m - best) ** 2
        return (floor + away) / self.replicon

    @cached_property
    def ground_observables(self) -> dict[str, sp.Expr]:
        """Observables of the mean weights on the solution, in (m, q, k, s, e); none depends on temperature."""
        finite = self.finite.observables
        left = sp.simplify(self._concentrated(finite["train_error"]) / self.residual)
        return {
            "e_icl": test_error,
            "train_error": test_error * sp.simplify(left.subs(s.V, self._V_of_shrinkage)),
            "contrast": self._concentrated(finite["contrast"]),
        }

    @cached_property
    def thermal_observables(self) -> dict[str, sp.Expr]:
        """Observables of one Gibbs sample at finite beta_tilde, in (m, q, V, s, e), and lim log Z / D^2."""
        finite = self.finite.observables
        own = self._concentrated(finite["train_gibbs"]) - self._concentrated(finite["train_error"])
        left = sp.simplify(sp.simplify(own / self.fluctuation).subs(s.V, self._V_of_shrinkage))
        return {
            "e_gibbs": test_error + self.fluctuation,
            "train_gibbs": self.ground_observables["train_error"] + self.fluctuation * left,
            "free_entropy": self.saddle.free_entropy,
        }

    def ridgeless(self) -> dict[str, dict[str, sp.Expr]]:
        """lam -> 0 on both sides of alpha = 1: k, s, m, e_icl and the replicon, in closed form."""
        distance = sp.Symbol("t", positive=True)
        sides = {"alpha > 1": (1 + distance, s.alpha - 1), "alpha < 1": (1 / (1 + distance), 1 / s.alpha - 1)}
        results = {}
        for side, (value, back) in sides.items():
            roots = {
                symbol: sp.simplify(root.subs(s.lam, 0).subs(s.alpha, value)).subs(distance, back)
                for symbol, root in ((effective_ridge, self.effective_ridge), (shrinkage, self.shrinkage))
            }
            found = {"k": roots[effective_ridge], "s": roots[shrinkage]}
            for name, expression in (("m", self.m), ("replicon", self.replicon), ("e_icl", self.test_error)):
                found[name] = expression.subs(roots)
            results[side] = {name: sp.factor(x.subs(excess, s.context_norm - 1)) for name, x in found.items()}
        return results


def _without_content(expression: sp.Expr, generator: sp.Symbol) -> sp.Poly:
    """`expression` as a polynomial with a positive leading coefficient and no common factor."""
    polynomial = sp.Poly(sp.expand(expression), generator)
    content = sp.gcd_list(polynomial.all_coeffs())
    polynomial = sp.Poly(sp.cancel(polynomial.as_expr() / content), generator)
    return polynomial if polynomial.LC().is_positive else -polynomial


def derive_fresh_tasks_limit(finite: FreshTasks | None = None) -> FreshTasksLimit:
    """Take the thermodynamic limit of the theory of fresh tasks (by default of linear attention's)."""
    return FreshTasksLimit(finite or derive_fresh_tasks(), concentrated_means())


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The functions that the numerical solver runs, from the derived expressions."""
    theory = derive_fresh_tasks_limit(derive_fresh_tasks((attention or linear_attention()).covariance))
    controls = (s.alpha, s.nu, s.lam, s.noise)
    context = ((excess, theory.excess_value), (s.context_norm, 1 + excess))
    solution = Program(
        name="solution",
        summary="Closed-form saddle point: k, s, the order parameters, and observables of the mean weights.",
        arguments=controls,
        definitions=(
            *context,
            (effective_ridge, theory.effective_ridge),
            (shrinkage, theory.shrinkage),
            (test_error, theory.test_error),
            (s.m, theory.m),
            (s.q, theory.q),
        ),
        outputs={
            "k": effective_ridge,
            "s": shrinkage,
            "m": s.m,
            "q": s.q,
            "v": theory.V * s.beta_tilde,
            "replicon": theory.replicon,
            **theory.ground_observables,
        },
    )
    stationarity = Program(
        name="stationarity",
        summary="Per order parameter: what is left of its saddle-point equation, and the sum of the terms' sizes.",
        arguments=(s.m, s.q, effective_ridge, shrinkage, *controls),
        definitions=context,
        outputs={"balances": _balances(theory)},
    )
    thermal = Program(
        name="thermal",
        summary="Observables of a Gibbs sample and lim log Z / D^2 (without the volume constant) at finite beta_tilde.",
        arguments=(s.m, s.q, response, shrinkage, test_error, *controls, s.beta_tilde),
        definitions=(*context, (s.V, response / s.beta_tilde)),
        outputs={"V": s.V, **theory.thermal_observables},
    )
    volume = theory.finite.entropic.blocks[0].volume_constant()
    log_partition = Program(
        name="log_partition",
        summary="log Z at leading order in D, volume constant included.",
        arguments=(s.D, _DENSITY),
        outputs={"log_Z": s.D**2 * _DENSITY + volume},
    )
    return solution, stationarity, thermal, log_partition


_DENSITY = sp.Symbol("free_entropy", real=True)


def _balances(theory: FreshTasksLimit) -> Matrix:
    """Ground-state saddle-point equations in (m, q, k, s), their terms of order one even where v diverges.

    Each equation is multiplied by a power of v and then v is written as 1 / (s (a + k)), lam as k s: so the ridgeless
    limit below alpha = 1, where v is infinite, has the same equations. That k s is lam is one of the balances.
    """
    v = theory.V * s.beta_tilde
    balances: dict[str, tuple[sp.Expr, sp.Expr]] = {}
    for symbol, equation in theory.ground_state.equations.items():
        power = 2 if symbol is response else 1
        terms = [
            sp.factor(sp.cancel((term * response**power).subs(response, v).subs(s.lam, effective_ridge * shrinkage)))
            for term in sp.Add.make_args(equation)
        ]
        balances[symbol.name] = balance(terms)
    product = effective_ridge * shrinkage
    balances["lam"] = product - s.lam, product + s.lam
    return Matrix.of(Axis("EQUATIONS", tuple(balances)), SIDES, balances.values())
